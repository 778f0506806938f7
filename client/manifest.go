package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/tare-engine/tare/api"
)

// ErrNoManifests says that an engine does not read and push manifests for others.
var ErrNoManifests = errors.New("the engine is no tared: it has no " + api.ManifestPath)

// RegistryManifest has the engine read a manifest or an index from its registry.
func (c *Client) RegistryManifest(ctx context.Context, o api.ManifestOptions) (api.RegistryManifest, error) {
	q := url.Values{"ref": {o.Ref}}
	setBool(q, "insecure", o.Insecure)
	setBool(q, "platform", o.Platform)
	setBool(q, "members", o.Members)
	m, err := asking[api.RegistryManifest](ctx, c, api.ManifestPath, q, o.Auth)
	return m, noManifests(err)
}

// ManifestPush has the engine put an index into a repository, and reports what is
// done.
func (c *Client) ManifestPush(ctx context.Context, o api.ManifestPush, auth *registry.AuthConfig, report func(jsonstream.Message) error) error {
	h, err := authHeader(auth)
	if err != nil {
		return err
	}
	resp, err := c.do(ctx, call{method: http.MethodPost, path: api.ManifestPath, body: o, header: h})
	if err != nil {
		return noManifests(err)
	}
	if err = messages(resp.Body, report); err != nil {
		return c.wrap(ctx, err)
	}
	return nil
}

func noManifests(err error) error {
	if noRoute(err) {
		return ErrNoManifests
	}
	return err
}
