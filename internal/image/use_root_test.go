//go:build root

package image_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/image/imagetest"
)

func (s *site) resolve(t testing.TB, ref string) *image.Image {
	t.Helper()
	i, err := s.images.Resolve(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestLastUse(t *testing.T) {
	root := t.TempDir()
	s := openSite(t, root)
	s.load(t, imagetest.Reader(imagetest.OCI(simple("a:1"))))
	i := s.resolve(t, "a:1")
	if i.LastUsed.Before(i.Tagged) || time.Since(i.LastUsed) > time.Hour {
		t.Error("a loaded image was used", i.LastUsed)
	}
	if _, err := s.images.Remove(ctx, "a:1", image.RemoveOptions{Force: true, InUse: func(image.ID) []image.User { return []image.User{{Container: "c"}} }}); err != nil {
		t.Fatal(err)
	}
	s.images.Touch(i.ID)
	used := s.resolve(t, i.ID.String()).LastUsed
	if !used.After(i.LastUsed) {
		t.Errorf("used at %v, then at %v", i.LastUsed, used)
	}
	s.close()
	s = openSite(t, root)
	if got := s.resolve(t, i.ID.String()).LastUsed; !got.Equal(used) {
		t.Errorf("after a restart %v, want %v", got, used)
	}
	s.close()
	if err := os.WriteFile(filepath.Join(root, "images.used"), nil, 0600); err != nil { // as a power cut may leave it
		t.Fatal(err)
	}
	s = openSite(t, root)
	if got := s.resolve(t, i.ID.String()).LastUsed; got.IsZero() || got.After(used) {
		t.Errorf("without the file %v", got)
	}
}

func TestPin(t *testing.T) {
	root := t.TempDir()
	s := openSite(t, root)
	s.load(t, imagetest.Reader(imagetest.OCI(simple("a:1", "a:2"))))
	id, err := s.images.Pin(ctx, "a:1", true)
	if err != nil || !s.resolve(t, "a:2").Pinned {
		t.Fatal(id, err)
	}
	s.close()
	s = openSite(t, root)
	if !s.resolve(t, "a:1").Pinned {
		t.Fatal("a restart takes the pin off")
	}
	if _, err := s.images.Remove(ctx, "a:1", image.RemoveOptions{}); err != nil {
		t.Error("one of two names cannot be removed:", err)
	}
	for _, o := range []image.RemoveOptions{{}, {Force: true, KeepPinned: true}} {
		for _, ref := range []string{"a:2", id.String()} {
			if _, err := s.images.Remove(ctx, ref, o); !errdefs.Is(err, errdefs.Conflict) {
				t.Errorf("%s, %+v: %v", ref, o, err)
			}
		}
	}
	if _, err := s.images.Remove(ctx, "a:2", image.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	s.load(t, imagetest.Reader(imagetest.OCI(simple("a:1"))))
	if s.resolve(t, "a:1").Pinned {
		t.Error("the pin outlives its image")
	}
	if _, err := s.images.Pin(ctx, "a:1", true); err != nil {
		t.Fatal(err)
	}
	if _, err := s.images.Pin(ctx, "a:1", false); err != nil || s.resolve(t, "a:1").Pinned {
		t.Error(err)
	}
	if _, err := s.images.Pin(ctx, "nosuch", true); !errdefs.Is(err, errdefs.NotFound) {
		t.Error(err)
	}
}

// TestRemovalBesideADamagedImage: what another image needs is not known while it
// is damaged, so nothing is freed; once it is whole again, the next start does,
// whatever has come meanwhile.
func TestRemovalBesideADamagedImage(t *testing.T) {
	root := t.TempDir()
	s := openSite(t, root)
	other, gone := simple("other:1"), simple("gone:1")
	gone.Layers = [][]byte{imagetest.Layer(map[string]string{"gone": "x"})}
	s.load(t, imagetest.Reader(imagetest.OCI(other)))
	kept := s.store(t)
	s.load(t, imagetest.Reader(imagetest.OCI(gone)))
	s.close()
	config := filepath.Join(root, "content/blobs/sha256", other.ID().Encoded())
	if err := os.Rename(config, config+".aside"); err != nil {
		t.Fatal(err)
	}
	s = openSite(t, root)
	if _, err := s.images.Remove(ctx, "gone:1", image.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	s.load(t, imagetest.Reader(imagetest.OCI(imagetest.Image{Names: []string{"new:1"}, Layers: other.Layers[:1]})))
	s.close()
	if err := os.Rename(config+".aside", config); err != nil {
		t.Fatal(err)
	}
	s = openSite(t, root)
	if _, err := s.images.Remove(ctx, "new:1", image.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := s.store(t); !slices.Equal(got, kept) {
		t.Errorf("left %q, want %q", got, kept)
	}
}
