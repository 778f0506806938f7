package registry

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/registry/registrytest"
)

// fetch reads a blob from its start and verifies it.
func fetch(ctx context.Context, r *Repository, d ocispec.Descriptor) error {
	rc, err := r.Blob(ctx, d, 0)
	if err != nil {
		return err
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	if err != nil {
		return err
	}
	if int64(len(b)) != d.Size {
		return corrupt("read %d bytes of %d", len(b), d.Size)
	}
	if got := digest.FromBytes(b); got != d.Digest {
		return corrupt("digest is %s", got)
	}
	return nil
}

// patience is short for registries that are not going to answer; others may
// have a slow machine.
func patience(name string) time.Duration {
	for _, silent := range []string{"hang", "stall", "trickle"} {
		if strings.Contains(name, silent) {
			return 500 * time.Millisecond
		}
	}
	return time.Minute
}

func TestFaultsOfBlobs(t *testing.T) {
	const size = 100_000
	for _, tc := range []struct {
		name     string
		times    int
		fault    registrytest.Fault
		want     string // in the error; empty for success
		requests int    // for the blob
		most     int64  // bytes sent, if not 0
	}{
		{"cut", 1, registrytest.Cut(60_000), "", 2, size * 1.2},
		{"cut five times with progress", 5, registrytest.Cut(10_000), "", 6, size * 1.2},
		{"cut at the start", 4, registrytest.Cut(0), "", 5, 0},
		{"cut always", registrytest.Always, registrytest.Cut(0), "unexpected EOF", 5, 0},
		{"stall", 1, registrytest.Stall(60_000), "", 2, size * 1.2},
		{"stall always", registrytest.Always, registrytest.Stall(0), "no more data", 5, 0},
		{"hang", 1, registrytest.Hang, "", 2, 0},
		{"hang always", registrytest.Always, registrytest.Hang, "timeout awaiting response headers", 5, 0},
		{"trickle", 1, registrytest.Trickle(60_000, 5*time.Millisecond), "", 2, size * 1.2},
		{"trickle always", registrytest.Always, registrytest.Trickle(0, 5*time.Millisecond), "no more data", 5, 0},
		{"500 twice", 2, registrytest.Status(500), "", 3, 0},
		{"500 always", registrytest.Always, registrytest.Status(500), "received unexpected HTTP status: 500 Internal Server Error", 5, 0},
		{"503", 1, registrytest.Status(503), "", 2, 0},
		{"429", 2, registrytest.TooMany("0"), "", 3, 0},
		{"429 for hours", 1, registrytest.TooMany("7200"), "toomanyrequests: you have reached your limit", 1, 0},
		{"404", registrytest.Always, registrytest.Deny(404, "BLOB_UNKNOWN", "blob unknown to registry"), "unknown blob", 1, 0},
		{"denied", registrytest.Always, registrytest.Deny(403, "DENIED", "requested access to the resource is denied"), "pull access denied for", 1, 0},
		{"wrong bytes", registrytest.Always, registrytest.Flip, "digest is", 1, 0},
		{"shorter", registrytest.Always, registrytest.Shorten(10), "its descriptor says", 1, 0},
		{"longer", registrytest.Always, registrytest.Lengthen(10), "its descriptor says", 1, 0},
		{"longer without length", registrytest.Always, registrytest.Unsized(10), "more than the", 1, 0},
		{"much longer without length", registrytest.Always, registrytest.Unsized(10 << 20), "more than the", 1, 0},
		{"shorter without length", 1, registrytest.Unsized(-10), "", 2, size * 1.2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := registrytest.New(t, registrytest.Options{})
			put := r.Put("app", "v1", registrytest.Image{Size: size, Compression: []string{"none"}})
			l := put.Layers[0]
			r.Fault(http.MethodGet, "/blobs/", tc.times, tc.fault)
			c := newClient(t, Config{Stall: patience(tc.name)})
			err := fetch(t.Context(), c.Repository(named(t, r.Host+"/app"), nil), l)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Fatalf("error %v, want %q", err, tc.want)
			}
			all := r.Requests(http.MethodGet, "/blobs/")
			if len(all) != tc.requests {
				t.Fatalf("%d requests, want %d", len(all), tc.requests)
			}
			if n := r.Sent("/blobs/"); tc.most != 0 && n > tc.most {
				t.Fatalf("%d bytes sent, want at most %d", n, tc.most)
			}
		})
	}
}

