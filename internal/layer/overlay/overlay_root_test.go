//go:build root

package overlay_test

import (
	"strings"
	"testing"

	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/layer/layertest"
	"github.com/tare-engine/tare/internal/layer/overlay"
)

func newDriver(t *testing.T, root string) layer.Driver {
	t.Helper()
	d, err := overlay.New(root)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestSuite(t *testing.T) { layertest.Run(t, newDriver) }

func TestSuiteOnOldKernels(t *testing.T) {
	t.Setenv("TARE_PROBE", "5.10")
	layertest.Run(t, newDriver)
}

// Kernels before 6.13 take mapped layers only where they are attached.
func TestSuiteOnMiddleKernels(t *testing.T) {
	t.Setenv("TARE_PROBE", "6.1")
	layertest.Run(t, newDriver)
}

func TestSuiteWithMetacopy(t *testing.T) {
	layertest.Run(t, func(t *testing.T, root string) layer.Driver {
		d, err := overlay.New(root, "overlay.metacopy=on")
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}

// Project quota is compiled into Debian's kernels; make kernel-test has them.
func TestSuiteWithProjectQuota(t *testing.T) {
	for _, f := range []layertest.FileSystem{
		{Kind: "xfs", Mount: "pquota"},
		{Kind: "ext4", Make: []string{"-O", "project,quota"}, Mount: "prjquota"},
	} {
		t.Run(f.Kind, func(t *testing.T) {
			dir := f.MountQuota(t)
			t.Setenv("TMPDIR", dir)
			layertest.RunSome(t, newDriver)
			d := newDriver(t, dir)
			if n, err := d.Limit(map[string]string{"size": "1G"}); n != 1<<30 || err != nil {
				t.Errorf("size of a container: %d, %v", n, err)
			}
			d, err := overlay.New(dir, "overlay2.size=2G")
			if err != nil {
				t.Fatal(err)
			}
			if n, err := d.Limit(nil); n != 2<<30 || err != nil {
				t.Errorf("size of all: %d, %v", n, err)
			}
		})
	}
}

func TestOnOtherFileSystems(t *testing.T) {
	for _, f := range []layertest.FileSystem{{Kind: "xfs"}, {Kind: "btrfs"}} {
		t.Run(f.Kind, func(t *testing.T) { layertest.RunSomeOn(t, f, newDriver) })
	}
}

func TestWhatCannotBe(t *testing.T) {
	root := t.TempDir()
	for option, want := range map[string]string{
		"overlay.metacopy=maybe": `overlay.metacopy: "maybe" is neither on nor off`,
		"overlay2.foo=1":         "overlay2: unknown option overlay2.foo",
		"bogus=1":                "overlay2: unknown option bogus",
		"nokey":                  "Unable to parse key/value option: nokey",
		"overlay2.size=abc":      "invalid size: 'abc'",
		"overlay2.size=1G":       "Storage option overlay2.size not supported. Filesystem does not support Project Quota: Filesystem does not support, or has not enabled quotas",
	} {
		if _, err := overlay.New(root, option); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", option, err, want)
		}
	}
	_, err := newDriver(t, root).Limit(map[string]string{"size": "1G"})
	if err == nil || err.Error() != "--storage-opt is supported only for overlay over xfs with 'pquota' mount option" {
		t.Errorf("size without quota: %v", err)
	}
	merged := layertest.MountOverlay(t)
	if _, err := overlay.New(merged); err == nil || !strings.Contains(err.Error(), "storage driver overlay on "+merged) {
		t.Errorf("on overlayfs: %v", err)
	}
}
