package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
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
	var out system.VersionResponse
	err := c.get(ctx, "/version", nil, &out)
	return out, err
}

// Info describes the engine and its host.
func (c *Client) Info(ctx context.Context) (system.Info, error) {
	var out system.Info
	err := c.get(ctx, "/info", nil, &out)
	return out, err
}

// DiskUsageRaw counts what the engine's objects take, in its own words: the
// shape of the answer changed with version 1.52.
func (c *Client) DiskUsageRaw(ctx context.Context, verbose bool) (json.RawMessage, error) {
	q := url.Values{}
	setBool(q, "verbose", verbose)
	var out json.RawMessage
	err := c.get(ctx, "/system/df", q, &out)
	return out, err
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
	defer resp.Body.Close()
	d := json.NewDecoder(resp.Body)
	for {
		var m events.Message
		switch err := d.Decode(&m); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return c.wrap(ctx, err)
		}
		if err := report(m); err != nil {
			return err
		}
	}
}

// NetworkList lists networks.
func (c *Client) NetworkList(ctx context.Context, f api.Filters) ([]network.Inspect, error) {
	var out []network.Inspect
	err := c.get(ctx, "/networks", filterQuery(f), &out)
	return out, err
}

// NetworkInspectRaw describes a network in the engine's own words.
func (c *Client) NetworkInspectRaw(ctx context.Context, name string) (json.RawMessage, error) {
	var out json.RawMessage
	err := c.get(ctx, "/networks/"+segment(name), nil, &out)
	return out, err
}

// NetworksPrune removes unused networks.
func (c *Client) NetworksPrune(ctx context.Context, f api.Filters) (network.PruneReport, error) {
	var out network.PruneReport
	err := c.post(ctx, "/networks/prune", filterQuery(f), nil, &out)
	return out, err
}

// VolumeInspectRaw describes a volume in the engine's own words.
func (c *Client) VolumeInspectRaw(ctx context.Context, name string) (json.RawMessage, error) {
	var out json.RawMessage
	err := c.get(ctx, "/volumes/"+segment(name), nil, &out)
	return out, err
}

// VolumesPrune removes unused volumes.
func (c *Client) VolumesPrune(ctx context.Context, f api.Filters) (volume.PruneReport, error) {
	var out volume.PruneReport
	err := c.post(ctx, "/volumes/prune", filterQuery(f), nil, &out)
	return out, err
}
