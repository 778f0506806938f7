//go:build root

package image_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/image/imagetest"
	"github.com/tare-engine/tare/internal/registry/registrytest"
)

// packed are the blobs of an image's layers.
func packed(i imagetest.Image) (all [][]byte) {
	for _, l := range i.Layers {
		if i.Pack != nil {
			l = i.Pack(l)
		}
		all = append(all, l)
	}
	return all
}

// cut shortens stored blobs.
func (s *site) cut(t *testing.T, blobs ...[]byte) {
	t.Helper()
	for _, b := range blobs {
		if err := os.Truncate(filepath.Join(s.root, "content/blobs/sha256", digest.FromBytes(b).Encoded()), int64(len(b))/2); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTruncatedBlobsComeAnew with whatever brings them.
func TestTruncatedBlobsComeAnew(t *testing.T) {
	for name, pack := range map[string]func([]byte) []byte{"plain": nil, "gzip": imagetest.Gzip} {
		old := simple("old:1")
		old.Pack = pack
		for way, come := range map[string]func(t *testing.T, s *site){
			"load": func(t *testing.T, s *site) { s.load(t, imagetest.Reader(imagetest.OCI(old))) },
			"pull": func(t *testing.T, s *site) {
				r := newRemote()
				r.tags["1"] = r.image(old)
				if _, _, err := s.pull(ctx, t, "new:1", r, image.PullOptions{}); err != nil {
					t.Fatal(err)
				}
			},
		} {
			t.Run(way+" "+name, func(t *testing.T) {
				s := openSite(t, t.TempDir())
				s.load(t, imagetest.Reader(imagetest.OCI(old)))
				s.whole(t)
				s.cut(t, append(packed(old), old.Config())...)
				come(t, s)
				s.whole(t)
			})
		}
	}
}

// TestBringOfATruncatedBlob: what it was packed in is of no use.
func TestBringOfATruncatedBlob(t *testing.T) {
	for name, pack := range map[string]func([]byte) []byte{"plain": nil, "gzip": imagetest.Gzip} {
		t.Run(name, func(t *testing.T) {
			s := openSite(t, t.TempDir())
			old, more := simple("old:1"), simple("more:1")
			old.Pack = pack
			s.load(t, imagetest.Reader(imagetest.OCI(old)))
			s.cut(t, packed(old)...)
			more.Layers = append(more.Layers, imagetest.Layer(map[string]string{"c": "three"}))
			_, g := dockerOf(t, "overlay2", more)
			if b, said, err := s.bring(g, more, false); err != nil || len(b.Came) != 3 {
				t.Fatal(b, said, err)
			}
			if damaged, _ := s.verify(t, nil, "more:1"); len(damaged) > 0 {
				t.Error(damaged)
			}
		})
	}
}

func TestPushOfATruncatedBlob(t *testing.T) {
	s, to, c := openSite(t, t.TempDir()), registrytest.New(t, registrytest.Options{}), client(t)
	i := simple(to.Host + "/x:1")
	s.load(t, imagetest.Reader(imagetest.OCI(i)))
	s.cut(t, packed(i)...)
	if _, err := s.push(t, c, to.Host+"/x:1", image.PushOptions{}); err == nil || !strings.Contains(err.Error(), "is not whole") {
		t.Error(err)
	}
}
