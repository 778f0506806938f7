package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/tare-engine/tare/api"
)

// ContainerLayers lists the branches of a running container's root, topmost first.
// This and the following are for containers whose storage driver is union.
func (c *Client) ContainerLayers(ctx context.Context, container string) ([]api.ContainerBranch, error) {
	return get[[]api.ContainerBranch](ctx, c, api.LayersPath, url.Values{"container": {container}})
}

// AddContainerLayer adds layers of an image, or a directory, until the container ends.
func (c *Client) AddContainerLayer(ctx context.Context, change api.BranchChange) error {
	return c.post(ctx, api.LayersPath, nil, change)
}

// ModifyContainerLayer changes what may be done with a directory that was added.
func (c *Client) ModifyContainerLayer(ctx context.Context, change api.BranchChange) error {
	return c.tell(ctx, call{method: http.MethodPut, path: api.LayersPath, body: change})
}

// RemoveContainerLayer takes away an image's layers or a directory, of which one is "".
func (c *Client) RemoveContainerLayer(ctx context.Context, container, image, dir string) error {
	q := url.Values{"container": {container}}
	for key, value := range map[string]string{"image": image, "dir": dir} {
		if value != "" {
			q.Set(key, value)
		}
	}
	return c.remove(ctx, api.LayersPath, q)
}
