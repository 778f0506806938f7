package client

import (
	"context"
	"errors"
	"net/http"

	"github.com/tare-engine/tare/api"
)

// ImageVerify has the engine read images again, and reports each damaged thing
// and each image that is done.
func (c *Client) ImageVerify(ctx context.Context, r api.ImageVerifyRequest, report func(api.ImageVerifyMessage) error) error {
	return c.verifyImages(ctx, api.ImageVerifyPath, r, report)
}

// ImageRepair is ImageVerify that has what is damaged replaced.
func (c *Client) ImageRepair(ctx context.Context, r api.ImageVerifyRequest, report func(api.ImageVerifyMessage) error) error {
	return c.verifyImages(ctx, api.ImageRepairPath, r, report)
}

func (c *Client) verifyImages(ctx context.Context, path string, r api.ImageVerifyRequest, report func(api.ImageVerifyMessage) error) error {
	resp, err := c.do(ctx, call{method: http.MethodPost, path: path, body: r})
	if err != nil {
		return err
	}
	err = documents(resp.Body, func(m api.ImageVerifyMessage) error {
		if m.Error != "" {
			return errors.New("Error response from daemon: " + m.Error)
		}
		return report(m)
	})
	return c.wrap(ctx, err)
}
