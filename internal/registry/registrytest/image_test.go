package registrytest

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

func TestImages(t *testing.T) {
	r := New(t, Options{})
	for name, img := range map[string]Image{
		"plain":  {},
		"docker": {Docker: true, Layers: 3},
		"list":   {Docker: true, Index: true},
		"mixed":  {Index: true, Layers: 3, Compression: []string{"gzip", "zstd", "none"}, Seed: 7, Size: 100},
	} {
		p := r.Put("kinds/"+name, "v1", img)
		if len(p.Layers) != max(img.Layers, 1) || len(p.DiffIDs) != len(p.Layers) {
			t.Fatalf("%s: %+v", name, p)
		}
		for i, l := range p.Layers {
			b, ok := r.Blob("kinds/"+name, l.Digest)
			if !ok || int64(len(b)) != l.Size {
				t.Fatalf("%s: layer %d: %v, %d bytes", name, i, ok, len(b))
			}
			if d := digest.FromBytes(expand(t, l.MediaType, b)); d != p.DiffIDs[i] {
				t.Fatalf("%s: layer %d has diff ID %s, not %s", name, i, d, p.DiffIDs[i])
			}
		}
		if !img.Index && p.Top.Digest != p.Manifest.Digest || img.Index && p.Top.Digest == p.Manifest.Digest {
			t.Fatalf("%s: %+v", name, p)
		}
	}
	if n := len(r.Requests(http.MethodGet, "")); n != 0 {
		t.Fatalf("%d requests were counted", n)
	}
}

func expand(t *testing.T, mediaType string, b []byte) []byte {
	t.Helper()
	var rd io.Reader = bytes.NewReader(b)
	var err error
	switch {
	case strings.HasSuffix(mediaType, "gzip"):
		rd, err = gzip.NewReader(rd)
	case strings.HasSuffix(mediaType, "zstd"):
		rd, err = zstd.NewReader(rd)
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(rd)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestBomb(t *testing.T) {
	r := New(t, Options{})
	d := r.PutBomb("app", 50<<20)
	b, ok := r.Blob("app", d.Digest)
	if !ok || d.Size > 1<<20 || len(expand(t, d.MediaType, b)) != 50<<20 {
		t.Fatalf("%v, %d bytes", ok, d.Size)
	}
}
