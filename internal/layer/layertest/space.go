package layertest

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
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/disk"
	"github.com/tare-engine/tare/internal/linux/syncfs"
)

func (s *site) usage(t *testing.T, id string) layer.Usage {
	t.Helper()
	if err := syncfs.All(s.root); err != nil { // some file systems count when they write
		t.Fatal(err)
	}
	u, err := s.Usage(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// testUsage: the image takes nothing of a container, nor does a hole; what was
// written does, as often as it is on disk.
func testUsage(t *testing.T, s *site) {
	const mega = 1 << 20
	chain := s.apply(t, []File{{Name: "big", Data: strings.Repeat("x", 3*mega)}, {Name: "small", Data: "1"}})
	root := s.container(t, "c", chain, layer.Options{})
	if u := s.usage(t, "c"); u.Bytes > 16<<10 {
		t.Errorf("a fresh container: %+v", u)
	}
	random := make([]byte, 2*mega)
	for i := range random { // not to be compressed or shared
		random[i] = byte(i * i >> 7)
	}
	if err := errors.Join(os.WriteFile(root+"/new", random, 0o600), os.Link(root+"/new", root+"/again"), os.Remove(root+"/small"),
		os.WriteFile(root+"/hole", nil, 0o600), os.Truncate(root+"/hole", 1<<40)); err != nil {
		t.Fatal(err)
	}
	u := s.usage(t, "c")
	if u.Bytes < 2*mega || u.Bytes > 2*mega+mega/4 {
		t.Errorf("2 MiB with two names, a hole: %+v", u)
	}
	if err := os.Remove(root + "/new"); err != nil {
		t.Fatal(err)
	}
	if v := s.usage(t, "c"); v.Bytes < 2*mega {
		t.Errorf("with one name: %+v", v)
	}
	if err := os.Remove(root + "/again"); err != nil {
		t.Fatal(err)
	}
	// xfs gives the space of a removed file back in the background.
	for end := time.Now().Add(30 * time.Second); s.usage(t, "c").Bytes > mega/4; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("without: %+v", s.usage(t, "c"))
		}
	}
}

// testSize: a driver that takes a size keeps it, for that container alone.
func testSize(t *testing.T, s *site) {
	ctx := context.Background()
	size, err := s.Limit(map[string]string{"size": "8M"})
	if err != nil {
		if !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("refused with %v", err)
		}
		return
	}
	chain := s.apply(t, []File{{Name: "f", Data: "1"}})
	root := s.container(t, "c", chain, layer.Options{Size: size})
	other := s.container(t, "other", chain, layer.Options{})
	if err := os.WriteFile(root+"/x", make([]byte, 4<<20), 0o600); err != nil {
		t.Errorf("4 MB of 8: %v", err)
	}
	if err := os.WriteFile(root+"/y", make([]byte, 8<<20), 0o600); !disk.IsFull(err) {
		t.Errorf("12 MB of 8: %v", err)
	}
	if err := os.WriteFile(other+"/y", make([]byte, 12<<20), 0o600); err != nil {
		t.Errorf("without limit: %v", err)
	}
	if err := os.Remove(root + "/y"); err != nil {
		t.Errorf("remove what is too much: %v", err)
	}
	if err := os.WriteFile(root+"/z", make([]byte, 1<<20), 0o600); err != nil {
		t.Errorf("1 MB after that: %v", err)
	}
	s.reopen(t)
	root = s.mount(t, "c")
	if err := os.WriteFile(root+"/y", make([]byte, 8<<20), 0o600); !disk.IsFull(err) {
		t.Errorf("after another Open: %v", err)
	}
	if err := errors.Join(s.Remove(ctx, "c"), s.Remove(ctx, "other")); err != nil {
		t.Fatal(err)
	}
}

func testOptions(t *testing.T, s *site) {
	if n, err := s.Limit(nil); n != 0 || err != nil {
		t.Errorf("without options: %d, %v", n, err)
	}
	for _, o := range []map[string]string{{"size": "much"}, {"size": "-1"}, {"size": "0"}, {"inodes": "7"}, {"size": ""}, {"": ""}} {
		if n, err := s.Limit(o); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%v: %d, %v", o, n, err)
		}
	}
}

