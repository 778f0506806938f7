package client

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"

	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tare-engine/tare/api"
)

// ImageList lists images.
func (c *Client) ImageList(ctx context.Context, o api.ImageListOptions) ([]api.ImageSummary, error) {
	q := filterQuery(o.Filters)
	setBool(q, "all", o.All)
	setBool(q, "shared-size", o.SharedSize)
	setBool(q, "manifests", o.Manifests)
	return get[[]api.ImageSummary](ctx, c, "/images/json", q)
}

// ImageInspectRaw describes an image in the engine's own words.
func (c *Client) ImageInspectRaw(ctx context.Context, ref string, platform *ocispec.Platform) (json.RawMessage, error) {
	q, err := platformQuery(platform)
	if err != nil {
		return nil, err
	}
	if platform != nil {
		if err := c.require(ctx, "platform", 49); err != nil {
			return nil, err
		}
	}
	return get[json.RawMessage](ctx, c, "/images/"+refPath(ref)+"/json", q)
}

// ImageHistory lists how an image came to be, last step first.
func (c *Client) ImageHistory(ctx context.Context, ref string, platform *ocispec.Platform) ([]image.HistoryResponseItem, error) {
	q, err := platformQuery(platform)
	if err != nil {
		return nil, err
	}
	return get[[]image.HistoryResponseItem](ctx, c, "/images/"+refPath(ref)+"/history", q)
}

// ImageTag gives an image another name.
func (c *Client) ImageTag(ctx context.Context, ref, repo, tag string) error {
	q := url.Values{"repo": {repo}}
	set(q, "tag", tag)
	return c.post(ctx, "/images/"+refPath(ref)+"/tag", q, nil)
}

// ImagePin keeps an image from being pruned, collected, or removed without force.
func (c *Client) ImagePin(ctx context.Context, ref string) error {
	return c.post(ctx, "/images/"+refPath(ref)+"/pin", nil, nil)
}

// ImageUnpin takes ImagePin back.
func (c *Client) ImageUnpin(ctx context.Context, ref string) error {
	return c.post(ctx, "/images/"+refPath(ref)+"/unpin", nil, nil)
}

// ImageRemoveOptions say how far a removal goes.
type ImageRemoveOptions struct {
	Force   bool // also where a stopped container uses it
	NoPrune bool // untagged parents stay

	Platforms []ocispec.Platform // only the images for these; empty: all that a name has
}

// ImageRemove takes a name off an image, and the image itself with its last.
func (c *Client) ImageRemove(ctx context.Context, ref string, o ImageRemoveOptions) ([]image.DeleteResponse, error) {
	q := url.Values{}
	setBool(q, "force", o.Force)
	setBool(q, "noprune", o.NoPrune)
	if len(o.Platforms) > 0 {
		if err := cmp.Or(c.require(ctx, "platform", 50), addPlatforms(q, "platforms", o.Platforms)); err != nil {
			return nil, err
		}
	}
	return remove[[]image.DeleteResponse](ctx, c, "/images/"+refPath(ref), q)
}

// ImagesPrune removes the unused images that the filters choose.
func (c *Client) ImagesPrune(ctx context.Context, f api.Filters) (image.PruneReport, error) {
	return post[image.PruneReport](ctx, c, "/images/prune", filterQuery(f), nil)
}

// ImageLoad sends an image archive and reports the engine's words about it.
func (c *Client) ImageLoad(ctx context.Context, archive io.Reader, quiet bool, platforms []ocispec.Platform, report func(jsonstream.Message) error) error {
	q := url.Values{}
	setBool(q, "quiet", quiet)
	if err := addPlatforms(q, "platform", platforms); err != nil {
		return err
	}
	resp, err := c.do(ctx, call{
		method: http.MethodPost, path: "/images/load", query: q, body: archive,
		header: http.Header{"Content-Type": {"application/x-tar"}},
	})
	if err != nil {
		return err
	}
	return messages(resp.Body, report)
}

// messages reports a stream of progress documents until its end; one that
// bears an error is the result.
func messages(body io.ReadCloser, report func(jsonstream.Message) error) error {
	return documents(body, func(m jsonstream.Message) error {
		if m.Error != nil {
			return m.Error
		}
		return report(m)
	})
}

// refPath escapes a reference for a path: its slashes stay, as servers expect.
func refPath(ref string) string {
	return (&url.URL{Path: ref}).EscapedPath()
}

func platformQuery(p *ocispec.Platform) (url.Values, error) {
	if p == nil {
		return nil, nil
	}
	q := url.Values{}
	return q, addPlatforms(q, "platform", []ocispec.Platform{*p})
}

func addPlatforms(q url.Values, key string, platforms []ocispec.Platform) error {
	for _, p := range platforms {
		text, err := json.Marshal(p)
		if err != nil {
			return err
		}
		q.Add(key, string(text))
	}
	return nil
}
