package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/tare-engine/tare/api"
)

// ImageDiff reports each path in which an image's files differ from another's,
// then the total.
func (c *Client) ImageDiff(ctx context.Context, from, to string, report func(api.ImageDiffMessage) error) error {
	resp, err := c.do(ctx, call{method: http.MethodGet, path: api.ImageDiffPath, query: url.Values{"from": {from}, "to": {to}}})
	if err != nil {
		return err
	}
	return c.wrap(ctx, documents(resp.Body, report))
}

// ImageLayers lists the layers of all images.
func (c *Client) ImageLayers(ctx context.Context) ([]api.ImageLayers, error) {
	return get[[]api.ImageLayers](ctx, c, api.ImageLayersPath, nil)
}
