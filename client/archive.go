package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
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

// ContainerPath describes what is at a path of a container's files.
func (c *Client) ContainerPath(ctx context.Context, name, path string) (container.PathStat, error) {
	return c.pathOf(ctx, archiveOf(name), url.Values{"path": {path}})
}

// archiveOf is the route of a container's files.
func archiveOf(name string) string { return "/containers/" + segment(name) + "/archive" }

func (c *Client) pathOf(ctx context.Context, route string, q url.Values) (container.PathStat, error) {
	resp, err := c.do(ctx, call{method: http.MethodHead, path: route, query: q})
	if err != nil {
		return container.PathStat{}, err
	}
	defer resp.Body.Close()
	return pathStat(resp.Header)
}

func pathStat(h http.Header) (st container.PathStat, err error) {
	b, err := base64.StdEncoding.DecodeString(h.Get(api.PathStatHeader))
	if err == nil {
		err = json.Unmarshal(b, &st)
	}
	if err != nil {
		return st, fmt.Errorf("unable to decode container path stat header: %w", err)
	}
	return st, nil
}

// ContainerArchive returns what is at a path of a container's files as a tar
// stream, which the caller closes, and says what it is.
func (c *Client) ContainerArchive(ctx context.Context, name, path string) (io.ReadCloser, container.PathStat, error) {
	return c.filesOf(ctx, archiveOf(name), url.Values{"path": {path}})
}

func (c *Client) filesOf(ctx context.Context, route string, q url.Values) (io.ReadCloser, container.PathStat, error) {
	resp, err := c.do(ctx, call{method: http.MethodGet, path: route, query: q})
	if err != nil {
		return nil, container.PathStat{}, err
	}
	st, err := pathStat(resp.Header)
	if err != nil {
		resp.Body.Close()
		return nil, st, err
	}
	return resp.Body, st, nil
}

// ContainerExtract unpacks a tar stream into a directory of a container. A
// directory there is not replaced by something else, nor the other way round. With
// asUser all belongs to the container's user.
func (c *Client) ContainerExtract(ctx context.Context, name, dir string, archive io.Reader, asUser bool) error {
	q := url.Values{"path": {dir}, "noOverwriteDirNonDir": {"true"}}
	if asUser {
		q.Set("copyUIDGID", "true")
	}
	return c.extractTo(ctx, archiveOf(name), q, archive)
}

func (c *Client) extractTo(ctx context.Context, route string, q url.Values, archive io.Reader) error {
	resp, err := c.do(ctx, call{method: http.MethodPut, path: route, query: q, body: archive, header: http.Header{"Content-Type": {"application/x-tar"}}})
	if err != nil {
		return err
	}
	return resp.Body.Close()
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
