package registry

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/manifest"
)

// MaxManifest bounds manifests and indexes, in bytes.
const MaxManifest = 4 << 20

const (
	maxTags     = 200_000
	maxTagPages = 2_000
)

var manifestTypes = []string{
	ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex,
	images.MediaTypeDockerSchema2Manifest, images.MediaTypeDockerSchema2ManifestList,
}

// Resolve asks which manifest or index a tag or digest means. Only its digest
// is to be trusted, as far as the registry is.
func (r *Repository) Resolve(ctx context.Context, tagOrDigest string) (ocispec.Descriptor, error) {
	ref, err := r.reference(tagOrDigest)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var d ocispec.Descriptor
	err = r.try(ctx, func(e *endpoint) error {
		_, got, err := e.resolver.Resolve(expecting(quiet(ctx), expectation{}), ref.String())
		if err != nil && e.last && cerrdefs.IsNotFound(err) {
			got, err = e.resolve(ctx, tagOrDigest)
		}
		if err != nil {
			return err
		}
		d = ocispec.Descriptor{MediaType: bareMediaType(got.MediaType), Digest: got.Digest, Size: got.Size}
		return checkDescriptor(d)
	})
	if err != nil {
		return ocispec.Descriptor{}, pullError(ctx, ref, err)
	}
	return d, nil
}

// reference joins the repository's name with a tag or digest.
func (r *Repository) reference(tagOrDigest string) (reference.Named, error) {
	if strings.Contains(tagOrDigest, ":") {
		d, err := digest.Parse(tagOrDigest)
		if err != nil {
			return nil, invalid("invalid digest %q: %w", tagOrDigest, err)
		}
		ref, err := reference.WithDigest(r.name, d)
		return ref, errdefs.As(errdefs.InvalidArgument, err)
	}
	ref, err := reference.WithTag(r.name, tagOrDigest)
	return ref, errdefs.As(errdefs.InvalidArgument, err)
}

// resolve fetches what the registry says it does not have: the answer to such
// a request says why, and some registries have it after all.
func (e *endpoint) resolve(ctx context.Context, tagOrDigest string) (ocispec.Descriptor, error) {
	d, _, err := e.document(ctx, tagOrDigest)
	return d, err
}

// document fetches what a tag or digest means. The descriptor is what came, so
// with a tag nothing but its media type is somebody's word.
func (e *endpoint) document(ctx context.Context, tagOrDigest string) (d ocispec.Descriptor, b []byte, err error) {
	for fails := 1; ; fails++ {
		resp, err := e.getManifest(ctx, tagOrDigest)
		if err != nil {
			return d, nil, err
		}
		b, err = readAll(resp.Body)
		resp.Body.Close()
		d.MediaType, d.Digest, d.Size = bareMediaType(resp.Header.Get("Content-Type")), digest.FromBytes(b), int64(len(b))
		if err == nil {
			break
		}
		if hopeless(err) || !e.last || fails >= e.c.cfg.Attempts {
			return d, nil, err
		}
		if err := e.c.pause(ctx, fails, err); err != nil {
			return d, nil, err
		}
	}
	if want, err := digest.Parse(tagOrDigest); err == nil {
		if want.Algorithm().FromBytes(b) != want {
			return d, nil, corrupt("manifest verification failed for digest %s", want)
		}
		d.Digest = want
	}
	return d, b, nil
}

func (e *endpoint) getManifest(ctx context.Context, tagOrDigest string) (*http.Response, error) {
	header := http.Header{"Accept": {strings.Join(manifestTypes, ", ")}}
	ctx = expecting(e.scoped(ctx, "pull"), expectation{})
	return e.do(ctx, request{method: http.MethodGet, url: e.of("manifests/" + tagOrDigest), header: header})
}

// Document fetches what a tag or digest means, a manifest or an index, in one
// request. It has the digest it was asked for by, and is only one of the two.
func (r *Repository) Document(ctx context.Context, tagOrDigest string) (d ocispec.Descriptor, b []byte, err error) {
	ref, err := r.reference(tagOrDigest)
	if err != nil {
		return d, nil, err
	}
	err = r.try(ctx, func(e *endpoint) error {
		if d, b, err = e.document(ctx, tagOrDigest); err != nil {
			return err
		}
		if err := checkDescriptor(d); err != nil {
			return err
		}
		return checkDocument(d, b)
	})
	if err != nil {
		return ocispec.Descriptor{}, nil, pullError(ctx, ref, err)
	}
	return d, b, nil
}

func checkDocument(d ocispec.Descriptor, b []byte) error {
	if err := manifest.Check(d.MediaType, b); err != nil {
		return corrupt("%v", err)
	}
	return nil
}

