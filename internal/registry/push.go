package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Mount has the registry take a blob over from another of its repositories. It
// returns false if the registry does not do so: the blob is to be pushed then.
func (r *Repository) Mount(ctx context.Context, d ocispec.Descriptor, from string) (bool, error) {
	e, err := r.registry(ctx)
	if err != nil {
		return false, err
	}
	u := e.of("blobs/uploads/")
	u.RawQuery = url.Values{"mount": {d.Digest.String()}, "from": {from}}.Encode()
	ctx = docker.WithScope(e.scoped(ctx, "pull,push"), "repository:"+from+":pull")
	resp, err := e.do(ctx, request{method: http.MethodPost, url: u})
	if e, ok := errors.AsType[*responseError](err); ok && !e.passing() {
		return false, nil // a push tells why, if it is not only the other repository
	}
	if err != nil {
		return false, pushError(ctx, err)
	}
	discard(resp)
	if resp.StatusCode == http.StatusCreated {
		return true, nil
	}
	e.abandon(ctx, resp)
	return false, nil
}

// abandon ends an upload that the registry has begun.
func (e *endpoint) abandon(ctx context.Context, begun *http.Response) {
	u, err := e.location(begun)
	if err != nil {
		return
	}
	resp, err := e.do(ctx, request{method: http.MethodDelete, url: u})
	if err == nil {
		discard(resp)
	}
}

// location returns where an upload goes on.
func (e *endpoint) location(resp *http.Response) (*url.URL, error) {
	from := resp.Request.URL
	u, err := from.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Header.Get("Location") == "" {
		return nil, corrupt("registry %s names no usable place for an upload", e.s.host.Host)
	}
	if e.s.is(u) {
		u.Scheme = from.Scheme // behind a proxy, a registry may think that it speaks HTTP
	}
	if u.Scheme != "https" && from.Scheme == "https" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, corrupt("registry %s wants an upload to go to %s://%s, which is not encrypted", e.s.host.Host, u.Scheme, u.Host)
	}
	if ip, ok := literal(u.Hostname()); ok && !e.s.is(u) {
		if err := e.s.near(ip); err != nil {
			return nil, err
		}
	}
	u.User = nil
	return u, nil
}

// PushBlob sends a blob. open gives its bytes from an offset on, and is called
// again, mostly further on, if the upload breaks; progress, which may be nil, is
// told how many bytes have been sent, in another goroutine.
func (r *Repository) PushBlob(ctx context.Context, d ocispec.Descriptor, open func(offset int64) (io.ReadCloser, error), progress func(int64)) error {
	e, err := r.registry(ctx)
	if err != nil {
		return err
	}
	p := &push{ctx: e.scoped(ctx, "pull,push"), e: e, d: d, open: open, progress: progress}
	for fails := 1; ; fails++ {
		before, begun := p.offset, p.to != nil
		if err = p.attempt(); err == nil {
			return nil
		}
		lost := begun && p.forgotten(err)
		if ctx.Err() != nil || p.failed.Load() || hopeless(err) && !lost {
			return pushError(ctx, err)
		}
		p.find()
		if p.offset-before >= minProgress {
			fails = 1
		}
		if fails >= e.c.cfg.Attempts {
			return pushError(ctx, err)
		}
		if err := e.c.pause(ctx, fails, err); err != nil {
			return pushError(ctx, err)
		}
	}
}

// push is one blob on its way.
type push struct {
	ctx      context.Context
	e        *endpoint
	d        ocispec.Descriptor
	open     func(offset int64) (io.ReadCloser, error)
	progress func(int64)

	to     *url.URL    // of the upload; nil before it has begun
	offset int64       // that the registry has
	failed atomic.Bool // the caller's open or reader did
}

