//go:build root

package snapshot

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/testsuite"
	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/layer/layertest"
	"github.com/tare-engine/tare/internal/layer/overlay"
	"github.com/tare-engine/tare/internal/layer/vfs"
)

var drivers = map[string]func(root string) (layer.Driver, error){
	"overlay": func(root string) (layer.Driver, error) { return overlay.New(root) },
	"vfs":     func(root string) (layer.Driver, error) { return vfs.New(root) },
	"branches": func(root string) (layer.Driver, error) {
		d, err := vfs.New(root)
		return branches{d}, err
	},
}

// branches stands for the driver union: nobody is lent layers of its form.
type branches struct{ *vfs.Driver }

func (branches) Form() layer.Form { return layer.Branches }

// TestMain leaves one case of containerd's suite out: without redirect_dir overlayfs
// does not rename directories of lower layers (EXDEV, and mv copies), in builds as in
// containers, of Docker too.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.skip", "TestSuite/(overlay|branches)/Rename$"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// open makes a snapshotter in the data root root.
func open(ctx context.Context, root, driver string) (*Snapshotter, *layer.Service, error) {
	d, err := drivers[driver](root)
	if err != nil {
		return nil, nil, err
	}
	cache := filepath.Join(root, "build", driver)
	if err := os.MkdirAll(cache, 0700); err != nil {
		return nil, nil, err
	}
	layers, err := layer.Open(layer.Config{Root: root, Driver: d, Lent: Dir(cache)})
	if err != nil {
		return nil, nil, err
	}
	s, err := Open(ctx, cache, layers)
	if err != nil {
		return nil, nil, errors.Join(err, layers.Close())
	}
	return s, layers, nil
}

// TestSuite is containerd's own.
func TestSuite(t *testing.T) {
	for driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			testsuite.SnapshotterSuite(t, driver, func(ctx context.Context, root string) (snapshots.Snapshotter, func() error, error) {
				s, layers, err := open(ctx, root, driver)
				if err != nil {
					return nil, nil, err
				}
				return s, func() error { return errors.Join(s.Close(), layers.Close()) }, nil
			})
		})
	}
}

// TestStepsAreStacked: where overlayfs can be had a step holds what it changes, also
// with a driver whose layers are not lent; a cache of another form is not used.
func TestStepsAreStacked(t *testing.T) {
	ctx, root := t.Context(), t.TempDir()
	s, layers, err := open(ctx, root, "branches")
	if err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	for i, parent := range []string{"", "step0", "step1"} {
		key := fmt.Sprint("key", i)
		mounts, err := s.Prepare(ctx, key, parent)
		if err != nil {
			t.Fatal(err)
		}
		if err := mount.All(mounts, at); err != nil {
			t.Fatal(err)
		}
		for j := range i {
			if _, err := os.Stat(filepath.Join(at, fmt.Sprint("f", j))); err != nil {
				t.Error(err)
			}
		}
		err = os.WriteFile(filepath.Join(at, fmt.Sprint("f", i)), make([]byte, 1<<20), 0o644)
		if err = errors.Join(err, mount.UnmountAll(at, 0)); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(ctx, fmt.Sprint("step", i), key); err != nil {
			t.Fatal(err)
		}
		if u, err := s.Usage(ctx, fmt.Sprint("step", i)); err != nil || u.Size > 3<<19 {
			t.Errorf("step %d takes %d bytes, %v", i, u.Size, err)
		}
	}
	if err := errors.Join(s.Close(), layers.Close()); err != nil {
		t.Fatal(err)
	}
	again := func(want error) {
		t.Helper()
		s, layers, err := open(ctx, root, "branches")
		if !errors.Is(err, want) {
			t.Fatalf("%v, want %v", err, want)
		}
		if err == nil {
			err = errors.Join(s.Close(), layers.Close())
		}
		if want == nil && err != nil {
			t.Error(err)
		}
	}
	again(nil)
	// As a version before has left it, which copied.
	if err := os.Remove(filepath.Join(root, "build/branches/stacked")); err != nil {
		t.Fatal(err)
	}
	again(ErrDamaged)
}

