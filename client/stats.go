package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/moby/moby/api/types/container"
	"github.com/tare-engine/tare/api"
)

// ErrNoStats says that an engine does not know the statistics of all
// containers in one answer: the caller asks for each.
var ErrNoStats = errors.New("the engine has no " + api.StatsPath)

// Stats reports what the running containers use, all of them once a second, until
// report returns an error or ctx ends.
func (c *Client) Stats(ctx context.Context, report func([]container.StatsResponse) error) error {
	resp, err := c.do(ctx, call{method: http.MethodGet, path: api.StatsPath})
	if noRoute(err) {
		return ErrNoStats
	}
	if err != nil {
		return err
	}
	if err = documents(resp.Body, report); err != nil {
		return c.wrap(ctx, err)
	}
	return nil
}

// ContainerStats reports what a container uses: once, measured over a second,
// or with stream once a second, until report returns an error, ctx ends or the
// container is removed.
func (c *Client) ContainerStats(ctx context.Context, name string, stream bool, report func(container.StatsResponse) error) error {
	q := url.Values{"stream": {strconv.FormatBool(stream)}}
	resp, err := c.do(ctx, call{method: http.MethodGet, path: "/containers/" + segment(name) + "/stats", query: q})
	if err != nil {
		return err
	}
	if err = documents(resp.Body, report); err != nil {
		return c.wrap(ctx, err)
	}
	return nil
}
