package layertest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/runtime-spec/specs-go"
	"pgregory.net/rapid"

	"github.com/tare-engine/tare/internal/idrange"
	"github.com/tare-engine/tare/internal/layer"
)

// branches is the driver whose whiteouts are files.
const branches = "union"

// picture is all that a layer can say of a file.
type picture struct {
	Mode, UID, GID uint32
	Time           int64 // nanoseconds
	Rdev           uint64
	Data, Link     string
	Xattrs         map[string]string
	Same           string // first name of the same file
}

// pictures describes all that is below dir and dir itself, without the engine's
// mount points.
func pictures(t interface {
	Helper()
	Fatal(...any)
}, dir string) map[string]picture {
	t.Helper()
	all := map[string]picture{}
	seen := map[uint64]string{}
	err := filepath.WalkDir(dir+"/.", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		if first, _, _ := strings.Cut(rel, "/"); slices.Contains([]string{".dockerenv", "dev", "etc", "proc", "sys"}, first) {
			return nil
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(p, &st); err != nil {
			return err
		}
		x := picture{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Time: st.Mtim.Nano(), Rdev: st.Rdev, Xattrs: attributes(p)}
		if !d.IsDir() && st.Nlink > 1 {
			if x.Same = seen[st.Ino]; x.Same == "" {
				seen[st.Ino], x.Same = rel, rel
			}
		}
		switch st.Mode & syscall.S_IFMT {
		case syscall.S_IFREG:
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			x.Data = digest.FromBytes(b).String()
		case syscall.S_IFLNK:
			x.Link, _ = os.Readlink(p)
		}
		all[rel] = x
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func attributes(p string) map[string]string {
	b := make([]byte, 4096)
	n, err := syscall.Listxattr(p, b)
	if err != nil || n <= 0 {
		return nil
	}
	var all map[string]string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(b[:n]), "\x00"), "\x00") {
		if strings.HasPrefix(name, "trusted.overlay.") {
			continue
		}
		v := make([]byte, 4096)
		k, err := syscall.Getxattr(p, name, v)
		if err != nil {
			continue
		}
		if all == nil {
			all = map[string]string{}
		}
		all[name] = string(v[:k])
	}
	return all
}

// diff is a container's layer.
func (s *site) diff(t *testing.T, id string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.Diff(context.Background(), id, nil, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// members lists an archive's entries.
func members(t *testing.T, b []byte) (names []string, headers map[string]*tar.Header) {
	t.Helper()
	headers = map[string]*tar.Header{}
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return names, headers
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		headers[h.Name] = h
	}
}

func testDiff(t *testing.T, s *site) {
	chain := s.apply(t, []File{{Name: "./"}, {Name: "keep/"}, {Name: "keep/f"}, {Name: "gone/"}, {Name: "gone/f"}, {Name: "again/"}, {Name: "again/old"}, {Name: "file", Data: "1"}, {Name: "hard", Hard: "file"}})
	root := s.container(t, "c", chain, layer.Options{})
	if got, _ := members(t, s.diff(t, "c")); len(got) > 0 || len(s.diff(t, "c")) != 1024 {
		t.Fatalf("a fresh container changes %q", got)
	}
	for _, err := range []error{
		os.RemoveAll(root + "/gone"), os.RemoveAll(root + "/again"), os.Mkdir(root+"/again", 0o700), os.WriteFile(root+"/again/new", []byte("x"), 0o600),
		os.WriteFile(root+"/file", []byte("22"), 0o600),
		syscall.Mkfifo(root+"/fifo", 0o640), syscall.Mknod(root+"/null", syscall.S_IFCHR|0o666, 0x103), os.Symlink("../x", root+"/link"),
		syscall.Setxattr(root+"/file", "user.a", []byte("b"), 0), os.Chown(root+"/file", 3_000_000_000, 7), os.Link(root+"/file", root+"/linked"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.writeHidden(t, root+"/.wh.evil")
	sock, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(sock)
	if err := syscall.Bind(sock, &syscall.SockaddrUnix{Name: root + "/sock"}); err != nil {
		t.Fatal(err)
	}
	b := s.diff(t, "c")
	if !bytes.Equal(b, s.diff(t, "c")) {
		t.Error("the same changes give other bytes")
	}
	names, h := members(t, b)
	for _, n := range []string{".wh.gone", "again/", "again/new", "file", "linked", "fifo", "null", "link"} {
		if h[n] == nil {
			t.Errorf("%s is missing in %q", n, names)
		}
	}
	for _, n := range []string{".wh..wh.evil", ".wh.evil", "sock", "keep/", "keep/f"} {
		if h[n] != nil {
			t.Errorf("%s is there", n)
		}
	}
	if h["again/.wh..wh..opq"] == nil && h["again/.wh.old"] == nil {
		t.Errorf("what was below again/ comes back: %q", names)
	}
	if f := h["file"]; f != nil && (f.Uid != 3_000_000_000 || f.Gid != 7 || f.PAXRecords["SCHILY.xattr.user.a"] != "b" || f.Size != 2 || f.Uname != "") {
		t.Errorf("file: %+v", f)
	}
	if l := h["linked"]; l != nil && (l.Typeflag != tar.TypeLink || l.Linkname != "file") {
		t.Errorf("linked: %+v", l)
	}
	s.sameAfterApply(t, "c", chain)
}

// sameAfterApply applies what a container changes to its chain, and compares.
// It returns the new chain.
func (s *site) sameAfterApply(t *testing.T, id string, chain layer.ChainID) layer.ChainID {
	t.Helper()
	b := s.diff(t, id)
	m, err := s.Mount(context.Background(), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := pictures(t, fmt.Sprintf("/proc/self/fd/%d", m.Fd()))
	m.Close()
	for p := range want { // which no layer can have
		if strings.HasPrefix(filepath.Base(p), ".wh.") || want[p].Mode&syscall.S_IFMT == syscall.S_IFSOCK {
			delete(want, p)
		}
	}
	top, err := s.Apply(context.Background(), chain, digest.FromBytes(b), bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	s.remember(t, top)
	s.looksLike(t, top, want)
	var again bytes.Buffer
	if err := s.DiffChain(context.Background(), top, &again); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Bytes(), b) {
		x, _ := members(t, b)
		y, _ := members(t, again.Bytes())
		t.Errorf("the layer cannot be made again from where it lies unpacked (-was +is):\n%s", cmp.Diff(x, y))
	}
	return top
}

func (s *site) looksLike(t *testing.T, chain layer.ChainID, want map[string]picture) {
	t.Helper()
	v, err := s.View(context.Background(), chain)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if d := cmp.Diff(want, pictures(t, fmt.Sprintf("/proc/self/fd/%d", v.Fd()))); d != "" {
		t.Errorf("applied, it is another tree (-container +image):\n%s", d)
	}
}

// testDiffProperty does random things in containers of random images: 25 times,
// or as often as -rapid.checks says.
func testDiffProperty(t *testing.T, s *site) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := flag.Set(f.Name, "25"); err != nil {
			t.Fatal(err)
		}
		defer flag.Set(f.Name, f.DefValue)
	}
	n := 0
	rapid.Check(t, func(r *rapid.T) {
		n++
		id := fmt.Sprint("c", n)
		defer func() {
			if err := errors.Join(s.Remove(context.Background(), id), s.Prune(nil)); err != nil {
				t.Fatal(err)
			}
		}()
		if err := s.Prepare(context.Background(), id, "", layer.Options{}); err != nil {
			r.Fatal(err)
		}
		disturb(t, r, s, id)
		chain := s.sameAfterApply(t, id, "")
		if err := s.Remove(context.Background(), id); err != nil {
			r.Fatal(err)
		}
		if err := s.Prepare(context.Background(), id, chain, layer.Options{}); err != nil {
			r.Fatal(err)
		}
		disturb(t, r, s, id)
		s.sameAfterApply(t, id, chain)
		if t.Failed() {
			r.FailNow()
		}
	})
}

// disturb changes a container's files in random ways. What cannot be done is
// left alone.
func disturb(t *testing.T, r *rapid.T, s *site, id string) {
	t.Helper()
	m, err := s.Mount(context.Background(), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	root := fmt.Sprintf("/proc/self/fd/%d/", m.Fd())
	name := rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "ä\n"}), 1, 3), func(p []string) string { return strings.Join(p, "/") })
	small := rapid.IntRange(0, 3)
	for range rapid.IntRange(1, 12).Draw(r, "steps") {
		p, q := root+name.Draw(r, "name"), root+name.Draw(r, "other")
		k := small.Draw(r, "k")
		step := rapid.IntRange(0, 12).Draw(r, "step")
		if up, err := os.Stat(filepath.Dir(p)); step != 2 && step != 3 && (err != nil || !up.IsDir()) {
			continue // RemoveAll would open a FIFO there
		}
		switch step {
		case 0, 1:
			// A FIFO has no reader.
			if f, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NONBLOCK, 0o640); err == nil {
				_, _ = f.Write(bytes.Repeat([]byte{byte(k)}, k*70_000)) // zeros become holes
				f.Close()
			}
		case 2, 3:
			_ = os.MkdirAll(p, 0o750)
		case 4:
			_ = os.RemoveAll(p)
		case 5:
			_ = os.RemoveAll(p)
			_ = os.Mkdir(p, 0o700)
		case 6:
			_ = os.Link(p, q)
		case 7:
			_ = os.Rename(p, q)
		case 8:
			_ = os.Symlink(q[len(root):], p)
		case 9:
			_ = os.Lchown(p, k, 70_000*k)
			_ = syscall.Chmod(p, uint32(0o4755>>k))
		case 10:
			_ = syscall.Setxattr(p, "user.x", []byte{byte(k)}, 0)
			_ = syscall.Setxattr(p, "security.capability", []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0)
		case 11:
			at := time.Unix(int64(k)*1_000_000_000, int64(k))
			_ = os.Chtimes(p, at, at)
		case 12:
			_ = syscall.Mknod(p, []uint32{syscall.S_IFIFO, syscall.S_IFCHR, syscall.S_IFBLK, syscall.S_IFIFO}[k]|0o600, 0x105)
		}
	}
}