// TestLentLayersStay: as long as a snapshot stands on them, also over a restart.
func TestLentLayersStay(t *testing.T) {
	ctx, root := t.Context(), t.TempDir()
	s, layers, err := open(ctx, root, "overlay")
	if err != nil {
		t.Fatal(err)
	}
	tar := layertest.Tar(t, layertest.File{Name: "a", Data: "x"})
	chain, err := layers.Apply(ctx, "", digest.FromBytes(tar), bytes.NewReader(tar))
	if err != nil {
		t.Fatal(err)
	}
	label := snapshots.WithLabels(map[string]string{LabelChain: chain.String()})
	if _, err := s.Prepare(ctx, "key", "", label); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(ctx, "lent", "key"); err != nil {
		t.Fatal(err)
	}
	if u, err := s.Usage(ctx, "lent"); err != nil || u.Size != 0 {
		t.Error("a lent layer takes", u, err)
	}
	if _, err := s.Prepare(ctx, "top", "lent"); err != nil {
		t.Fatal(err)
	}
	if err := layers.RemoveChain(chain); err != nil || !layers.Has(chain) {
		t.Fatal("the layer went while it was lent:", err)
	}
	if err := errors.Join(s.Close(), layers.Close()); err != nil {
		t.Fatal(err)
	}
	if s, layers, err = open(ctx, root, "overlay"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = errors.Join(s.Close(), layers.Close()) }()
	if err := layers.Prune(nil); err != nil || !layers.Has(chain) {
		t.Fatal("the layer went after a restart:", err)
	}
	m, err := s.Mounts(ctx, "top")
	if err != nil || len(m) != 1 || m[0].Type != "overlay" {
		t.Fatal(m, err)
	}
	for _, key := range []string{"top", "lent"} {
		if err := s.Remove(ctx, key); err != nil {
			t.Fatal(err)
		}
	}
	if layers.Has(chain) {
		t.Error("nobody needs the layer, and it is there")
	}
}

