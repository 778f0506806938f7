package client

import (
	"context"
	"net/url"

	"github.com/moby/moby/api/types/checkpoint"
)

// CheckpointCreate writes the state of a container's processes down.
func (c *Client) CheckpointCreate(ctx context.Context, name string, o checkpoint.CreateRequest) error {
	return c.post(ctx, "/containers/"+segment(name)+"/checkpoints", nil, o)
}

// CheckpointList lists the checkpoints of a container, in dir if there is one.
func (c *Client) CheckpointList(ctx context.Context, name, dir string) ([]checkpoint.Summary, error) {
	q := url.Values{}
	set(q, "dir", dir)
	return get[[]checkpoint.Summary](ctx, c, "/containers/"+segment(name)+"/checkpoints", q)
}

// CheckpointRemove removes a checkpoint of a container.
func (c *Client) CheckpointRemove(ctx context.Context, name, id, dir string) error {
	q := url.Values{}
	set(q, "dir", dir)
	return c.remove(ctx, "/containers/"+segment(name)+"/checkpoints/"+segment(id), q)
}
