package client

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"

	"github.com/tare-engine/tare/api"
)

// Pong is what an engine says of itself before any version is agreed on.
type Pong struct {
	APIVersion, OSType string
	Experimental       bool
}

// Ping asks whether the engine is there and agrees on a version with it.
func (c *Client) Ping(ctx context.Context) (Pong, error) {
	req, err := c.request(ctx, c.Version(), call{method: http.MethodGet}, nil)
	if err != nil {
		return Pong{}, err
	}
	req.URL.Path = c.base + "/_ping" // without a version
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return Pong{}, c.wrap(ctx, err)
	}
	if resp.StatusCode >= 400 {
		return Pong{}, refusal(resp)
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	h := resp.Header
	c.adopt(h.Get("Api-Version"))
	return Pong{APIVersion: h.Get("Api-Version"), OSType: h.Get("Ostype"), Experimental: h.Get("Docker-Experimental") == "true"}, err
}

// ServerVersion describes the engine's build.
func (c *Client) ServerVersion(ctx context.Context) (system.VersionResponse, error) {
	return get[system.VersionResponse](ctx, c, "/version", nil)
}

// Info describes the engine and its host.
func (c *Client) Info(ctx context.Context) (system.Info, error) {
	return get[system.Info](ctx, c, "/info", nil)
}

// DiskUsageRaw counts what the engine's objects take, in its own words: the
// shape of the answer changed with version 1.52.
func (c *Client) DiskUsageRaw(ctx context.Context, verbose bool, counted api.Counted) (json.RawMessage, error) {
	q := url.Values{}
	setBool(q, "verbose", verbose)
	return getCounted[json.RawMessage](ctx, c, "/system/df", q, counted)
}

// Events reports what happens, from since (zero: now) to until (zero: for
// ever), until report returns an error or ctx ends.
func (c *Client) Events(ctx context.Context, since, until time.Time, f api.Filters, report func(events.Message) error) error {
	q := filterQuery(f)
	set(q, "since", api.FormatUnix(since))
	set(q, "until", api.FormatUnix(until))
	resp, err := c.do(ctx, call{method: http.MethodGet, path: "/events", query: q})
	if err != nil {
		return err
	}
	if err = documents(resp.Body, report); err != nil {
		return c.wrap(ctx, err)
	}
	return nil
}

// NetworkList lists networks.
func (c *Client) NetworkList(ctx context.Context, f api.Filters) ([]network.Inspect, error) {
	return get[[]network.Inspect](ctx, c, "/networks", filterQuery(f))
}

// NetworkInspectRaw describes a network in the engine's own words; verbose is
// for networks of a swarm.
func (c *Client) NetworkInspectRaw(ctx context.Context, name string, verbose bool) (json.RawMessage, error) {
	q := url.Values{}
	setBool(q, "verbose", verbose)
	return get[json.RawMessage](ctx, c, "/networks/"+segment(name), q)
}

// NetworkExplain says what becomes of a packet, and why.
func (c *Client) NetworkExplain(ctx context.Context, o api.NetworkExplainOptions) (api.NetworkExplanation, error) {
	q := url.Values{"from": {o.From}, "to": {o.To}, "port": {o.Port}}
	setBool(q, "ipv6", o.IPv6)
	return get[api.NetworkExplanation](ctx, c, api.NetworkExplainPath, q)
}

// NetworkCreate makes a network.
func (c *Client) NetworkCreate(ctx context.Context, r network.CreateRequest) (network.CreateResponse, error) {
	return post[network.CreateResponse](ctx, c, "/networks/create", nil, r)
}

// NetworkRemove removes a network that no container is attached to.
func (c *Client) NetworkRemove(ctx context.Context, name string) error {
	resp, err := c.do(ctx, call{method: http.MethodDelete, path: "/networks/" + segment(name)})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// NetworkConnect puts a container into a network.
func (c *Client) NetworkConnect(ctx context.Context, name string, r network.ConnectRequest) error {
	return c.post(ctx, "/networks/"+segment(name)+"/connect", nil, r)
}

// NetworkDisconnect takes a container out of a network.
func (c *Client) NetworkDisconnect(ctx context.Context, name string, r network.DisconnectRequest) error {
	return c.post(ctx, "/networks/"+segment(name)+"/disconnect", nil, r)
}

// NetworksPrune removes unused networks.
func (c *Client) NetworksPrune(ctx context.Context, f api.Filters) (network.PruneReport, error) {
	return post[network.PruneReport](ctx, c, "/networks/prune", filterQuery(f), nil)
}

// BuildPrune removes build cache that no build uses.
func (c *Client) BuildPrune(ctx context.Context, o api.BuildPruneOptions) (build.CachePruneReport, error) {
	q := filterQuery(o.Filters)
	setBool(q, "all", o.All)
	for key, n := range map[string]int64{"reserved-space": o.Reserved, "max-used-space": o.MaxUsed, "min-free-space": o.MinFree} {
		if n != 0 {
			q.Set(key, strconv.FormatInt(n, 10))
		}
	}
	return post[build.CachePruneReport](ctx, c, "/build/prune", q, nil)
}
