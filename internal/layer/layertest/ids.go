package layertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/idrange"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/idmap"
)

// testOwnIDs mounts one chain for containers of different ids: each sees the
// layers' files as its own, what it writes has its ids, and the layer's files
// stay as they are.
func testOwnIDs(t *testing.T, s *site) {
	ctx := context.Background()
	probe := openNS(t, 300000)
	if err := s.MapsIDs(ctx, probe); os.Getenv("TARE_PROBE") == "5.10" {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Fatalf("an old kernel maps ids: %v", err)
		}
		return
	} else if err != nil {
		t.Fatal(err)
	}
	chain := s.apply(t, []File{{Name: "./", UID: 3}, {Name: "a", Data: "a"}, {Name: "b", UID: 7}}, []File{{Name: "dir/"}, {Name: "dir/c", UID: 9}})
	for id, base := range map[string]int{"c1": 300000, "c2": 500000} {
		ns := openNS(t, base)
		m := &idrange.Map{UIDs: []specs.LinuxIDMapping{{HostID: uint32(base), Size: 1000}}, GIDs: []specs.LinuxIDMapping{{HostID: uint32(base), Size: 1000}}}
		if err := s.Prepare(ctx, id, chain, layer.Options{IDs: m}); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second mount sees what the first has written
			f, err := s.Mount(ctx, id, ns)
			if err != nil {
				t.Fatal(err)
			}
			dir := fmt.Sprintf("/proc/self/fd/%d/", f.Fd())
			for name, uid := range map[string]int{".": 3, "a": 0, "b": 7, "dir": 0, "dir/c": 9, "etc/hosts": 0} {
				if got := owner(t, dir+name); got != base+uid {
					t.Errorf("%s: owner of %s is %d, want %d", id, name, got, base+uid)
				}
			}
			if err := os.WriteFile(dir+"a", []byte(id), 0); err != nil {
				t.Error(err)
			}
			f.Close()
		}
		list, err := s.Changes(ctx, id, ns)
		if err != nil || fmt.Sprint(list) != fmt.Sprint([]layer.Change{{Kind: layer.Modified, Path: "/a"}}) {
			t.Errorf("%s: changes: %v, %v", id, list, err)
		}
	}
	found, err := filepath.Glob(filepath.Join(s.root, "layers", "*", "*", "diff"))
	if err != nil {
		t.Fatal(err)
	}
	looked := 0
	for _, dir := range found {
		p, done, err := s.openFiles(dir, false)
		if err != nil {
			t.Fatal(err)
		}
		defer done()
		if _, err := os.Lstat(p + "/a"); err != nil {
			continue
		}
		looked++
		if got := owner(t, p+"/a"); got != 0 {
			t.Errorf("owner of the layer's own file is %d", got)
		}
	}
	if looked == 0 {
		t.Fatalf("no layer in %q has the file", found)
	}
}

func openNS(t *testing.T, base int) *os.File {
	t.Helper()
	r := []idmap.Range{{Inside: 0, Outside: base, Size: 1000}}
	ns, err := idmap.Open(r, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns
}

func owner(t *testing.T, path string) int {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return int(st.Uid)
}
