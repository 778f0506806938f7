package registry

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/registry/registrytest"
)

func marshalKey(key any) ([]byte, error) { return x509.MarshalPKCS8PrivateKey(key) }

func blobOf(b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

func opener(b []byte) func(int64) (io.ReadCloser, error) {
	return func(offset int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b[offset:])), nil
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestPush(t *testing.T) {
	for _, kind := range []registrytest.Auth{registrytest.None, registrytest.Basic, registrytest.Token} {
		r := registrytest.New(t, registrytest.Options{TLS: true, Auth: kind})
		repo := newClient(t, Config{}).Repository(named(t, r.Host+"/team/new"), alice)
		var m ocispec.Manifest
		m.SchemaVersion, m.MediaType = 2, ocispec.MediaTypeImageManifest
		for _, b := range [][]byte{[]byte(`{"architecture":"amd64"}`), noise(300_000), {}} {
			d := blobOf(b)
			if has, err := repo.Has(t.Context(), d); has || err != nil {
				t.Fatal(has, err)
			}
			var sent atomic.Int64
			if err := repo.PushBlob(t.Context(), d, opener(b), sent.Store); err != nil {
				t.Fatal(err)
			}
			if got, ok := r.Blob("team/new", d.Digest); !ok || !bytes.Equal(got, b) || sent.Load() != d.Size {
				t.Fatalf("%v, %d bytes, %d said", ok, len(got), sent.Load())
			}
			if has, err := repo.Has(t.Context(), d); !has || err != nil {
				t.Fatal(has, err)
			}
			m.Layers = append(m.Layers, d)
		}
		m.Config = m.Layers[0]
		doc := marshal(t, m)
		got, err := repo.PushManifest(t.Context(), "v1", m.MediaType, doc)
		if err != nil || got != digest.FromBytes(doc) {
			t.Fatal(got, err)
		}
		d, err := repo.Resolve(t.Context(), "v1")
		if err != nil || d.Digest != got {
			t.Fatal(d, err)
		}
		if has, err := repo.Has(t.Context(), d); !has || err != nil {
			t.Fatal(has, err)
		}
	}
}

func TestPushGoesOnWhereItBroke(t *testing.T) {
	b := noise(500_000)
	d := blobOf(b)
	for _, tc := range []struct {
		name   string
		method string
		times  int
		fault  registrytest.Fault
		least  int64 // offset from which it was read last
		want   string
	}{
		{"cut", http.MethodPatch, 1, registrytest.CutUpload(200_000), 200_000, ""},
		{"500 to the bytes", http.MethodPatch, 2, registrytest.Status(500), 0, ""},
		{"500 at the end", http.MethodPut, 2, registrytest.Status(500), 0, ""},
		{"503 at the start", http.MethodPost, 2, registrytest.Status(503), 0, ""},
		{"429", http.MethodPatch, 1, registrytest.TooMany("0"), 0, ""},
		{"hang", http.MethodPost, 1, registrytest.Hang, 0, ""},
		{"hang after the bytes", http.MethodPatch, 1, registrytest.Hang, 0, ""},
		{"500 always", http.MethodPatch, registrytest.Always, registrytest.Status(500), 0, "received unexpected HTTP status: 500 Internal Server Error"},
		{"denied", http.MethodPost, registrytest.Always, registrytest.Deny(403, "DENIED", "requested access to the resource is denied"), 0, "denied: requested access to the resource is denied"},
		{"digest refused", http.MethodPut, registrytest.Always, registrytest.Deny(400, "DIGEST_INVALID", "provided digest did not match uploaded content"), 0, "digest invalid: provided digest did not match"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := registrytest.New(t, registrytest.Options{})
			r.Fault(tc.method, "/uploads/", tc.times, tc.fault)
			repo := newClient(t, Config{Stall: patience(tc.name)}).Repository(named(t, r.Host+"/app"), nil)
			var last atomic.Int64
			open := func(offset int64) (io.ReadCloser, error) {
				last.Store(offset)
				return opener(b)(offset)
			}
			err := repo.PushBlob(t.Context(), d, open, nil)
			if tc.want != "" {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Fatal(err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := r.Blob("app", d.Digest); !ok || !bytes.Equal(got, b) || last.Load() != tc.least {
				t.Fatalf("%v, %d bytes, last read from %d", ok, len(got), last.Load())
			}
		})
	}
}

func TestUploadStaysEncrypted(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{TLS: true, Auth: registrytest.Basic})
	b := noise(1000)
	repo := newClient(t, Config{}).Repository(named(t, r.Host+"/app"), alice)
	r.Fault(http.MethodPost, "/uploads/", 1, registrytest.Edit(func(h http.Header) {
		h.Set("Location", strings.Replace(h.Get("Location"), "https://", "http://", 1))
	}))
	if err := repo.PushBlob(t.Context(), blobOf(b), opener(b), nil); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.Blob("app", blobOf(b).Digest); !ok {
		t.Fatal("not there")
	}
}

func TestPushEndsWithItsSource(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	repo := newClient(t, Config{}).Repository(named(t, r.Host+"/app"), nil)
	broken := errors.New("the disk is gone")
	d := blobOf(noise(1000))
	n := 0
	err := repo.PushBlob(t.Context(), d, func(int64) (io.ReadCloser, error) { n++; return nil, broken }, nil)
	if !errors.Is(err, broken) || n != 1 {
		t.Fatal(n, err)
	}
	err = repo.PushBlob(t.Context(), d, func(int64) (io.ReadCloser, error) {
		n++
		return io.NopCloser(io.MultiReader(bytes.NewReader(make([]byte, 10)), failing{broken})), nil
	}, nil)
	if err == nil || !strings.Contains(err.Error(), broken.Error()) || n != 2 {
		t.Fatal(n, err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestMount(t *testing.T) {
	for _, kind := range []registrytest.Auth{registrytest.None, registrytest.Token} {
		r := registrytest.New(t, registrytest.Options{TLS: true, Auth: kind})
		l := r.Put("base", "v1", registrytest.Image{}).Layers[0]
		repo := newClient(t, Config{}).Repository(named(t, r.Host+"/app"), alice)
		if ok, err := repo.Mount(t.Context(), l, "base"); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if _, ok := r.Blob("app", l.Digest); !ok {
			t.Fatal("not there")
		}
		if ok, err := repo.Mount(t.Context(), blobOf([]byte("not there")), "base"); ok || err != nil {
			t.Fatal(ok, err)
		}
		if n := len(r.Requests(http.MethodDelete, "/uploads/")); n != 1 {
			t.Fatalf("%d uploads ended", n)
		}
		if n := len(r.Requests(http.MethodPatch, "")); n != 0 {
			t.Fatalf("%d uploads", n)
		}
	}
}

func TestPushIsRefused(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{TLS: true, Auth: registrytest.Basic})
	repo := newClient(t, Config{}).Repository(named(t, r.Host+"/app"), nil)
	b := []byte("x")
	err := repo.PushBlob(t.Context(), blobOf(b), opener(b), nil)
	if !errdefs.Is(err, errdefs.Unauthorized) || err.Error() != "no basic auth credentials" {
		t.Fatal(err)
	}
	if _, err := repo.PushManifest(t.Context(), "v1", ocispec.MediaTypeImageManifest, b); !errdefs.Is(err, errdefs.Unauthorized) {
		t.Fatal(err)
	}
}