// testDiffOwnIDs: what a container with ids of its own has changed has the ids
// that it sees.
func testDiffOwnIDs(t *testing.T, s *site) {
	ctx := context.Background()
	const base = 300000
	ns := openNS(t, base)
	if s.MapsIDs(ctx, ns) != nil {
		return // testOwnIDs says when it must
	}
	m := &idrange.Map{UIDs: []specs.LinuxIDMapping{{HostID: base, Size: 1000}}, GIDs: []specs.LinuxIDMapping{{HostID: base, Size: 1000}}}
	chain := s.apply(t, []File{{Name: "./", UID: 3}, {Name: "old", UID: 5}, {Name: "dir/", UID: 9}, {Name: "dir/x", UID: 9}})
	if err := s.Prepare(ctx, "c", chain, layer.Options{IDs: m}); err != nil {
		t.Fatal(err)
	}
	f, err := s.Mount(ctx, "c", ns)
	if err != nil {
		t.Fatal(err)
	}
	root := fmt.Sprintf("/proc/self/fd/%d/", f.Fd())
	// For this namespace's root only: revision 3, with its owner at the end.
	capability := "\x00\x00\x00\x03\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xe0\x93\x04\x00"
	err = errors.Join(os.Chown(root+"dir/x", base+7, base+8), syscall.Setxattr(root+"dir/x", "security.capability", []byte(capability), 0))
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := s.Diff(ctx, "c", m, &b); err != nil {
		t.Fatal(err)
	}
	_, h := members(t, b.Bytes())
	if x := h["dir/x"]; x == nil || x.Uid != 7 || x.Gid != 8 {
		t.Errorf("dir/x: %+v", x)
	}
	if d := h["dir/"]; d == nil || d.Uid != 9 {
		t.Errorf("dir: %+v", d)
	}
	if v := h["dir/x"].PAXRecords["SCHILY.xattr.security.capability"]; (s.Driver() == "overlay" || s.Driver() == branches) && (len(v) != 20 || v[3] != 2) {
		t.Errorf("capability: %x", v)
	}
	b.Reset()
	if err := s.Export(ctx, "c", ns, m, &b); err != nil {
		t.Fatal(err)
	}
	_, h = members(t, b.Bytes())
	for name, uid := range map[string]int{"dir/": 9, "dir/x": 7, "old": 5} {
		if h[name] == nil || h[name].Uid != uid {
			t.Errorf("exported %s: %+v", name, h[name])
		}
	}
}

