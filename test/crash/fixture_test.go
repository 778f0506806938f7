//go:build root && failpoint

package crash

import (
	"archive/tar"
	"github.com/opencontainers/go-digest"
	"io"
	"os"

	"github.com/tare-engine/tare/internal/dataroot/dataroottest"
	"github.com/tare-engine/tare/test/fixture"
)

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

// docker returns a data root of Docker with the archive's image.
func (b *box) docker() string {
	b.t.Helper()
	dir := b.path("docker")
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	f, err := os.Open(b.archive())
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	members := map[string][]byte{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			b.t.Fatal(err)
		}
		if members[h.Name], err = io.ReadAll(r); err != nil {
			b.t.Fatal(err)
		}
	}
	dataroottest.Docker(b.t, dir, "overlay2", dataroottest.Image{
		Config: members["config.json"], Tags: []string{"another/image:1"}, Layers: [][]byte{members["1.tar"], members["2.tar"]},
	})
	dataroottest.DockerObjects(b.t, dir, digest.FromBytes(members["config.json"]))
	return dir
}
