package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/api"
)

func createQuery(o api.CreateOptions) url.Values {
	q := url.Values{}
	set(q, "name", o.Name)
	set(q, "platform", formatPlatform(o.Platform))
	set(q, "rootfs", o.Rootfs)
	if o.Replace {
		q.Set("replace", "1")
	}
	return q
}

// ContainerCreate makes a container and does not start it.
func (c *Client) ContainerCreate(ctx context.Context, o api.CreateOptions, req container.CreateRequest) (container.CreateResponse, error) {
	return post[container.CreateResponse](ctx, c, "/containers/create", createQuery(o), req)
}

// ContainerStart runs a container's process; it returns after the exec.
func (c *Client) ContainerStart(ctx context.Context, name string) error {
	return c.post(ctx, "/containers/"+segment(name)+"/start", nil, nil)
}

// ContainerRestore runs the processes that a checkpoint has kept; dir is where it
// lies if not with the engine.
func (c *Client) ContainerRestore(ctx context.Context, name, checkpoint, dir string) error {
	q := url.Values{"checkpoint": {checkpoint}}
	set(q, "checkpoint-dir", dir)
	return c.post(ctx, "/containers/"+segment(name)+"/start", q, nil)
}

// ContainerStop ends a container's process by its stop signal, then by force.
func (c *Client) ContainerStop(ctx context.Context, name string, o api.StopOptions) error {
	return c.post(ctx, "/containers/"+segment(name)+"/stop", stopQuery(o), nil)
}

// ContainerRestart stops a container and starts it again.
func (c *Client) ContainerRestart(ctx context.Context, name string, o api.StopOptions) error {
	return c.post(ctx, "/containers/"+segment(name)+"/restart", stopQuery(o), nil)
}

func stopQuery(o api.StopOptions) url.Values {
	q := url.Values{}
	set(q, "signal", o.Signal)
	if o.Timeout != nil {
		q.Set("t", strconv.Itoa(*o.Timeout))
	}
	return q
}

// ContainerKill sends a signal to a container's process; "" is SIGKILL.
func (c *Client) ContainerKill(ctx context.Context, name, signal string) error {
	q := url.Values{}
	set(q, "signal", signal)
	return c.post(ctx, "/containers/"+segment(name)+"/kill", q, nil)
}

// ContainerPause freezes a container's processes.
func (c *Client) ContainerPause(ctx context.Context, name string) error {
	return c.post(ctx, "/containers/"+segment(name)+"/pause", nil, nil)
}

// ContainerUnpause lets a container's processes go on.
func (c *Client) ContainerUnpause(ctx context.Context, name string) error {
	return c.post(ctx, "/containers/"+segment(name)+"/unpause", nil, nil)
}

// ContainerRename gives a container another name.
func (c *Client) ContainerRename(ctx context.Context, name, to string) error {
	return c.post(ctx, "/containers/"+segment(name)+"/rename", url.Values{"name": {to}}, nil)
}

// ContainerResize tells a container's terminal its size.
func (c *Client) ContainerResize(ctx context.Context, name string, rows, cols uint16) error {
	return c.post(ctx, "/containers/"+segment(name)+"/resize", sizeQuery(rows, cols), nil)
}

func sizeQuery(rows, cols uint16) url.Values {
	return url.Values{"h": {strconv.Itoa(int(rows))}, "w": {strconv.Itoa(int(cols))}}
}

// ContainerRemove takes a container away.
func (c *Client) ContainerRemove(ctx context.Context, name string, o api.RemoveOptions) error {
	q := url.Values{}
	setBool(q, "force", o.Force)
	setBool(q, "v", o.Volumes)
	setBool(q, "link", o.Link)
	setBool(q, "depend", o.Depend)
	return c.remove(ctx, "/containers/"+segment(name), q)
}

// ContainerPublish changes which ports of a container are published. ErrNoPublish says
// that the engine cannot.
func (c *Client) ContainerPublish(ctx context.Context, change api.PublishChange) error {
	err := c.post(ctx, api.PublishPath, nil, change)
	if noRoute(err) {
		return ErrNoPublish
	}
	return err
}

// ContainerOptions changes options that Docker does not have. An engine that is no tared
// has no such route: NotFound.
func (c *Client) ContainerOptions(ctx context.Context, change api.OptionsChange) error {
	return c.post(ctx, api.OptionsPath, nil, change)
}

// ErrNoPublish is that of an engine which publishes ports only when a container is
// made.
var ErrNoPublish = errors.New("the engine is no tared: it has no " + api.PublishPath)

// ContainerUpdate changes limits of a container.
func (c *Client) ContainerUpdate(ctx context.Context, name string, u container.UpdateConfig) (container.UpdateResponse, error) {
	return post[container.UpdateResponse](ctx, c, "/containers/"+segment(name)+"/update", nil, u)
}

