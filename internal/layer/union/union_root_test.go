//go:build root

package union_test

import (
	"strings"
	"testing"

	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/layer/layertest"
	"github.com/tare-engine/tare/internal/layer/union"
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
