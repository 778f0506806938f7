package client

import (
	"context"
	"net/http"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/tare-engine/tare/api"
)

// ImageImportEngine has the engine take images from the data root of another
// engine on its host, and reports how it gets on.
func (c *Client) ImageImportEngine(ctx context.Context, r api.ImageImportEngineRequest, report func(jsonstream.Message) error) error {
	resp, err := c.do(ctx, call{method: http.MethodPost, path: api.ImageImportEnginePath, body: r})
	if err != nil {
		return err
	}
	return c.wrap(ctx, messages(resp.Body, report))
}

// ImportEngine has the engine take over what a stopped Docker on its host has, and
// reports how it gets on.
func (c *Client) ImportEngine(ctx context.Context, r api.ImportEngineRequest, report func(jsonstream.Message) error) error {
	resp, err := c.do(ctx, call{method: http.MethodPost, path: api.ImportEnginePath, body: r})
	if err != nil {
		return err
	}
	return c.wrap(ctx, messages(resp.Body, report))
}
