package client

import (
	"context"
	"net/http"

	"github.com/moby/moby/api/types/container"
)

// ExecCreate prepares a process in a running container and returns its id.
func (c *Client) ExecCreate(ctx context.Context, name string, req container.ExecCreateRequest) (string, error) {
	out, err := post[container.ExecCreateResponse](ctx, c, "/containers/"+segment(name)+"/exec", nil, req)
	return out.ID, err
}

// ExecStart runs a prepared process without looking at its output.
func (c *Client) ExecStart(ctx context.Context, id string, req container.ExecStartRequest) error {
	return c.post(ctx, "/exec/"+segment(id)+"/start", nil, req)
}

// ExecAttach runs a prepared process and opens its streams.
func (c *Client) ExecAttach(ctx context.Context, id string, req container.ExecStartRequest) (*Stream, error) {
	return c.hijack(ctx, call{method: http.MethodPost, path: "/exec/" + segment(id) + "/start", body: req})
}

// ExecInspect describes a prepared, running or ended process.
func (c *Client) ExecInspect(ctx context.Context, id string) (container.ExecInspectResponse, error) {
	return get[container.ExecInspectResponse](ctx, c, "/exec/"+segment(id)+"/json", nil)
}

// ExecResize tells a process's terminal its size.
func (c *Client) ExecResize(ctx context.Context, id string, rows, cols uint16) error {
	return c.post(ctx, "/exec/"+segment(id)+"/resize", sizeQuery(rows, cols), nil)
}
