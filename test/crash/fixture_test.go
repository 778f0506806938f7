//go:build root && failpoint

package crash

import "github.com/tare-engine/tare/test/fixture"

// rootfs returns a directory with busybox.
func (b *box) rootfs() string {
	if err := fixture.Rootfs(b.path("rootfs")); err != nil {
		b.t.Fatal(err)
	}
	return b.path("rootfs")
}

// archive returns an image archive of two layers.
func (b *box) archive() string {
	if err := fixture.Archive(b.path("image.tar")); err != nil {
		b.t.Fatal(err)
	}
	return b.path("image.tar")
}
