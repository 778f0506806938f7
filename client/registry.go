package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/tare-engine/tare/api"
)

// RegistryLogin has the engine try credentials at a registry. The answer may
// bear a token that stands for the password from then on.
func (c *Client) RegistryLogin(ctx context.Context, auth registry.AuthConfig) (registry.AuthResponse, error) {
	return post[registry.AuthResponse](ctx, c, "/auth", nil, auth)
}

// ImagePullOptions say what is pulled.
type ImagePullOptions struct {
	Repo     string
	Tag      string               // or a digest; "" is all tags
	Platform string               // os[/arch[/variant]], which the engine reads; "" is its own
	Auth     *registry.AuthConfig // nil: none
}

// ImagePull has the engine fetch an image from its registry, and reports how it
// gets on.
func (c *Client) ImagePull(ctx context.Context, o ImagePullOptions, report func(jsonstream.Message) error) error {
	q := url.Values{"fromImage": {o.Repo}}
	set(q, "tag", o.Tag)
	set(q, "platform", o.Platform)
	return c.transfer(ctx, "/images/create", q, nil, o.Auth, report)
}

// ImagePush has the engine send an image to its registry, those of all tags if
// o.Tag is empty, and reports how it gets on.
func (c *Client) ImagePush(ctx context.Context, o api.PushOptions, report func(jsonstream.Message) error) error {
	if o.Platform != nil {
		if err := c.require(ctx, "platform", 46); err != nil {
			return err
		}
	}
	q, err := platformQuery(o.Platform)
	if err != nil {
		return err
	}
	if q == nil {
		q = url.Values{}
	}
	set(q, "tag", o.Tag)
	if o.Auth == nil { // older engines refuse a push without the header
		o.Auth = &registry.AuthConfig{}
	}
	return c.transfer(ctx, "/images/"+refPath(o.Repo)+"/push", q, nil, o.Auth, report)
}

// require refuses what engines before API version 1.minor would ignore.
func (c *Client) require(ctx context.Context, what string, minor int) error {
	if err := c.negotiate(ctx); err != nil {
		return err
	}
	if v := c.Version(); v.Before(minor) {
		return fmt.Errorf("%q requires API version 1.%d, but the engine's is %s", what, minor, v)
	}
	return nil
}

// transfer is a request whose answer tells of its progress.
func (c *Client) transfer(ctx context.Context, path string, q url.Values, body any, auth *registry.AuthConfig, report func(jsonstream.Message) error) error {
	h, err := authHeader(auth)
	if err != nil {
		return err
	}
	resp, err := c.do(ctx, call{method: http.MethodPost, path: path, query: q, body: body, header: h})
	if err != nil {
		return err
	}
	if err = messages(resp.Body, report); err != nil {
		return c.wrap(ctx, err)
	}
	return nil
}

// ImageSearch has the engine ask a registry for images.
func (c *Client) ImageSearch(ctx context.Context, o api.SearchOptions) ([]registry.SearchResult, error) {
	q := filterQuery(o.Filters)
	q.Set("term", o.Term)
	if o.Limit != 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	return asking[[]registry.SearchResult](ctx, c, "/images/search", q, o.Auth)
}

// DistributionInspect has the engine tell what a registry has under a name.
func (c *Client) DistributionInspect(ctx context.Context, ref string, auth *registry.AuthConfig) (registry.DistributionInspect, error) {
	return asking[registry.DistributionInspect](ctx, c, "/distribution/"+refPath(ref)+"/json", nil, auth)
}

func asking[T any](ctx context.Context, c *Client, path string, q url.Values, auth *registry.AuthConfig) (out T, err error) {
	h, err := authHeader(auth)
	if err != nil {
		return out, err
	}
	return fetch[T](ctx, c, call{method: http.MethodGet, path: path, query: q, header: h})
}

// authHeader carries credentials; without any there is none.
func authHeader(auth *registry.AuthConfig) (http.Header, error) {
	if auth == nil {
		return nil, nil
	}
	text, err := json.Marshal(auth)
	if err != nil {
		return nil, err
	}
	return http.Header{registry.AuthHeader: {base64.URLEncoding.EncodeToString(text)}}, nil
}
