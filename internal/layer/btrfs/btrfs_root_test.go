//go:build root

package btrfs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/layer/btrfs"
	"github.com/tare-engine/tare/internal/layer/layertest"
	subvolume "github.com/tare-engine/tare/internal/linux/btrfs"
)

func newDriver(t *testing.T, root string) layer.Driver {
	t.Helper()
	d, err := btrfs.New(root)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestSuite(t *testing.T) { layertest.RunOn(t, layertest.FileSystem{Kind: "btrfs"}, newDriver) }

func TestSuiteWithQuota(t *testing.T) {
	layertest.RunSomeOn(t, layertest.FileSystem{Kind: "btrfs"}, func(t *testing.T, root string) layer.Driver {
		d, err := btrfs.New(root, "btrfs.min_space=1M")
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}

// TestNestedSubvolumes: what a container makes of subvolumes goes with it.
func TestNestedSubvolumes(t *testing.T) {
	root, err := layertest.FileSystem{Kind: "btrfs"}.TryMount(t)
	if err != nil {
		t.Fatal(err)
	}
	s, err := layer.Open(layer.Config{Root: root, Driver: newDriver(t, root)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := context.Background()
	if err := s.Prepare(ctx, "c", "", layer.Options{}); err != nil {
		t.Fatal(err)
	}
	m, err := s.Mount(ctx, "c", nil)
	if err != nil {
		t.Fatal(err)
	}
	in := fmt.Sprintf("/proc/self/fd/%d", m.Fd())
	err = errors.Join(os.MkdirAll(in+"/a/b", 0o755), subvolume.Create(in+"/a/b/s"), os.WriteFile(in+"/a/b/s/f", nil, 0o600),
		subvolume.Create(in+"/a/b/s/t"), subvolume.Snapshot(in+"/a/b/s", in+"/u"))
	m.Close()
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.Changes(ctx, "c", nil)
	if err != nil || len(list) != 8 {
		t.Errorf("changes %v, %v", list, err)
	}
	if err := s.Remove(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left, err := os.ReadDir(filepath.Join(root, "trash"))
		if err == nil && len(left) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("left %v, %v", left, err)
		}
	}
	out, err := exec.Command("btrfs", "subvolume", "list", root).Output()
	if err != nil || strings.Contains(string(out), "/s") || strings.Contains(string(out), "trash") {
		t.Errorf("%v: left\n%s", err, out)
	}
}

func TestWhatCannotBe(t *testing.T) {
	elsewhere, err := layertest.FileSystem{Kind: "ext4", Size: "64M"}.TryMount(t)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := btrfs.New(elsewhere); err == nil || err.Error() != "storage driver btrfs needs a data root on btrfs, and "+elsewhere+" is not: prerequisites for driver not satisfied (wrong filesystem?)" {
		t.Errorf("on ext4: %v", err)
	}
	root, err := layertest.FileSystem{Kind: "btrfs"}.TryMount(t)
	if err != nil {
		t.Fatal(err)
	}
	for option, want := range map[string]string{
		"btrfs.foo=1":       "Unknown option btrfs.foo",
		"nokey":             "Unable to parse key/value option: nokey",
		"btrfs.min_space=x": "invalid size: 'x'",
	} {
		if _, err := btrfs.New(root, option); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", option, err, want)
		}
	}
	d, err := btrfs.New(root, "btrfs.min_space=10G")
	if err != nil {
		t.Fatal(err)
	}
	for size, want := range map[string]string{"1G": "btrfs: storage size cannot be less than 10.74GB", "0": "btrfs: invalid storage size: 0B", "x": "invalid size: 'x'"} {
		if _, err := d.Limit(map[string]string{"size": size}); err == nil || err.Error() != want {
			t.Errorf("size=%s: %v, want %s", size, err, want)
		}
	}
}