// checkDescriptor refuses what cannot be a manifest or an index.
func checkDescriptor(d ocispec.Descriptor) error {
	switch {
	case d.MediaType == images.MediaTypeDockerSchema1Manifest || d.MediaType == "application/vnd.docker.distribution.manifest.v1+json":
		return errdefs.New(errdefs.NotImplemented, "media type %q is not supported: the image has the format of Docker before 1.10, push it again with a newer version", d.MediaType)
	case !slices.Contains(manifestTypes, d.MediaType):
		return invalid("unsupported manifest media type %q", d.MediaType)
	case d.Size < 0 || d.Size > MaxManifest:
		return invalid("manifest %s has %d bytes, at most %d are possible", d.Digest, d.Size, MaxManifest)
	}
	if err := d.Digest.Validate(); err != nil {
		return invalid("invalid digest %q: %w", d.Digest, err)
	}
	return nil
}

// Manifest fetches a manifest or an index. The document has the descriptor's
// digest, size and media type, and is only one of the two.
func (r *Repository) Manifest(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if err := checkDescriptor(d); err != nil {
		return nil, err
	}
	ref, err := reference.WithDigest(r.name, d.Digest)
	if err != nil {
		return nil, errdefs.As(errdefs.InvalidArgument, err)
	}
	var b []byte
	err = r.try(ctx, func(e *endpoint) error {
		b, err = e.manifest(ctx, ref, d)
		return err
	})
	if err != nil {
		return nil, pullError(ctx, ref, err)
	}
	return b, nil
}

func (e *endpoint) manifest(ctx context.Context, ref reference.Named, d ocispec.Descriptor) ([]byte, error) {
	f, err := e.resolver.Fetcher(quiet(ctx), ref.String())
	if err != nil {
		return nil, err
	}
	ctx = expecting(quiet(ctx), expectation{mediaType: d.MediaType})
	var b []byte
	for fails := 1; ; fails++ {
		if b, err = readManifest(ctx, f, d); err == nil {
			break
		}
		if hopeless(err) || !e.last || fails >= e.c.cfg.Attempts {
			return nil, err
		}
		if err := e.c.pause(ctx, fails, err); err != nil {
			return nil, err
		}
	}
	if err := checkDocument(d, b); err != nil {
		return nil, err
	}
	return b, nil
}

// Tags lists the tags of the repository.
func (r *Repository) Tags(ctx context.Context) ([]string, error) {
	var tags []string
	err := r.try(ctx, func(e *endpoint) (err error) {
		tags, err = e.tags(ctx)
		return err
	})
	if err != nil {
		return nil, pullError(ctx, r.name, err)
	}
	return tags, nil
}

func (e *endpoint) tags(ctx context.Context) ([]string, error) {
	ctx = e.scoped(ctx, "pull")
	list := e.of("tags/list")
	next := *list
	next.RawQuery = "n=1000"
	var tags []string
	for range maxTagPages {
		page, link, err := e.tagPage(ctx, &next)
		if err != nil {
			return nil, err
		}
		if tags = append(tags, page...); len(tags) > maxTags {
			return nil, corrupt("repository has more than %d tags", maxTags)
		}
		if link == "" {
			return tags, nil
		}
		u, err := url.Parse(link)
		if err != nil || len(page) == 0 {
			return nil, corrupt("tags of the repository do not end")
		}
		// Only the query of the link is followed: it leads to the same list.
		next.RawQuery = u.RawQuery
	}
	return nil, corrupt("repository has more than %d pages of tags", maxTagPages)
}

func (e *endpoint) tagPage(ctx context.Context, u *url.URL) (tags []string, link string, err error) {
	resp, err := e.do(ctx, request{method: http.MethodGet, url: u})
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	var doc struct{ Tags []string }
	if err := decode(resp.Body, &doc); err != nil {
		return nil, "", err
	}
	return doc.Tags, nextLink(resp.Header), nil
}

// decode reads one small JSON document.
func decode(r io.Reader, doc any) error {
	b, err := readAll(r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, doc); err != nil {
		return corrupt("answer cannot be read: %v", err)
	}
	return nil
}

func readAll(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxManifest+1))
	if err == nil && len(b) > MaxManifest {
		err = corrupt("answer has more than %d bytes", MaxManifest)
	}
	return b, err
}

// nextLink returns the target of the link to the next page (RFC 5988).
func nextLink(h http.Header) string {
	for _, v := range h.Values("Link") {
		target, params, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(v), "<"), ">")
		if ok && strings.Contains(strings.ReplaceAll(params, `"`, ""), "rel=next") {
			return target
		}
	}
	return ""
}

// Has reports whether the repository itself, no mirror, has a blob or manifest.
func (r *Repository) Has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	e, err := r.registry(ctx)
	if err != nil {
		return false, err
	}
	path, header := "blobs/", http.Header{}
	if slices.Contains(manifestTypes, d.MediaType) {
		path, header = "manifests/", http.Header{"Accept": {d.MediaType}}
	}
	resp, err := e.do(e.scoped(ctx, "pull,push"), request{method: http.MethodHead, url: e.of(path + d.Digest.String()), header: header})
	if err == nil {
		return true, resp.Body.Close()
	}
	if e, ok := errors.AsType[*responseError](err); ok && e.status == http.StatusNotFound {
		return false, nil
	}
	return false, pushError(ctx, err)
}
