package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/moby/moby/api/types/container"
	"github.com/tare-engine/tare/api"
)

// ExecCreate prepares a process in a running container and returns its id.
func (c *Client) ExecCreate(ctx context.Context, name string, req container.ExecCreateRequest) (string, error) {
	out, err := post[container.ExecCreateResponse](ctx, c, "/containers/"+segment(name)+"/exec", nil, req)
	return out.ID, err
}

// ExecStart runs a prepared process without looking at its output.
func (c *Client) ExecStart(ctx context.Context, id string, req api.ExecStartRequest) error {
	return c.post(ctx, "/exec/"+segment(id)+"/start", nil, req)
}

// ExecAttach runs a prepared process and opens its streams.
func (c *Client) ExecAttach(ctx context.Context, id string, req api.ExecStartRequest) (*Stream, error) {
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

// ExecList lists the prepared and running processes of a container (Tare only).
func (c *Client) ExecList(ctx context.Context, name string) ([]api.ExecSummary, error) {
	return get[[]api.ExecSummary](ctx, c, "/containers/"+segment(name)+"/execs", nil)
}

// ExecKill sends a signal to a process; "" is SIGKILL (Tare only).
func (c *Client) ExecKill(ctx context.Context, id, signal string) error {
	q := url.Values{}
	set(q, "signal", signal)
	return c.post(ctx, "/exec/"+segment(id)+"/kill", q, nil)
}
