//go:build root

package image_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/image/imagetest"
	"github.com/tare-engine/tare/internal/layer"
)

// TestLayersOfAnImageThatCameBackStay: it was removed while a container stood on
// it, and came again before the container went.
func TestLayersOfAnImageThatCameBackStay(t *testing.T) {
	s := openSite(t, t.TempDir())
	i := simple("a:1")
	s.load(t, imagetest.Reader(imagetest.Docker(i)))
	if err := s.layers.Prepare(ctx, "c1", s.resolve(t, "a:1").Chain, layer.Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.images.Remove(ctx, "a:1", image.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	s.load(t, imagetest.Reader(imagetest.Docker(i)))
	if err := s.layers.Remove(ctx, "c1"); err != nil {
		t.Fatal(err)
	}
	s.whole(t)
	if f := s.read(t, s.resolve(t, "a:1"), "a"); f != "two" {
		t.Errorf("a: %q", f)
	}
}

// TestLayersTakeThePlaceOfWhatAKilledRemovalLeft: a directory without a record.
func TestLayersTakeThePlaceOfWhatAKilledRemovalLeft(t *testing.T) {
	root := t.TempDir()
	s := openSite(t, root)
	i := simple("a:1")
	s.load(t, imagetest.Reader(imagetest.Docker(i)))
	found, err := filepath.Glob(filepath.Join(root, "layers/overlay/*/layer.json"))
	if err != nil || len(found) != len(i.Layers) {
		t.Fatal(found, err)
	}
	if _, err := s.images.Remove(ctx, "a:1", image.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, record := range found {
		if err := os.MkdirAll(filepath.Join(filepath.Dir(record), "diff"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.load(t, imagetest.Reader(imagetest.Docker(i)))
	s.whole(t)
	if f := s.read(t, s.resolve(t, "a:1"), "a"); f != "two" {
		t.Errorf("a: %q", f)
	}
}