func TestCutBlobIsResumedByRange(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	l := r.Put("app", "v1", registrytest.Image{Size: 100_000}).Layers[0]
	r.Fault(http.MethodGet, "/blobs/", 1, registrytest.Cut(60_000))
	c := newClient(t, Config{})
	if err := fetch(t.Context(), c.Repository(named(t, r.Host+"/app"), nil), l); err != nil {
		t.Fatal(err)
	}
	all := r.Requests(http.MethodGet, "/blobs/")
	if len(all) != 2 || all[0].Header.Get("Range") != "" || all[1].Header.Get("Range") != "bytes=60000-" || all[1].Sent != l.Size-60_000 {
		t.Fatalf("%+v", all)
	}
}

func TestRegistryWithoutRangesIsReadFromTheStart(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	l := r.Put("app", "v1", registrytest.Image{Size: 100_000}).Layers[0]
	r.Fault(http.MethodGet, "/blobs/", 1, registrytest.Cut(60_000))
	r.Fault(http.MethodGet, "/blobs/", registrytest.Always, registrytest.NoRange)
	c := newClient(t, Config{})
	if err := fetch(t.Context(), c.Repository(named(t, r.Host+"/app"), nil), l); err != nil {
		t.Fatal(err)
	}
}

func TestFaultsOfManifests(t *testing.T) {
	for _, tc := range []struct {
		name  string
		times int
		fault registrytest.Fault
		want  string
	}{
		{"cut", 1, registrytest.Cut(100), ""},
		{"stall", 1, registrytest.Stall(100), ""},
		{"hang", 1, registrytest.Hang, ""},
		{"500", 2, registrytest.Status(500), ""},
		{"502 always", registrytest.Always, registrytest.Status(502), "received unexpected HTTP status: 502 Bad Gateway"},
		{"429", 2, registrytest.TooMany("0"), ""},
		{"wrong bytes", registrytest.Always, registrytest.Flip, "manifest verification failed for digest"},
		{"shorter", registrytest.Always, registrytest.Shorten(1), "its descriptor says"},
		{"longer", registrytest.Always, registrytest.Lengthen(1), "its descriptor says"},
		{"endless", registrytest.Always, registrytest.Unsized(10 << 20), "its descriptor says"},
		{"media type", registrytest.Always, registrytest.As("text/html"), `manifest has media type "text/html"`},
		{"index instead of manifest", registrytest.Always, registrytest.As(ocispec.MediaTypeImageIndex), "manifest has media type"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := registrytest.New(t, registrytest.Options{})
			put := r.Put("app", "v1", registrytest.Image{})
			r.Fault(http.MethodGet, "/manifests/", tc.times, tc.fault)
			c := newClient(t, Config{Stall: patience(tc.name)})
			repo := c.Repository(named(t, r.Host+"/app"), nil)
			d, err := repo.Resolve(t.Context(), "v1")
			if err != nil || d.Digest != put.Top.Digest {
				t.Fatal(err)
			}
			_, err = repo.Manifest(t.Context(), d)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Fatalf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func TestFaultsOfResolve(t *testing.T) {
	for _, tc := range []struct {
		name      string
		times     int
		head, get registrytest.Fault
		want      string
	}{
		{name: "no head", times: registrytest.Always, head: registrytest.Status(405)},
		{name: "404 to head", times: registrytest.Always, head: registrytest.Status(404)},
		{name: "no digest", times: registrytest.Always, head: registrytest.Without("Docker-Content-Digest")},
		{name: "no length", times: registrytest.Always, head: registrytest.Without("Content-Length")},
		{name: "500", times: 2, head: registrytest.Status(500)},
		{name: "hang", times: 1, head: registrytest.Hang},
		{name: "hang always", times: registrytest.Always, head: registrytest.Hang, want: "timeout awaiting response headers"},
		{name: "endless", times: registrytest.Always, head: registrytest.Status(405), get: registrytest.Unsized(10 << 20), want: "more bytes"},
		{name: "html", times: registrytest.Always, head: registrytest.As("text/html; charset=utf-8"), want: `unsupported manifest media type "text/html"`},
		{name: "old schema", times: registrytest.Always, head: registrytest.As("application/vnd.docker.distribution.manifest.v1+prettyjws"), want: "not supported"},
		{name: "429 for hours", times: registrytest.Always, head: registrytest.TooMany("100000"), want: "toomanyrequests: too many requests"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := registrytest.New(t, registrytest.Options{})
			put := r.Put("app", "v1", registrytest.Image{})
			r.Fault(http.MethodHead, "/manifests/", tc.times, tc.head)
			if tc.get != nil {
				r.Fault(http.MethodGet, "/manifests/", tc.times, tc.get)
			}
			c := newClient(t, Config{Stall: patience(tc.name)})
			d, err := c.Repository(named(t, r.Host+"/app"), nil).Resolve(t.Context(), "v1")
			if tc.want == "" && (err != nil || d.Digest != put.Top.Digest || d.Size != put.Top.Size) || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Fatalf("%+v, error %v, want %q", d, err, tc.want)
			}
		})
	}
}

func TestDocumentsThatDeceive(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	put := r.Put("app", "v1", registrytest.Image{})
	for _, tc := range []struct {
		name, mediaType string
		doc             []byte
		want            string
	}{
		{"both as manifest", ocispec.MediaTypeImageManifest, registrytest.Both(put, ocispec.MediaTypeImageManifest), "manifest and an index at once"},
		{"both as index", ocispec.MediaTypeImageIndex, registrytest.Both(put, ocispec.MediaTypeImageIndex), "manifest and an index at once"},
		{"deep", ocispec.MediaTypeImageManifest, registrytest.Deep(put, 100_000), "deeper than 64 levels"},
		{"other type inside", registrytest.DockerManifest, []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{},"layers":[]}`), "says that its media type is"},
		{"index fields", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"manifests":[]}`), "not what its media type"},
		{"manifest fields", ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"layers":[]}`), "not what its media type"},
		{"field twice", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"layers":[],"config":{},"Layers":[]}`), `field "layers" twice`},
		{"schema 1 inside", registrytest.DockerManifest, []byte(`{"schemaVersion":2,"fsLayers":[],"config":{},"layers":[]}`), "old schema"},
		{"list", ocispec.MediaTypeImageManifest, []byte(`[]`), "cannot be read"},
		{"cut", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,`), "cannot be read"},
		{"null", ocispec.MediaTypeImageManifest, []byte(`null`), "no object"},
		{"two documents", ocispec.MediaTypeImageManifest, []byte(`{"config":{},"layers":[]}{"manifests":[]}`), "cannot be read"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := r.PutRaw("app", "bad"+strings.ReplaceAll(tc.name, " ", ""), tc.mediaType, tc.doc)
			c := newClient(t, Config{})
			_, err := c.Repository(named(t, r.Host+"/app"), nil).Manifest(t.Context(), d)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func TestManifestTooLarge(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	put := r.Put("app", "v1", registrytest.Image{})
	repo := newClient(t, Config{}).Repository(named(t, r.Host+"/app"), nil)

	// 20,000 layers are a valid document; how many an image may have is not
	// for this package to say.
	d := r.PutRaw("app", "many", ocispec.MediaTypeImageManifest, registrytest.ManyLayers(put, 20_000))
	if _, err := repo.Manifest(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	d = r.PutRaw("app", "more", ocispec.MediaTypeImageManifest, registrytest.ManyLayers(put, 40_000))
	r.Forget()
	for _, f := range []func() error{
		func() error { _, err := repo.Resolve(t.Context(), "more"); return err },
		func() error { _, err := repo.Manifest(t.Context(), d); return err },
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), "bytes") {
			t.Fatal(err)
		}
	}
	if n := r.Sent("/manifests/"); n != 0 {
		t.Fatalf("%d bytes were sent", n)
	}
}

func TestPauseObeysRetryAfter(t *testing.T) {
	c := newClient(t, Config{Backoff: time.Second})
	for _, tc := range []struct {
		name       string
		fails      int
		err        error
		least, top time.Duration
	}{
		{"seconds", 1, parseResponseError(429, http.Header{"Retry-After": {"17"}}, nil), 17 * time.Second, 18 * time.Second},
		{"no header", 1, parseResponseError(429, nil, nil), time.Second / 2, 3 * time.Second / 2},
		{"third", 3, &transportError{broken: true}, 2 * time.Second, 6 * time.Second},
		{"hundredth", 100, &transportError{broken: true}, maxBackoff / 2, maxBackoff * 3 / 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				if err := c.pause(t.Context(), tc.fails, tc.err); err != nil {
					t.Fatal(err)
				}
				if d := time.Since(start); d < tc.least || d > tc.top {
					t.Fatalf("waited %s", d)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		at := time.Now().Add(20 * time.Second).UTC().Format(http.TimeFormat)
		if d := retryAfter(http.Header{"Retry-After": {at}}); d < 19*time.Second || d > 20*time.Second {
			t.Fatal(d)
		}
	})
	if err := parseResponseError(429, http.Header{"Retry-After": {"61"}}, nil); c.pause(t.Context(), 1, err) != err {
		t.Fatal("waits for more than a minute")
	}
}

func TestCancelEndsATransfer(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	l := r.Put("app", "v1", registrytest.Image{Size: 100_000}).Layers[0]
	r.Fault(http.MethodGet, "/blobs/", registrytest.Always, registrytest.Stall(50_000))
	ctx, cancel := context.WithCancel(t.Context())
	repo := newClient(t, Config{Stall: time.Hour}).Repository(named(t, r.Host+"/app"), nil)
	rc, err := repo.Blob(ctx, l, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if _, err := io.ReadFull(rc, make([]byte, 50_000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := rc.Read(make([]byte, 1)); err != context.Canceled {
		t.Fatal(err)
	}
}

func TestBlobIgnoresForeignURLs(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	w := registrytest.NewWitness(t, "", false, []byte("foreign"))
	l := r.Put("app", "v1", registrytest.Image{Foreign: []string{w.URL + "/layer"}}).Layers[0]
	if err := fetch(t.Context(), newClient(t, Config{}).Repository(named(t, r.Host+"/app"), nil), l); err != nil {
		t.Fatal(err)
	}
	if all := w.Requests(); len(all) != 0 {
		t.Fatalf("%+v", all)
	}
}

func TestBadDescriptors(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	put := r.Put("app", "v1", registrytest.Image{})
	repo := newClient(t, Config{}).Repository(named(t, r.Host+"/app"), nil)
	for _, bad := range []digest.Digest{"", "sha256:../../../etc/passwd", "sha256:abc", "md5:d41d8cd98f00b204e9800998ecf8427e", "x"} {
		d := put.Manifest
		d.Digest = bad
		if _, err := repo.Manifest(t.Context(), d); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("manifest %q: %v", bad, err)
		}
		if _, err := repo.Blob(t.Context(), ocispec.Descriptor{Digest: bad, Size: 5}, 0); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("blob %q: %v", bad, err)
		}
	}
	for _, bad := range []string{"", "a/b", "..", "sha256:abc", "tag with spaces", strings.Repeat("x", 200)} {
		if _, err := repo.Resolve(t.Context(), bad); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("tag %q: %v", bad, err)
		}
	}
	for _, d := range []struct{ size, offset int64 }{{-1, 0}, {5, 6}, {5, -1}} {
		if _, err := repo.Blob(t.Context(), ocispec.Descriptor{Digest: put.Config.Digest, Size: d.size}, d.offset); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%+v: %v", d, err)
		}
	}
	if all := r.Requests(http.MethodGet, ""); len(all) != 0 {
		t.Fatalf("asked for %+v", all)
	}
}