// attempt sends what the registry does not have, and concludes the upload.
func (p *push) attempt() error {
	if p.to == nil {
		p.offset = 0
		if err := p.step(request{method: http.MethodPost, url: p.e.of("blobs/uploads/")}); err != nil {
			return err
		}
	}
	if rest := p.d.Size - p.offset; rest > 0 {
		header := http.Header{"Content-Type": {"application/octet-stream"}}
		if p.offset > 0 {
			header.Set("Content-Range", fmt.Sprintf("%d-%d", p.offset, p.d.Size-1))
		}
		if err := p.step(request{method: http.MethodPatch, url: p.to, header: header, body: p.body, size: rest}); err != nil {
			return err
		}
		p.offset = p.d.Size
	}
	u := *p.to
	q := u.Query()
	q.Set("digest", p.d.Digest.String())
	u.RawQuery = q.Encode()
	resp, err := p.e.do(p.ctx, request{method: http.MethodPut, url: &u, header: http.Header{"Content-Type": {"application/octet-stream"}}})
	if err != nil {
		return err
	}
	discard(resp)
	return sameDigest(resp, p.d.Digest)
}

// step does a request that ends with the place of the next one.
func (p *push) step(r request) error {
	resp, err := p.e.do(p.ctx, r)
	if err != nil {
		return err
	}
	discard(resp)
	if resp.StatusCode >= 300 {
		return corrupt("registry %s answers an upload with status %d", p.e.s.host.Host, resp.StatusCode)
	}
	p.to, err = p.e.location(resp)
	return err
}

// forgotten reports whether the registry does not know the upload any more, or
// knows it otherwise than we do.
func (p *push) forgotten(err error) bool {
	e, ok := errors.AsType[*responseError](err)
	return ok && (e.status == http.StatusNotFound || e.status == http.StatusRequestedRangeNotSatisfiable)
}

// find asks how much of a broken upload the registry has. If it does not say,
// the upload begins anew.
func (p *push) find() {
	to := p.to
	p.to, p.offset = nil, 0
	if to == nil {
		return
	}
	resp, err := p.e.do(p.ctx, request{method: http.MethodGet, url: to})
	if err != nil {
		return
	}
	discard(resp)
	var last int64
	// 0-0 may be one byte or none.
	if n, _ := fmt.Sscanf(resp.Header.Get("Range"), "0-%d", &last); n != 1 || last < 1 || last >= p.d.Size {
		return
	}
	if to, err = p.e.location(resp); err == nil {
		p.to, p.offset = to, last+1
	}
}

func (p *push) body() (io.ReadCloser, error) {
	rc, err := p.open(p.offset)
	if err != nil {
		p.failed.Store(true)
		return nil, err
	}
	return &sending{rc: rc, p: p, sent: p.offset}, nil
}

// sending counts what is sent.
type sending struct {
	rc   io.ReadCloser
	p    *push
	sent int64
}

func (s *sending) Read(b []byte) (int, error) {
	limit := s.p.e.c.limit
	if limit != nil {
		b = b[:min(len(b), limit.Burst())]
	}
	n, err := s.rc.Read(b)
	if err != nil && err != io.EOF {
		s.p.failed.Store(true)
	}
	if limit != nil && n > 0 {
		if err := limit.WaitN(s.p.ctx, n); err != nil {
			return 0, err
		}
	}
	s.sent += int64(n)
	if s.p.progress != nil && n > 0 {
		s.p.progress(s.sent)
	}
	return n, err
}

func (s *sending) Close() error { return s.rc.Close() }

// sameDigest compares the digest that the registry tells with ours.
func sameDigest(resp *http.Response, want digest.Digest) error {
	if got := resp.Header.Get("Docker-Content-Digest"); got != "" && digest.Digest(got).Algorithm() == want.Algorithm() && got != want.String() {
		return corrupt("registry says that it received %s instead of %s", got, want)
	}
	return nil
}

// PushManifest sends a manifest or an index to be had by a tag or its digest.
func (r *Repository) PushManifest(ctx context.Context, tagOrDigest, mediaType string, b []byte) (digest.Digest, error) {
	if _, err := r.reference(tagOrDigest); err != nil {
		return "", err
	}
	e, err := r.registry(ctx)
	if err != nil {
		return "", err
	}
	d := digest.FromBytes(b)
	resp, err := e.do(e.scoped(ctx, "pull,push"), request{
		method: http.MethodPut, url: e.of("manifests/" + tagOrDigest),
		header: http.Header{"Content-Type": {mediaType}},
		body:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil },
		size:   int64(len(b)), again: true,
	})
	if err != nil {
		return "", pushError(ctx, err)
	}
	discard(resp)
	return d, sameDigest(resp, d)
}
