//go:build root

package vfs_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/layer/layertest"
	"github.com/tare-engine/tare/internal/layer/vfs"
	"github.com/tare-engine/tare/internal/linux/disk"
	"github.com/tare-engine/tare/internal/linux/syncfs"
)

func newDriver(t *testing.T, root string) layer.Driver {
	t.Helper()
	d, err := vfs.New(root)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestSuite(t *testing.T) { layertest.Run(t, newDriver) }

func TestSuiteWithReflinks(t *testing.T) {
	layertest.RunSomeOn(t, layertest.FileSystem{Kind: "xfs"}, newDriver)
}

// Project quota is compiled into Debian's kernels; make kernel-test has them.
func TestSuiteWithProjectQuota(t *testing.T) {
	dir := layertest.FileSystem{Kind: "xfs", Mount: "pquota"}.MountQuota(t)
	t.Setenv("TMPDIR", dir)
	layertest.RunSome(t, newDriver)
	d, err := vfs.New(dir, "size=2G")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := d.Limit(nil); n != 2<<30 || err != nil {
		t.Errorf("size of all: %d, %v", n, err)
	}
}

// TestCopiesShareData: where the file system has reflinks a container costs no
// copy of its image.
func TestCopiesShareData(t *testing.T) {
	for _, kind := range []string{"xfs", "btrfs"} {
		t.Run(kind, func(t *testing.T) {
			root, err := layertest.FileSystem{Kind: kind}.TryMount(t)
			if err != nil {
				t.Fatal(err)
			}
			s, err := layer.Open(layer.Config{Root: root, Driver: newDriver(t, root)})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			data := make([]byte, 64<<20)
			_, _ = rand.NewChaCha8([32]byte{}).Read(data) // it has no errors
			b := layertest.Tar(t, layertest.File{Name: "big", Data: string(data)})
			chain, err := s.Apply(context.Background(), "", digest.FromBytes(b), bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			before := free(t, root)
			if err := s.Prepare(context.Background(), "c", chain, layer.Options{}); err != nil {
				t.Fatal(err)
			}
			if took := before - free(t, root); took > 8<<20 {
				t.Errorf("a container on 64 MB took %d bytes", took)
			}
		})
	}
}

func free(t *testing.T, root string) int64 {
	t.Helper()
	if err := syncfs.All(root); err != nil {
		t.Fatal(err)
	}
	u, err := disk.Of(root)
	if err != nil {
		t.Fatal(err)
	}
	return u.Free
}

func TestWhatCannotBe(t *testing.T) {
	root := t.TempDir()
	for option, want := range map[string]string{
		"vfs.foo=1": "unknown option vfs.foo for vfs",
		"nokey":     "Unable to parse key/value option: nokey",
		"size=x":    "invalid size: 'x'",
		"size=1G":   "Filesystem does not support, or has not enabled quotas",
	} {
		if _, err := vfs.New(root, option); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", option, err, want)
		}
	}
	for option, want := range map[string]string{"size": "Filesystem does not support, or has not enabled quotas", "foo": "Storage opt foo not supported"} {
		if _, err := newDriver(t, root).Limit(map[string]string{option: "1G"}); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", option, err, want)
		}
	}
}