// testView: a view shows the chain, cannot be written to, is there more than once
// and while containers work, and stays when its chain goes.
func testView(t *testing.T, s *site) {
	ctx := context.Background()
	chain := s.apply(t, []File{{Name: "a/"}, {Name: "a/f", Data: "1"}, {Name: "gone"}}, []File{{Name: ".wh.gone"}, {Name: "b", Data: "2"}})
	var roots []string
	for range 3 {
		v, err := s.View(ctx, chain)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		roots = append(roots, fmt.Sprintf("/proc/self/fd/%d", v.Fd()))
	}
	c := s.container(t, "c", chain, layer.Options{})
	if err := errors.Join(os.Remove(c+"/b"), os.WriteFile(c+"/a/f", []byte("9"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, root := range roots {
		equal(t, tree(t, root), "a", "a/f", "b")
		for what, err := range map[string]error{
			"write": os.WriteFile(root+"/a/f", nil, 0o600), "make": os.Mkdir(root+"/d", 0o700), "remove": os.Remove(root + "/b"),
			"chmod": os.Chmod(root+"/b", 0o777), "rename": os.Rename(root+"/b", root+"/c"), "attribute": syscall.Setxattr(root+"/b", "user.x", nil, 0),
		} {
			if !errors.Is(err, syscall.EROFS) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	if _, err := s.View(ctx, ""); !errdefs.Is(err, errdefs.InvalidArgument) {
		t.Errorf("the empty chain: %v", err)
	}
	if _, err := s.View(ctx, digest.FromString("none")); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("no chain: %v", err)
	}
	if err := errors.Join(s.Remove(ctx, "c"), s.RemoveChain(chain)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.View(ctx, chain); err == nil {
		t.Error("a view of a removed chain")
	}
}

// manyLayers is more than any image has; overlayfs takes 500.
const manyLayers = 400

// testManyLayers: each layer has a file of its own, takes that of the one below
// away, and changes a common one.
func testManyLayers(t *testing.T, s *site) {
	ctx := context.Background()
	b := s.NewBatch()
	defer b.Close()
	var chain layer.ChainID
	for i := range manyLayers {
		files := []File{{Name: "dir/"}, {Name: "dir/all", Data: fmt.Sprint(i)}, {Name: fmt.Sprintf("dir/n%d", i)}}
		if i > 0 {
			files = append(files, File{Name: fmt.Sprintf("dir/.wh.n%d", i-1)})
		}
		tar := Tar(t, files...)
		diff := digest.FromBytes(tar)
		if err := b.Unpack(ctx, chain, diff, bytes.NewReader(tar)); err != nil {
			t.Fatal(err)
		}
		chain = layer.Chain(chain, diff)
	}
	if err := b.Commit(ctx, chain); err != nil {
		t.Fatal(err)
	}
	s.remember(t, chain)
	root := s.container(t, "c", chain, layer.Options{})
	equal(t, tree(t, root), "dir", "dir/all", fmt.Sprintf("dir/n%d", manyLayers-1))
	if got, err := os.ReadFile(root + "/dir/all"); string(got) != fmt.Sprint(manyLayers-1) {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.WriteFile(root+"/dir/mine", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	equal(t, s.changes(t, "c"), "C /dir", "A /dir/mine")
	s.sameAfterApply(t, "c", chain)
}

// testInodes: a file has one number and device, before and after it is written
// to, in the next mount too; so programs that compare them (tar, rsync) work.
func testInodes(t *testing.T, s *site) {
	chain := s.apply(t, []File{{Name: "a/"}, {Name: "a/f", Data: "1"}}, []File{{Name: "g", Data: "2"}})
	number := func(root, p string) (n [2]uint64) {
		t.Helper()
		var st syscall.Stat_t
		if err := syscall.Lstat(filepath.Join(root, p), &st); err != nil {
			t.Fatal(err)
		}
		return [2]uint64{st.Dev, st.Ino}
	}
	root := s.container(t, "c", chain, layer.Options{})
	f, g := number(root, "/a/f"), number(root, "/g")
	if f[0] != g[0] || f == g {
		t.Errorf("files of two layers: %v and %v", f, g)
	}
	if err := os.WriteFile(root+"/a/f", []byte("22"), 0o600); err != nil {
		t.Fatal(err)
	}
	if now := number(root, "/a/f"); now != f {
		t.Errorf("after writing %v, before %v", now, f)
	}
	if now := number(s.mount(t, "c"), "/a/f"); now[1] != f[1] {
		t.Errorf("in the next mount %v, before %v", now, f)
	}
}
