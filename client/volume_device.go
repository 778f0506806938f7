package client

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/moby/moby/api/types/volume"

	"github.com/tare-engine/tare/api"
)

// VolumeInspect describes a volume.
func (c *Client) VolumeInspect(ctx context.Context, name string) (volume.Volume, error) {
	return get[volume.Volume](ctx, c, "/volumes/"+segment(name), nil)
}

// VolumeReplace gives a volume a device in the place of another; "" is the same one, or
// another file.
func (c *Client) VolumeReplace(ctx context.Context, name, old, with string) error {
	return c.post(ctx, api.VolumeReplacePath, nil, api.VolumeReplaceRequest{Volume: name, Old: old, New: with})
}

// VolumeResize has a volume grow to a size in bytes.
func (c *Client) VolumeResize(ctx context.Context, name string, size int64) error {
	return c.post(ctx, api.VolumeResizePath, nil, api.VolumeResizeRequest{Volume: name, Size: size})
}

// padding is more than buffers on the way have, here and in the engine.
const padding = 48 << 10

// VolumeUnlock brings the key of a volume. The caller clears it; the connection's buffers
// are overwritten.
func (c *Client) VolumeUnlock(ctx context.Context, name string, key []byte) error {
	q := url.Values{"name": {name}, "size": {strconv.Itoa(len(key))}}
	body := io.MultiReader(bytes.NewReader(key), bytes.NewReader(make([]byte, padding)))
	resp, err := c.do(ctx, call{method: http.MethodPut, path: api.VolumeKeyPath, query: q, body: body, header: http.Header{"Content-Type": {"application/octet-stream"}}})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// VolumeLock has the engine's machine forget the key of a volume.
func (c *Client) VolumeLock(ctx context.Context, name string) error {
	resp, err := c.do(ctx, call{method: http.MethodDelete, path: api.VolumeKeyPath, query: url.Values{"name": {name}}})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
