//go:build root

package image_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/moby/moby/api/types/jsonstream"

	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/layer"
)

// TestRealImages loads what test/images/make.sh made, from the directory
// TARE_IMAGES.
func TestRealImages(t *testing.T) {
	dir := os.Getenv("TARE_IMAGES")
	if dir == "" {
		t.Skip("TARE_IMAGES names no directory of images")
	}
	s := openSite(t, t.TempDir())
	files, _ := filepath.Glob(filepath.Join(dir, "*.tar*"))
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Now()
		got, err := s.images.Load(context.Background(), f, image.LoadOptions{Quiet: true, Out: func(m jsonstream.Message) { t.Log(m.Stream) }})
		f.Close()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		t.Logf("%s: %v %v", name, time.Since(at), got)
		i, err := s.images.Resolve(context.Background(), string(got[0].ID))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.layers.Prepare(context.Background(), "c"+i.ID.Encoded()[:12], i.Chain, layer.Options{}); err != nil {
			t.Fatal(err)
		}
		at = time.Now()
		m, err := s.layers.Mount(context.Background(), "c"+i.ID.Encoded()[:12], nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Log("mount", time.Since(at))
		m.Close()
		ch, err := s.layers.Changes(context.Background(), "c"+i.ID.Encoded()[:12], nil)
		if err != nil || len(ch) > 0 {
			t.Errorf("fresh container: changes %v, %v", ch, err)
		}
		if err := s.layers.Remove(context.Background(), "c"+i.ID.Encoded()[:12]); err != nil {
			t.Error(err)
		}
	}
}