// writeHidden makes a file with a whiteout's name in a container, and reports
// whether that can be: where whiteouts are files it is refused.
func (s *site) writeHidden(t *testing.T, p string) bool {
	t.Helper()
	err := os.WriteFile(p, nil, 0o600)
	if s.Driver() == branches && !errors.Is(err, syscall.EPERM) || s.Driver() != branches && err != nil {
		t.Errorf("write %s: %v", p, err)
	}
	return err == nil
}

// testExport: the merged root, while the container uses it.
func testExport(t *testing.T, s *site) {
	chain := s.apply(t, []File{{Name: "./", Mode: 0o711}, {Name: "a", Data: "1"}, {Name: "gone"}, {Name: "h1", Data: "x"}, {Name: "h2", Hard: "h1"}})
	root := s.container(t, "c", chain, layer.Options{})
	if err := errors.Join(os.Remove(root+"/gone"), os.WriteFile(root+"/new", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	hidden := s.writeHidden(t, root+"/.wh.x")
	var b bytes.Buffer
	if err := s.Export(context.Background(), "c", nil, nil, &b); err != nil {
		t.Fatal(err)
	}
	_, h := members(t, b.Bytes())
	for _, n := range []string{"./", "a", "h1", "h2", "new", "etc/hosts", "proc/"} {
		if h[n] == nil {
			t.Errorf("%s is missing", n)
		}
	}
	if hidden != (h[".wh.x"] != nil) {
		t.Errorf(".wh.x was written: %v, is there: %v", hidden, h[".wh.x"])
	}
	if h["gone"] != nil || h["h2"] != nil && h["h2"].Linkname != "h1" || h["./"] != nil && h["./"].Mode != 0o711 {
		t.Errorf("%+v", h)
	}
	b.Reset()
	if err := s.ExportChain(context.Background(), chain, &b); err != nil {
		t.Fatal(err)
	}
	names, _ := members(t, b.Bytes())
	equal(t, names, "./", "a", "gone", "h1", "h2")
}

// testDiffWhileItChanges: a container that goes on working spoils no archive.
func testDiffWhileItChanges(t *testing.T, s *site) {
	root := s.container(t, "c", s.apply(t, []File{{Name: "a/"}, {Name: "a/f"}}), layer.Options{})
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			p := fmt.Sprint(root, "/a/", i%20)
			_ = os.RemoveAll(p)
			switch i % 5 {
			case 0:
				_ = os.MkdirAll(p+"/x/y", 0o700)
			case 1:
				_ = os.WriteFile(p, make([]byte, i%100_000), 0o600)
				_ = os.Truncate(p, 0)
			case 2:
				_ = syscall.Mkfifo(p, 0o600)
			case 3:
				_ = os.Symlink("/etc/shadow", p)
			case 4:
				_ = os.Link(fmt.Sprint(root, "/a/", (i+1)%20), p)
			}
		}
	}()
	rounds := 200
	if s.Driver() == branches {
		rounds = 40 // each mounts two unions
	}
	for range rounds {
		members(t, s.diff(t, "c"))
	}
	close(stop)
	<-done
	s.sameAfterApply(t, "c", s.apply(t, []File{{Name: "a/"}, {Name: "a/f"}}))
}

// testDeepTree: what no layer can hold is said, and names the place.
func testDeepTree(t *testing.T, s *site) {
	root := s.container(t, "c", "", layer.Options{})
	dir, err := syscall.Open(root, syscall.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 1100 {
		if err := syscall.Mkdirat(dir, "d", 0o700); err != nil {
			t.Fatal(err)
		}
		next, err := syscall.Openat(dir, "d", syscall.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		syscall.Close(dir)
		dir = next
	}
	syscall.Close(dir)
	if err := s.Diff(context.Background(), "c", nil, io.Discard); err == nil || !strings.Contains(err.Error(), "deep") {
		t.Errorf("1,100 directories deep: %v", err)
	}
	root = s.container(t, "c2", "", layer.Options{})
	if err := errors.Join(os.WriteFile(root+"/hole", nil, 0o600), os.Truncate(root+"/hole", 65<<30)); err != nil {
		t.Fatal(err)
	}
	if err := s.Diff(context.Background(), "c2", nil, io.Discard); err == nil || !strings.Contains(err.Error(), `"hole": holes of more than`) {
		t.Errorf("65 GB of holes: %v", err)
	}
}
