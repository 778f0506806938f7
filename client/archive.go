package client

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/tare-engine/tare/api"
)

// ContainerCommit makes an image of a container and returns its ID.
func (c *Client) ContainerCommit(ctx context.Context, o api.CommitOptions) (string, error) {
	q := url.Values{"container": {o.Container}}
	set(q, "repo", o.Repo)
	set(q, "tag", o.Tag)
	set(q, "comment", o.Comment)
	set(q, "author", o.Author)
	q["changes"] = o.Changes
	if !o.Pause {
		q.Set("pause", "0")
	}
	var body any
	if o.Config != nil {
		body = o.Config
	}
	res, err := post[container.CommitResponse](ctx, c, "/commit", q, body)
	return res.ID, err
}

// ContainerExport returns all files of a container as a tar stream, which the
// caller closes.
func (c *Client) ContainerExport(ctx context.Context, name string) (io.ReadCloser, error) {
	resp, err := c.do(ctx, call{method: http.MethodGet, path: "/containers/" + segment(name) + "/export"})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// ImageImportOptions say what becomes of an archive.
type ImageImportOptions struct {
	Name     string // reference; "": the image gets none
	Message  string
	Changes  []string // instructions of a Dockerfile
	Platform string   // os[/arch[/variant]]
}

// ImageImport makes an image of a tar stream, or if archive is nil of what the
// engine finds at the URL source, and reports the engine's words about it.
func (c *Client) ImageImport(ctx context.Context, source string, archive io.Reader, o ImageImportOptions, report func(jsonstream.Message) error) error {
	q := url.Values{"fromSrc": {source}, "changes": o.Changes}
	set(q, "repo", o.Name)
	set(q, "message", o.Message)
	set(q, "platform", o.Platform)
	in := call{method: http.MethodPost, path: "/images/create", query: q}
	if archive != nil {
		in.body, in.header = archive, http.Header{"Content-Type": {"application/x-tar"}}
	}
	resp, err := c.do(ctx, in)
	if err != nil {
		return err
	}
	return messages(resp.Body, report)
}
