package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tare-engine/tare/api"
)

// ErrNoIncrements says that an engine cannot tell what images consist of, or make
// archives that go without a part of them: there are whole ones only.
var ErrNoIncrements = errors.New("the engine knows whole archives only: it has no " + api.ImageSavePath)

// ImageSave returns an archive of images, which the caller closes.
func (c *Client) ImageSave(ctx context.Context, refs []string, platforms []ocispec.Platform) (io.ReadCloser, error) {
	q, err := namesQuery(refs, platforms)
	if err != nil {
		return nil, err
	}
	return c.archive(ctx, call{method: http.MethodGet, path: "/images/get", query: q})
}

// ImageSaveIncrement returns an archive of images that goes without layers,
// which the caller closes, or ErrNoIncrements.
func (c *Client) ImageSaveIncrement(ctx context.Context, r api.ImageSaveRequest) (io.ReadCloser, error) {
	archive, err := c.archive(ctx, call{method: http.MethodPost, path: api.ImageSavePath, body: r})
	return archive, noIncrements(err)
}

func noIncrements(err error) error {
	if noRoute(err) {
		return ErrNoIncrements
	}
	return err
}

func (c *Client) archive(ctx context.Context, in call) (io.ReadCloser, error) {
	resp, err := c.do(ctx, in)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// ImageBlobs lists what an archive of images would have, or returns
// ErrNoIncrements.
func (c *Client) ImageBlobs(ctx context.Context, refs []string, platforms []ocispec.Platform) ([]api.ImageBlobs, error) {
	q, err := namesQuery(refs, platforms)
	if err != nil {
		return nil, err
	}
	list, err := get[[]api.ImageBlobs](ctx, c, api.ImageBlobsPath, q)
	return list, noIncrements(err)
}

// ImageMissing asks which of the layers an archive for this engine must bring,
// or returns ErrNoIncrements.
func (c *Client) ImageMissing(ctx context.Context, layers []api.LayerBlob) (missing []string, err error) {
	answer, err := post[api.ImageMissing](ctx, c, api.ImageMissingPath, nil, api.ImageMissingRequest{Layers: layers})
	return answer.Missing, noIncrements(err)
}

func namesQuery(refs []string, platforms []ocispec.Platform) (url.Values, error) {
	q := url.Values{"names": refs}
	return q, addPlatforms(q, "platform", platforms)
}