// ContainersPrune removes the stopped containers that the filters choose.
func (c *Client) ContainersPrune(ctx context.Context, f api.Filters) (container.PruneReport, error) {
	return post[container.PruneReport](ctx, c, "/containers/prune", filterQuery(f), nil)
}

// ContainerList lists containers, newest first.
func (c *Client) ContainerList(ctx context.Context, o api.ListOptions) ([]container.Summary, error) {
	q := filterQuery(o.Filters)
	setBool(q, "all", o.All)
	setBool(q, "size", o.Size)
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	return getCounted[[]container.Summary](ctx, c, "/containers/json", q, o.Counted)
}

// ContainerInspect describes a container.
func (c *Client) ContainerInspect(ctx context.Context, name string) (container.InspectResponse, error) {
	return get[container.InspectResponse](ctx, c, "/containers/"+segment(name)+"/json", nil)
}

// ContainerInspectRaw describes a container in the engine's own words.
func (c *Client) ContainerInspectRaw(ctx context.Context, name string, size bool) (json.RawMessage, error) {
	q := url.Values{}
	setBool(q, "size", size)
	return get[json.RawMessage](ctx, c, "/containers/"+segment(name)+"/json", q)
}

// ContainerTop lists a container's processes as ps with the arguments does.
func (c *Client) ContainerTop(ctx context.Context, name, args string) (container.TopResponse, error) {
	q := url.Values{}
	set(q, "ps_args", args)
	return get[container.TopResponse](ctx, c, "/containers/"+segment(name)+"/top", q)
}

// ContainerDiff lists in what a container's files differ from its image's.
func (c *Client) ContainerDiff(ctx context.Context, name string) ([]container.FilesystemChange, error) {
	return get[[]container.FilesystemChange](ctx, c, "/containers/"+segment(name)+"/changes", nil)
}

// ContainerLogs opens a container's log; the caller closes it. With a
// terminal it is raw, else framed (see package api).
func (c *Client) ContainerLogs(ctx context.Context, name string, o api.LogsOptions) (io.ReadCloser, error) {
	q := url.Values{}
	setBool(q, "stdout", o.Stdout)
	setBool(q, "stderr", o.Stderr)
	setBool(q, "follow", o.Follow)
	setBool(q, "timestamps", o.Timestamps)
	setBool(q, "details", o.Details)
	set(q, "tail", o.Tail)
	set(q, "since", api.FormatUnix(o.Since))
	set(q, "until", api.FormatUnix(o.Until))
	resp, err := c.do(ctx, call{method: http.MethodGet, path: "/containers/" + segment(name) + "/logs", query: q})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// ContainerAttach opens the streams of a container. Attach before start
// misses nothing.
func (c *Client) ContainerAttach(ctx context.Context, name string, o api.AttachOptions) (*Stream, error) {
	q := url.Values{}
	setBool(q, "stream", o.Stream)
	setBool(q, "stdin", o.Stdin)
	setBool(q, "stdout", o.Stdout)
	setBool(q, "stderr", o.Stderr)
	setBool(q, "logs", o.Logs)
	set(q, "detachKeys", o.DetachKeys)
	return c.hijack(ctx, call{method: http.MethodPost, path: "/containers/" + segment(name) + "/attach", query: q})
}

// ContainerWait begins to wait for a condition. When it returns the engine
// has taken note, so a start after it cannot be missed; the function it
// returns blocks for the result and must be called once.
func (c *Client) ContainerWait(ctx context.Context, name string, cond container.WaitCondition) (func() (container.WaitResponse, error), error) {
	q := url.Values{}
	set(q, "condition", string(cond))
	resp, err := c.do(ctx, call{method: http.MethodPost, path: "/containers/" + segment(name) + "/wait", query: q})
	if err != nil {
		return nil, err
	}
	return func() (out container.WaitResponse, err error) {
		err = decode(resp, &out)
		return out, err
	}, nil
}

func formatPlatform(p *ocispec.Platform) string {
	switch {
	case p == nil:
		return ""
	case p.Architecture == "":
		return p.OS
	case p.Variant == "":
		return p.OS + "/" + p.Architecture
	}
	return p.OS + "/" + p.Architecture + "/" + p.Variant
}

func set(q url.Values, key, value string) {
	if value != "" {
		q.Set(key, value)
	}
}

func setBool(q url.Values, key string, value bool) {
	if value {
		q.Set(key, "1")
	}
}

func filterQuery(f api.Filters) url.Values {
	q := url.Values{}
	set(q, "filters", f.Encode())
	return q
}