// TestLayersTakeThePlaceOfSnapshots: of a snapshot whose files a layer has too. What is
// mounted goes on, what is mounted next has the layer's, and so has the next run.
func TestLayersTakeThePlaceOfSnapshots(t *testing.T) {
	ctx, root := t.Context(), t.TempDir()
	s, layers, err := open(ctx, root, "overlay")
	if err != nil {
		t.Fatal(err)
	}
	tar := layertest.Tar(t, layertest.File{Name: "a", Data: "x"})
	chain, err := layers.Apply(ctx, "", digest.FromBytes(tar), bytes.NewReader(tar))
	if err != nil {
		t.Fatal(err)
	}
	for i, key := range []string{"below", "built"} {
		if _, err := s.Prepare(ctx, "key", []string{"", "below"}[i]); err != nil {
			t.Fatal(err)
		}
		made, err := s.Mounts(ctx, "key")
		if err != nil {
			t.Fatal(err)
		}
		if err := mount.WithTempMount(ctx, made, func(dir string) error { return os.WriteFile(filepath.Join(dir, key), []byte("x"), 0o600) }); err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(ctx, key, "key"); err != nil {
			t.Fatal(err)
		}
	}
	view, err := s.View(ctx, "view", "built")
	if err != nil {
		t.Fatal(err)
	}
	has := func(name string) bool {
		t.Helper()
		found := false
		if err := mount.WithReadonlyTempMount(ctx, view, func(dir string) error {
			_, err := os.Stat(filepath.Join(dir, name))
			found = err == nil
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return found
	}
	info := snapshots.Info{Name: "built", Labels: map[string]string{LabelChain: chain.String()}}
	if err := mount.WithReadonlyTempMount(ctx, view, func(dir string) error {
		if _, err := s.Update(ctx, info, "labels."+LabelChain); err != nil {
			return err
		}
		if _, err := s.Update(ctx, info, "labels."+LabelChain); err != nil { // again
			return err
		}
		_, err := os.Stat(filepath.Join(dir, "built"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if !has("a") || !has("below") || has("built") {
		t.Error("a mount does not have the layer's files")
	}
	if u, err := s.Usage(ctx, "built"); err != nil || u.Size != 0 {
		t.Error("what a layer has takes", u, err)
	}
	own, _ := filepath.Glob(filepath.Join(Dir(s.root), "*", "own"))
	if len(own) != 1 {
		t.Fatalf("own directories: %q", own)
	}
	if more, err := s.DropOwn(time.Now().Add(-time.Hour)); !more || err != nil {
		t.Error("a directory goes too early:", err)
	}
	if err := layers.RemoveChain(chain); err != nil || !layers.Has(chain) {
		t.Fatal("the layer went while it was lent:", err)
	}
	if err := errors.Join(s.Close(), layers.Close()); err != nil { // as a killed engine leaves it
		t.Fatal(err)
	}
	if s, layers, err = open(ctx, root, "overlay"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = errors.Join(s.Close(), layers.Close()) }()
	if left, _ := filepath.Glob(filepath.Join(Dir(s.root), "*", "own")); len(left) != 0 {
		t.Errorf("%q is left", left)
	}
	if err := layers.Prune(nil); err != nil || !has("a") || !has("below") {
		t.Error("the layer's files went with a restart:", err)
	}
	for _, key := range []string{"view", "built"} {
		if err := s.Remove(ctx, key); err != nil {
			t.Fatal(err)
		}
	}
	if layers.Has(chain) {
		t.Error("nobody needs the layer, and it is there")
	}
}

// TestWhatNoArchiveHoldsStays: sockets, attributes. Steps on top of the snapshot find them.
func TestWhatNoArchiveHoldsStays(t *testing.T) {
	ctx, root := t.Context(), t.TempDir()
	s, layers, err := open(ctx, root, "overlay")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = errors.Join(s.Close(), layers.Close()) }()
	tar := layertest.Tar(t, layertest.File{Name: "a", Data: "x"})
	chain, err := layers.Apply(ctx, "", digest.FromBytes(tar), bytes.NewReader(tar))
	if err != nil {
		t.Fatal(err)
	}
	capability := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	for n, c := range []struct {
		what  string
		make  func(dir string) error
		stays bool
	}{
		{"a socket", func(dir string) error { return syscall.Mknod(filepath.Join(dir, "s"), syscall.S_IFSOCK|0o600, 0) }, true},
		{"an attribute", func(dir string) error { return syscall.Setxattr(filepath.Join(dir, "f"), "user.x", []byte("y"), 0) }, true},
		{"a list of rights", func(dir string) error {
			acl := []byte{2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 232, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}
			return syscall.Setxattr(filepath.Join(dir, "f"), "system.posix_acl_access", acl, 0)
		}, true},
		{"a capability", func(dir string) error {
			return syscall.Setxattr(filepath.Join(dir, "f"), "security.capability", capability, 0)
		}, false},
		{"a file", func(string) error { return nil }, false},
	} {
		name := fmt.Sprint("built-", n)
		made, err := s.Prepare(ctx, "key", "")
		if err != nil {
			t.Fatal(err)
		}
		dir := made[0].Source
		if err := errors.Join(os.WriteFile(filepath.Join(dir, "f"), nil, 0o600), c.make(dir), s.Commit(ctx, name, "key")); err != nil {
			t.Fatal(c.what, err)
		}
		info := snapshots.Info{Name: name, Labels: map[string]string{LabelChain: chain.String()}}
		if _, err := s.Update(ctx, info, "labels."+LabelChain); err != nil {
			t.Error(c.what, err)
		}
		if stays := !s.lent(fmt.Sprint(n + 1)); stays != c.stays {
			t.Errorf("%s: the snapshot's own files stay: %v", c.what, stays)
		}
	}
}

// TestDropOwn discards what a layer has replaced.
func TestDropOwn(t *testing.T) {
	ctx, root := t.Context(), t.TempDir()
	s, layers, err := open(ctx, root, "overlay")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = errors.Join(s.Close(), layers.Close()) }()
	tar := layertest.Tar(t, layertest.File{Name: "a", Data: "x"})
	chain, err := layers.Apply(ctx, "", digest.FromBytes(tar), bytes.NewReader(tar))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prepare(ctx, "key", ""); err != nil {
		t.Fatal(err)
	}
	active := snapshots.Info{Name: "key", Labels: map[string]string{LabelChain: chain.String()}}
	if _, err := s.Update(ctx, active, "labels."+LabelChain); err != nil || s.lent("1") {
		t.Error("an active snapshot is replaced:", err)
	}
	if err := s.Commit(ctx, "built", "key"); err != nil {
		t.Fatal(err)
	}
	gone := snapshots.Info{Name: "built", Labels: map[string]string{LabelChain: digest.FromString("gone").String()}}
	if _, err := s.Update(ctx, gone, "labels."+LabelChain); err != nil || s.lent("1") {
		t.Error("a layer that is not there takes its place:", err)
	}
	info := snapshots.Info{Name: "built", Labels: map[string]string{LabelChain: chain.String()}}
	if _, err := s.Update(ctx, info, "labels."+LabelChain); err != nil || !s.lent("1") {
		t.Error(err)
	}
	if more, err := s.DropOwn(time.Now().Add(time.Second)); more || err != nil {
		t.Error(more, err)
	}
	if left, _ := filepath.Glob(filepath.Join(Dir(s.root), "*", "own")); len(left) != 0 {
		t.Errorf("%q is left", left)
	}
}

// TestDamageIsSeen: a cache whose files are gone is not believed.
func TestDamageIsSeen(t *testing.T) {
	ctx, root := t.Context(), t.TempDir()
	s, layers, err := open(ctx, root, "vfs")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prepare(ctx, "key", ""); err != nil {
		t.Fatal(err)
	}
	stray := filepath.Join(Dir(s.root), "99")
	if err := os.Mkdir(stray, 0700); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), layers.Close()); err != nil {
		t.Fatal(err)
	}
	if s, layers, err = open(ctx, root, "vfs"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stray); !os.IsNotExist(err) {
		t.Error("a directory without a snapshot stays:", err)
	}
	id, _ := filepath.Glob(filepath.Join(Dir(s.root), "*"))
	if len(id) != 1 {
		t.Fatal(id)
	}
	if err := errors.Join(os.RemoveAll(id[0]), s.Close(), layers.Close()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := open(ctx, root, "vfs"); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}
