//go:build root

package image_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tare-engine/tare/internal/image"
)

// BenchmarkLoad loads the archives of TARE_IMAGES, each into an empty store.
// Removing a store just before makes ext4 avoid its inodes for some seconds,
// which costs more than the load: read the first round only.
func BenchmarkLoad(b *testing.B) {
	files, _ := filepath.Glob(filepath.Join(os.Getenv("TARE_IMAGES"), "*.tar*"))
	if len(files) == 0 {
		b.Skip("TARE_IMAGES names no directory of images")
	}
	for _, name := range files {
		b.Run(filepath.Base(name), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				root, err := os.MkdirTemp("", "load-")
				if err != nil {
					b.Fatal(err)
				}
				s := openSite(b, root)
				f, err := os.Open(name)
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if _, err := s.images.Load(ctx, f, image.LoadOptions{Quiet: true}); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				f.Close()
				s.close()
				os.RemoveAll(root)
				b.StartTimer()
			}
		})
	}
}
