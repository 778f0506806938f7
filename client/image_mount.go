package client

import (
	"context"
	"net/url"

	"github.com/tare-engine/tare/api"
)

// ImageMount mounts the files of an image, read-only, on the engine's host.
func (c *Client) ImageMount(ctx context.Context, r api.ImageMountRequest) (api.ImageMount, error) {
	return post[api.ImageMount](ctx, c, api.ImageMountsPath, nil, r)
}

// ImageMounts lists the places where images are mounted.
func (c *Client) ImageMounts(ctx context.Context) ([]api.ImageMount, error) {
	return get[[]api.ImageMount](ctx, c, api.ImageMountsPath, nil)
}

// ImageUnmount unmounts an image, by its name or ID from all places, or the one
// at a path; with an empty name all images. force does it although files are
// open. It returns what is not mounted any more.
func (c *Client) ImageUnmount(ctx context.Context, name string, force bool) ([]api.ImageMount, error) {
	q := url.Values{}
	setBool(q, "all", name == "")
	setBool(q, "force", force)
	if name != "" {
		q.Set("name", name)
	}
	return remove[[]api.ImageMount](ctx, c, api.ImageMountsPath, q)
}
