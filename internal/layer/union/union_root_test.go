//go:build root

package union_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/layer/layertest"
	"github.com/tare-engine/tare/internal/layer/union"
	"github.com/tare-engine/tare/internal/linux/idmap"
	aufs "github.com/tare-engine/tare/internal/union"
)

func newDriver(t *testing.T, root string) layer.Driver {
	t.Helper()
	d, err := union.New(self(t), root)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestSuite(t *testing.T) { layertest.Run(t, newDriver) }

func TestOnOtherFileSystems(t *testing.T) {
	for _, f := range []layertest.FileSystem{{Kind: "xfs"}, {Kind: "btrfs"}} {
		t.Run(f.Kind, func(t *testing.T) { layertest.RunSomeOn(t, f, newDriver) })
	}
}

// TestOnOverlayfs: a data root on overlayfs is what the driver is chosen for.
func TestOnOverlayfs(t *testing.T) {
	ctx := context.Background()
	root := layertest.MountOverlay(t)
	d := newDriver(t, root)
	s, err := layer.Open(layer.Config{Root: root, Driver: d})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := layertest.Tar(t, layertest.File{Name: "f", Data: "1"}, layertest.File{Name: "gone"})
	chain, err := s.Apply(ctx, "", digest.FromBytes(b), bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Prepare(ctx, "c", chain, layer.Options{}); err != nil {
		t.Fatal(err)
	}
	m, err := s.Mount(ctx, "c", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	at := fmt.Sprintf("/proc/self/fd/%d/", m.Fd())
	if err := errors.Join(os.WriteFile(at+"f", []byte("2"), 0o600), os.Remove(at+"gone")); err != nil {
		t.Fatal(err)
	}
	list, err := s.Changes(ctx, "c", nil)
	if err != nil || fmt.Sprint(list) != "[{0 /f} {2 /gone}]" {
		t.Errorf("changes: %v, %v", list, err)
	}
	ns, err := idmap.Open([]idmap.Range{{Outside: 300000, Size: 10}}, []idmap.Range{{Outside: 300000, Size: 10}})
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if err := s.MapsIDs(ctx, ns); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("overlayfs maps ids: %v", err)
	}
}

// TestUsageIsOfTheContainer: what the union keeps for itself is no part of it, names of
// files that were copied up with several names among it.
func TestUsageIsOfTheContainer(t *testing.T) {
	m := mountOne(t, 0)
	ctx := context.Background()
	before, err := m.Usage(ctx, "c")
	if err != nil {
		t.Fatal(err)
	}
	if before.Inodes != 1 || before.Bytes != 0 {
		t.Errorf("an empty one has %d inodes and %d bytes", before.Inodes, before.Bytes)
	}
	if err := os.WriteFile(filepath.Join(m.root, "containers/c/rw", aufs.LinkDir, "7"), []byte("left"), 0o600); err != nil {
		t.Fatal(err)
	}
	if after, err := m.Usage(ctx, "c"); err != nil || after != before {
		t.Errorf("with a copy that has no name: %v (%v), before %v", after, err, before)
	}
	if err := os.WriteFile(filepath.Join(m.at, "f"), []byte("four"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(m.root, "containers/c/rw/f"), filepath.Join(m.root, "containers/c/rw", aufs.LinkDir, "8")); err != nil {
		t.Fatal(err)
	}
	if after, err := m.Usage(ctx, "c"); err != nil || after.Inodes != 2 || after.Bytes != 4 {
		t.Errorf("with a file of two names: %v (%v)", after, err)
	}
}

func TestWhatCannotBe(t *testing.T) {
	root := t.TempDir()
	for option, want := range map[string]string{
		"aufs.foo=1": "unknown option aufs.foo: storage driver union has none",
		"nokey":      "Unable to parse key/value option: nokey",
	} {
		if _, err := union.New(self(t), root, option); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", option, err, want)
		}
	}
	if _, err := union.New(self(t), root+"/a:b"); err == nil || !strings.Contains(err.Error(), "a colon, a comma or a line break") {
		t.Errorf("a data root with a colon: %v", err)
	}
	if _, err := union.New("/nowhere/tare-union", root); err == nil || !strings.Contains(err.Error(), "/nowhere/tare-union") {
		t.Errorf("without the program: %v", err)
	}
	if _, err := newDriver(t, root).Limit(map[string]string{"size": "1G"}); err == nil || err.Error() != "--storage-opt is not supported for aufs" {
		t.Errorf("a size: %v", err)
	}
}
