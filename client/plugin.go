package client

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/plugin"
	"github.com/moby/moby/api/types/registry"

	"github.com/tare-engine/tare/api"
)

// PluginList lists the plugins that the engine runs itself.
func (c *Client) PluginList(ctx context.Context, f api.Filters) (plugin.ListResponse, error) {
	return get[plugin.ListResponse](ctx, c, "/plugins", filterQuery(f))
}

// PluginInspectRaw describes a plugin in the engine's own words.
func (c *Client) PluginInspectRaw(ctx context.Context, name string) (json.RawMessage, error) {
	return get[json.RawMessage](ctx, c, "/plugins/"+segment(name)+"/json", nil)
}

// PluginEnable starts a plugin, which has so many seconds to answer.
func (c *Client) PluginEnable(ctx context.Context, name string, timeout int) error {
	return c.post(ctx, "/plugins/"+segment(name)+"/enable", url.Values{"timeout": {strconv.Itoa(timeout)}}, nil)
}

// PluginDisable stops a plugin, by force one that is in use.
func (c *Client) PluginDisable(ctx context.Context, name string, force bool) error {
	q := url.Values{}
	setBool(q, "force", force)
	return c.post(ctx, "/plugins/"+segment(name)+"/disable", q, nil)
}

// PluginRemove removes a plugin, by force one that is enabled.
func (c *Client) PluginRemove(ctx context.Context, name string, force bool) error {
	q := url.Values{}
	setBool(q, "force", force)
	return c.remove(ctx, "/plugins/"+segment(name), q)
}

// PluginSet changes settings, each KEY=VALUE.
func (c *Client) PluginSet(ctx context.Context, name string, settings []string) error {
	return c.post(ctx, "/plugins/"+segment(name)+"/set", nil, settings)
}

// PluginCreate makes a plugin of an archive with config.json and rootfs/.
func (c *Client) PluginCreate(ctx context.Context, name string, archive io.Reader) error {
	return c.tell(ctx, call{
		method: http.MethodPost, path: "/plugins/create", query: url.Values{"name": {name}}, body: archive,
		header: http.Header{"Content-Type": {"application/x-tar"}},
	})
}

// PluginPush has the engine send a plugin to its registry, and reports how it
// gets on.
func (c *Client) PluginPush(ctx context.Context, name string, auth *registry.AuthConfig, report func(jsonstream.Message) error) error {
	if auth == nil { // as with images
		auth = &registry.AuthConfig{}
	}
	return c.transfer(ctx, "/plugins/"+segment(name)+"/push", nil, nil, auth, report)
}

// PluginPullOptions are those of an installation or an upgrade.
type PluginPullOptions struct {
	Remote     string            // reference in the registry
	Name       string            // here; "": as there
	Privileges plugin.Privileges // that the user grants
	Auth       *registry.AuthConfig
}

// PluginPrivileges tells what a plugin in a registry wants to be allowed.
func (c *Client) PluginPrivileges(ctx context.Context, remote string, auth *registry.AuthConfig) (plugin.Privileges, error) {
	return asking[plugin.Privileges](ctx, c, "/plugins/privileges", url.Values{"remote": {remote}}, auth)
}

// PluginPull has the engine fetch a plugin, which is not enabled then.
func (c *Client) PluginPull(ctx context.Context, o PluginPullOptions, report func(jsonstream.Message) error) error {
	q := url.Values{"remote": {o.Remote}}
	set(q, "name", o.Name)
	return c.transfer(ctx, "/plugins/pull", q, o.Privileges, o.Auth, report)
}

// PluginUpgrade has the engine fetch another version of the plugin o.Name.
func (c *Client) PluginUpgrade(ctx context.Context, o PluginPullOptions, report func(jsonstream.Message) error) error {
	return c.transfer(ctx, "/plugins/"+segment(o.Name)+"/upgrade", url.Values{"remote": {o.Remote}}, o.Privileges, o.Auth, report)
}
