//go:build root

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestDriversByName(t *testing.T) {
	for name, want := range map[string]string{"overlay": "overlay", "overlay2": "overlay", "vfs": "vfs", "": "overlay"} {
		d, err := openDriver(name, t.TempDir(), nil)
		if err != nil || d.Name() != want {
			t.Errorf("%q: %v, %v", name, d, err)
		}
	}
	for name, want := range map[string]string{
		"zfs":   "error initializing graphdriver: driver not supported: zfs (want one of overlay, btrfs, union, vfs, devicemapper)",
		"btrfs": "error initializing graphdriver: storage driver btrfs needs a data root on btrfs",
	} {
		if _, err := openDriver(name, t.TempDir(), nil); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := openDriver("", t.TempDir(), []string{"bogus=1"}); err == nil || err.Error() != "error initializing graphdriver: overlay2: unknown option bogus" {
		t.Errorf("unknown option: %v", err)
	}
}

// TestPriorDriver: without a name it is the driver whose layers are there.
func TestPriorDriver(t *testing.T) {
	root := t.TempDir()
	use := func(name string) {
		dir := filepath.Join(root, "layers", name, "x")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "layer.json"), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	use("vfs")
	if d, err := openDriver("", root, nil); err != nil || d.Name() != "vfs" {
		t.Errorf("with layers of vfs: %v, %v", d, err)
	}
	if d, err := openDriver("overlay", root, nil); err != nil || d.Name() != "overlay" {
		t.Errorf("by name: %v, %v", d, err)
	}
	use("overlay")
	if _, err := openDriver("", root, nil); err == nil || !strings.Contains(err.Error(), "contains several valid graphdrivers: overlay, vfs; ") {
		t.Errorf("with layers of two: %v", err)
	}
}

// TestDriverOnOverlayfs: where overlayfs cannot be, and the program of union is
// not there, vfs is used, unless overlay was named.
func TestDriverOnOverlayfs(t *testing.T) {
	tmp := t.TempDir()
	for _, c := range [][]string{
		{"mkdir", tmp + "/l", tmp + "/u", tmp + "/w", tmp + "/m"},
		{"mount", "-t", "overlay", "overlay", "-o", "lowerdir=" + tmp + "/l,upperdir=" + tmp + "/u,workdir=" + tmp + "/w", tmp + "/m"},
	} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", c, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", tmp+"/m").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	if d, err := openDriver("", tmp+"/m", nil); err != nil || d.Name() != "vfs" {
		t.Errorf("without a name: %v, %v", d, err)
	}
	if _, err := openDriver("overlay", tmp+"/m", nil); err == nil || !strings.Contains(err.Error(), "storage driver overlay on "+tmp+"/m") {
		t.Errorf("by name: %v", err)
	}
}
