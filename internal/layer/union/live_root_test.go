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
	"sync"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/idrange"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/layer/layertest"
	"github.com/tare-engine/tare/internal/linux/idmap"
	aufs "github.com/tare-engine/tare/internal/union"
)

// mounted is a container whose root is mounted.
type mounted struct {
	*layer.Service
	t    *testing.T
	root string // data root
	at   string // of the container
	live *layer.Live
	ns   *os.File
}

func open(t *testing.T, root string) *layer.Service {
	t.Helper()
	s, err := layer.Open(layer.Config{Root: root, Driver: newDriver(t, root), Private: []string{filepath.Join(root, "run")}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// mountOne mounts a container on a layer with the file "own". base is what its
// ids begin with on the host.
func mountOne(t *testing.T, base uint32) *mounted {
	t.Helper()
	m := &mounted{t: t, root: t.TempDir()}
	m.Service = open(t, m.root)
	t.Cleanup(func() { m.Close() })
	o := layer.Options{}
	if base > 0 {
		r := []idmap.Range{{Outside: int(base), Size: 1000}}
		var err error
		if m.ns, err = idmap.Open(r, r); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { m.ns.Close() })
		ids := []specs.LinuxIDMapping{{HostID: base, Size: 1000}}
		o.IDs = &idrange.Map{UIDs: ids, GIDs: ids}
	}
	if err := m.Prepare(context.Background(), "c", m.layers(layertest.File{Name: "own", Data: "1"}), o); err != nil {
		t.Fatal(err)
	}
	m.mount()
	return m
}

func (m *mounted) mount() {
	m.t.Helper()
	f, err := m.Mount(context.Background(), "c", m.ns)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { f.Close() })
	m.at = fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	m.find()
}

func (m *mounted) find() {
	m.t.Helper()
	var err error
	if m.live, err = m.Live(context.Background(), "c", m.at, m.ns); err != nil {
		m.t.Fatal(err)
	}
}

// layers commits layers of a file each.
func (m *mounted) layers(files ...layertest.File) (chain layer.ChainID) {
	m.t.Helper()
	for _, f := range files {
		b := layertest.Tar(m.t, f)
		var err error
		if chain, err = m.Apply(context.Background(), chain, digest.FromBytes(b), bytes.NewReader(b)); err != nil {
			m.t.Fatal(err)
		}
	}
	return chain
}

func (m *mounted) has(name, want string) {
	m.t.Helper()
	b, err := os.ReadFile(filepath.Join(m.at, name))
	if got := string(b); err == nil && got != want || err != nil && (want != "" || !errors.Is(err, os.ErrNotExist)) {
		m.t.Errorf("%s is %q, %v; want %q", name, got, err, want)
	}
}

func (m *mounted) parts() string {
	m.t.Helper()
	list, err := m.live.Branches()
	if err != nil {
		m.t.Fatal(err)
	}
	var all []string
	for _, b := range list {
		all = append(all, string(b.Part)+" "+b.PermString())
	}
	return strings.Join(all, ", ")
}

const plain = "container rw, mount points rr+wh, image rr+wh"

// TestAddedImages: layers come and go together; those of two images that they
// share, and those of the container's, stay. They are kept, also by the next engine,
// until the container is mounted anew.
func TestAddedImages(t *testing.T) {
	m := mountOne(t, 0)
	base := layertest.File{Name: "base", Data: "2"}
	one, two := m.layers(base, layertest.File{Name: "own", Data: "3"}), m.layers(base, layertest.File{Name: "two", Data: "4"})
	for _, err := range []error{m.live.AddChain(-1, one), m.live.AddChain(0, two)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	m.has("own", "1")
	m.has("base", "2")
	m.has("two", "4")
	if got := m.parts(); got != "added image rr+wh, "+plain+", added image rr+wh, added image rr+wh" {
		t.Error(got)
	}
	if err := m.live.AddChain(0, two); !errdefs.Is(err, errdefs.Conflict) {
		t.Errorf("once more: %v", err)
	}
	m.Close()
	m.Service = open(t, m.root)
	m.find()
	if err := m.RemoveChain(one, two); err != nil || !m.Has(one) || !m.Has(two) {
		t.Errorf("removed while they are in use: %v", err)
	}
	held, err := os.Open(m.at + "/two")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.live.TakeChain(two); !errdefs.Is(err, errdefs.Conflict) {
		t.Errorf("a file is open: %v", err)
	}
	held.Close()
	if err := m.live.TakeChain(two); err != nil || m.Has(two) || !m.Has(one) {
		t.Errorf("taken away: %v", err)
	}
	m.has("two", "")
	m.has("base", "2")
	kept := m.at
	m.mount()
	if _, err := os.ReadDir(kept); !errors.Is(err, syscall.ENOTCONN) {
		t.Errorf("somebody has kept what was mounted before: %v", err)
	}
	m.has("base", "")
	if got := m.parts(); got != plain || m.Has(one) {
		t.Errorf("mounted anew: %s", got)
	}
	if err := m.live.TakeChain(one); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("not added: %v", err)
	}
}

// TestAddedDirectories: a patch and its roll-back, a second writable branch.
func TestAddedDirectories(t *testing.T) {
	m := mountOne(t, 0)
	patch, more := t.TempDir(), t.TempDir()
	if err := os.WriteFile(patch+"/own", []byte("patched"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		m.live.AddDir(0, aufs.Branch{Dir: patch, Perm: aufs.RO}), m.live.AddDir(1, aufs.Branch{Dir: more, Perm: aufs.RW}),
		m.live.SetCreate(aufs.Placement{Policy: aufs.RoundRobin}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	m.has("own", "patched")
	for i := range 4 {
		if err := os.WriteFile(fmt.Sprint(m.at, "/new", i), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if found, _ := filepath.Glob(more + "/new*"); len(found) != 2 {
		t.Errorf("one after the other: %v", found)
	}
	for _, err := range []error{m.live.TakeDir(patch), m.live.ModifyDir(aufs.Branch{Dir: more, Perm: aufs.RO})} {
		if err != nil {
			t.Fatal(err)
		}
	}
	m.has("own", "1")
	if got := m.parts(); got != "directory ro, "+plain {
		t.Error(got)
	}
	upper, run := filepath.Join(m.root, "containers/c/rw"), filepath.Join(m.root, "run")
	if err := os.MkdirAll(run+"/keeper", 0o700); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"has no branch " + patch:                    m.live.TakeDir(patch),
		"was not added: it is of its container":     m.live.TakeDir(upper),
		"lstat /nosuch: no such file":               m.live.AddDir(0, aufs.Branch{Dir: "/nosuch"}),
		"it is a branch of this union already":      m.live.AddDir(0, aufs.Branch{Dir: more}),
		"the engine has its own files in " + m.root: m.live.AddDir(0, aufs.Branch{Dir: filepath.Join(m.root, "layers/union")}),
		"the engine has its own files in " + run:    m.live.AddDir(0, aufs.Branch{Dir: run + "/keeper"}),
		"branch /: the engine has its own files":    m.live.AddDir(-1, aufs.Branch{Dir: "/"}),
		"branch /dev: devices of the host":          m.live.AddDir(-1, aufs.Branch{Dir: "/dev"}),
		"of a file system of the kernel (proc)":     m.live.AddDir(-1, aufs.Branch{Dir: "/proc/sys", Perm: aufs.RO}),
		"of a file system of the kernel (sysfs)":    m.live.AddDir(-1, aufs.Branch{Dir: "/sys", Perm: aufs.RR}),
	} {
		if err == nil || !strings.Contains(err.Error(), what) || !errdefs.Is(err, errdefs.InvalidArgument) && !errdefs.Is(err, errdefs.NotFound) {
			t.Errorf("%v, want %s", err, what)
		}
	}
}

// TestWritableByOne: of all containers to which a writable directory is added at the same
// moment one gets it, and the others are told so; as one that is only read all may have it.
func TestWritableByOne(t *testing.T) {
	shared := t.TempDir()
	var all []*mounted
	for range 3 {
		all = append(all, mountOne(t, 0))
	}
	add := func(perm aufs.Perm) (got []*mounted, errs []error) {
		answers := make([]error, len(all))
		var wg sync.WaitGroup
		for i, m := range all {
			wg.Go(func() { answers[i] = m.live.AddDir(0, aufs.Branch{Dir: shared, Perm: perm}) })
		}
		wg.Wait()
		for i, err := range answers {
			if err == nil {
				got = append(got, all[i])
			} else {
				errs = append(errs, err)
			}
		}
		return got, errs
	}
	for range 5 {
		got, errs := add(aufs.RW)
		if len(got) != 1 {
			t.Fatalf("%d have it: %v", len(got), errs)
		}
		for _, err := range errs {
			if !errdefs.Is(err, errdefs.Conflict) || !strings.Contains(err.Error(), "branch "+shared+": another union mount or container writes to it") {
				t.Error(err)
			}
		}
		if err := got[0].live.TakeDir(shared); err != nil {
			t.Fatal(err)
		}
	}
	if got, errs := add(aufs.RO); len(got) != len(all) {
		t.Fatal(errs)
	}
	b := aufs.Branch{Dir: shared, Perm: aufs.RW}
	if err := all[0].live.ModifyDir(b); err != nil {
		t.Error(err)
	}
	if err := all[1].live.ModifyDir(b); !errdefs.Is(err, errdefs.Conflict) {
		t.Errorf("two write to it: %v", err)
	}
	if err := all[0].live.ModifyDir(aufs.Branch{Dir: shared, Perm: aufs.RO}); err != nil {
		t.Error(err)
	}
	if err := all[1].live.ModifyDir(b); err != nil {
		t.Error(err)
	}
}

// TestAddedWithIDs: what comes to a container with ids of its own has these.
func TestAddedWithIDs(t *testing.T) {
	m := mountOne(t, 300000)
	if err := m.live.AddChain(-1, m.layers(layertest.File{Name: "tool", Data: "x", UID: 7})); err != nil {
		t.Fatal(err)
	}
	if got := ownerOf(t, m.at+"/tool"); got != 300007 {
		t.Errorf("owner %d", got)
	}
}

func ownerOf(t *testing.T, path string) uint32 {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Uid
}
