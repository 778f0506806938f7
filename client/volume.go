package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/moby/moby/api/types/volume"

	"github.com/tare-engine/tare/api"
)

// VolumeCreate makes a volume, or finds that of the name.
func (c *Client) VolumeCreate(ctx context.Context, r volume.CreateRequest) (volume.Volume, error) {
	return post[volume.Volume](ctx, c, "/volumes/create", nil, r)
}

// VolumeList lists volumes.
func (c *Client) VolumeList(ctx context.Context, f api.Filters) (volume.ListResponse, error) {
	return get[volume.ListResponse](ctx, c, "/volumes", filterQuery(f))
}

// VolumeInspectRaw describes a volume in the engine's own words.
func (c *Client) VolumeInspectRaw(ctx context.Context, name string) (json.RawMessage, error) {
	return get[json.RawMessage](ctx, c, "/volumes/"+segment(name), nil)
}

// VolumeRemove removes a volume that no container has; by force one that is not there is
// no error.
func (c *Client) VolumeRemove(ctx context.Context, name string, force bool) error {
	q := url.Values{}
	setBool(q, "force", force)
	resp, err := c.do(ctx, call{method: http.MethodDelete, path: "/volumes/" + segment(name), query: q})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// VolumesPrune removes unused volumes.
func (c *Client) VolumesPrune(ctx context.Context, f api.Filters) (volume.PruneReport, error) {
	return post[volume.PruneReport](ctx, c, "/volumes/prune", filterQuery(f), nil)
}
