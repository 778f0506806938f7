package layertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/layer"
)

// A process of its own does one operation on a data root; these say which.
const (
	operationVar = "TARE_LAYERTEST_OPERATION"
	rootVar      = "TARE_LAYERTEST_ROOT"
)

// world is a data root in which operations are killed: chains "base" and "base,
// top", container "there" on the latter, which has changed a file.
type world struct {
	base, top []byte
}

func newWorld(t *testing.T) world {
	return world{
		base: Tar(t, File{Name: "a/"}, File{Name: "a/f", Data: "1"}, File{Name: "b", Data: "2"}),
		top:  Tar(t, File{Name: ".wh.b"}, File{Name: "c", Data: "3"}),
	}
}

func (w world) chains() (base, both layer.ChainID) {
	base = layer.Chain("", digest.FromBytes(w.base))
	return base, layer.Chain(base, digest.FromBytes(w.top))
}

func (w world) make(t *testing.T, s *site) {
	t.Helper()
	if _, err := s.applyAll([][]byte{w.base, w.top}); err != nil {
		t.Fatal(err)
	}
	_, both := w.chains()
	root := s.container(t, "there", both, layer.Options{})
	if err := os.WriteFile(root+"/mine", []byte("4"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// killed are the operations. check says whether the data root shows the old or
// the new, after a kill anywhere in it.
var killed = []struct {
	name  string
	empty bool // the world is not there before
	do    func(ctx context.Context, s *site, w world) error
	new   func(s *site, w world) bool
}{
	{"apply", true, func(ctx context.Context, s *site, w world) error {
		_, err := s.applyAll([][]byte{w.base, w.top})
		return err
	}, func(s *site, w world) bool { _, both := w.chains(); return s.Has(both) }},
	{"prepare", false, func(ctx context.Context, s *site, w world) error {
		base, _ := w.chains()
		return s.Prepare(ctx, "new", base, layer.Options{})
	}, func(s *site, _ world) bool { return slices.Contains(s.Containers(), "new") }},
	{"prepare on nothing", false, func(ctx context.Context, s *site, w world) error {
		return s.Prepare(ctx, "new", "", layer.Options{Volatile: true})
	}, func(s *site, _ world) bool { return slices.Contains(s.Containers(), "new") }},
	{"remove", false, func(ctx context.Context, s *site, w world) error {
		return s.Remove(ctx, "there")
	}, func(s *site, _ world) bool { return !slices.Contains(s.Containers(), "there") }},
	{"remove with its chain", false, func(ctx context.Context, s *site, w world) error {
		base, both := w.chains()
		return errors.Join(s.RemoveChain(both, base), s.Remove(ctx, "there"))
	}, func(s *site, w world) bool { base, _ := w.chains(); return !s.Has(base) }},
	{"commit", false, func(ctx context.Context, s *site, w world) error {
		var b bytes.Buffer
		if err := s.Diff(ctx, "there", nil, &b); err != nil {
			return err
		}
		_, both := w.chains()
		_, err := s.Apply(ctx, both, digest.FromBytes(b.Bytes()), &b)
		return err
	}, func(s *site, w world) bool { return len(s.layers()) == 3 }},
	{"replace", false, func(ctx context.Context, s *site, w world) error {
		base, _ := w.chains()
		p, done, err := s.openFiles(s.dir(base), true)
		if err != nil {
			return err
		}
		err = os.WriteFile(filepath.Join(p, "a/f"), []byte("damaged"), 0)
		done()
		if err != nil {
			return err
		}
		b := s.NewBatch()
		defer b.Close()
		if err := b.Unpack(ctx, "", digest.FromBytes(w.base), bytes.NewReader(w.base)); err != nil {
			return err
		}
		if damage, err := b.Check(ctx, base); err != nil || len(damage) == 0 {
			return fmt.Errorf("damage %v: %w", damage, err)
		}
		return b.Replace(base)
	}, func(s *site, w world) bool {
		base, _ := w.chains()
		p, done, err := s.openFiles(s.dir(base), false)
		if err != nil {
			return false
		}
		defer done()
		data, err := os.ReadFile(filepath.Join(p, "a/f"))
		return err == nil && string(data) == "1"
	}},
}

// layers are the directories of committed layers.
func (s *site) layers() []string {
	found, _ := filepath.Glob(filepath.Join(s.root, "layers", s.Driver(), "*", "layer.json"))
	return found
}

// operation does what the environment says, in a process that is to be killed.
func operation(t *testing.T, newDriver func(t *testing.T, root string) layer.Driver) bool {
	name := os.Getenv(operationVar)
	if name == "" {
		return false
	}
	s := newSite(t, os.Getenv(rootVar), newDriver)
	for _, k := range killed {
		if k.name == name {
			if err := k.do(context.Background(), s, newWorld(t)); err != nil {
				t.Fatal(err)
			}
			s.empty(t, filepath.Join(s.root, "trash")) // a driver may have failpoints there
			return true
		}
	}
	t.Fatalf("no operation %q", name)
	return true
}

// testKills runs each operation once to learn which failpoints it passes, then
// once for each of them, where it is killed.
func testKills(t *testing.T, newDriver func(t *testing.T, root string) layer.Driver) {
	w := newWorld(t)
	for i := range killed {
		k := killed[i]
		t.Run(k.name, func(t *testing.T) {
			points := passed(t, k.name, k.empty, w, newDriver)
			if len(points) < 3 {
				t.Fatalf("passes only %q", points)
			}
			for _, p := range points {
				root := t.TempDir()
				if !k.empty {
					s := newSite(t, root, newDriver)
					w.make(t, s)
					s.shut()
				}
				cmd := child(t, k.name, root, "TARE_FAILPOINTS="+p+"=kill")
				out, err := cmd.CombinedOutput()
				x, ok := errors.AsType[*exec.ExitError](err)
				if !ok || !x.Sys().(syscall.WaitStatus).Signaled() {
					t.Fatalf("%s: not killed: %v: %s", p, err, out)
				}
				after := newSite(t, root, newDriver)
				after.whole(t, p, w)
				if k.new(after, w) {
					continue
				}
				// The old: the operation can be done as if it had never been tried.
				if err := k.do(context.Background(), after, w); err != nil {
					t.Errorf("%s: again: %v", p, err)
				}
				if !k.new(after, w) {
					t.Errorf("%s: again: not done", p)
				}
				after.whole(t, p, w)
			}
		})
	}
}

// passed are the failpoints of an operation, each once. The trash is emptied in
// the background: its points are not those of one operation.
func passed(t *testing.T, name string, empty bool, w world, newDriver func(t *testing.T, root string) layer.Driver) []string {
	t.Helper()
	root := t.TempDir()
	if !empty {
		s := newSite(t, root, newDriver)
		w.make(t, s)
		s.shut()
	}
	log := filepath.Join(t.TempDir(), "log")
	if out, err := child(t, name, root, "TARE_FAILPOINTS_LOG="+log).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	points := strings.Fields(string(b))
	slices.Sort(points)
	return slices.Compact(points)
}

// child is this test in another process, which does an operation.
func child(t *testing.T, name, root string, env ...string) *exec.Cmd {
	t.Helper()
	top, _, _ := strings.Cut(t.Name(), "/")
	cmd := exec.Command(os.Args[0], "-test.run=^"+top+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), append(env, operationVar+"="+name, rootVar+"="+root)...)
	return cmd
}

// whole checks that all that is there is whole: each layer as it is packed, each
// container as it was or empty.
func (s *site) whole(t *testing.T, point string, w world) {
	t.Helper()
	ctx := context.Background()
	base, both := w.chains()
	for chain, want := range map[layer.ChainID][]string{base: {"a", "a/f", "b"}, both: {"a", "a/f", "c"}} {
		if !s.Has(chain) {
			continue
		}
		v, err := s.View(ctx, chain)
		if err != nil {
			t.Errorf("%s: %v", point, err)
			continue
		}
		if got := tree(t, fmt.Sprintf("/proc/self/fd/%d", v.Fd())); !equalLists(got, want) {
			t.Errorf("%s: layer has %q, want %q", point, got, want)
		}
		v.Close()
	}
	for _, id := range s.Containers() {
		s.wholeContainer(t, point, id)
	}
	s.nothingStaged(t)
	s.empty(t, filepath.Join(s.root, "trash"))
}

// wholeContainer mounts one that has a layer. Of one that was being removed
// nobody asks any more: its record is gone.
func (s *site) wholeContainer(t *testing.T, point, id string) {
	t.Helper()
	m, err := s.Mount(context.Background(), id, nil)
	if errors.Is(err, os.ErrNotExist) && id == "there" {
		return
	}
	if err != nil {
		t.Errorf("%s: container %s: %v", point, id, err)
		return
	}
	defer m.Close()
	_, err = os.Stat(fmt.Sprintf("/proc/self/fd/%d/mine", m.Fd()))
	if (err == nil) != (id == "there") {
		t.Errorf("%s: container %s: %v", point, id, err)
	}
}
