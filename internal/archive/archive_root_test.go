//go:build root

package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/mount"
)

func (l *lab) stat(p string) (st container.PathStat, err error) {
	err = l.inside(nil, func(root *os.File) error {
		st, err = Stat(root, p)
		return err
	})
	return st, err
}

func TestPaths(t *testing.T) {
	l := newLab(t)
	l.must(os.MkdirAll(filepath.Join(l.root, "a", "b"), 0o755))
	l.write(filepath.Join(l.root, "a", "b", "f"), "hello")
	for name, to := range map[string]string{"a/l": "b", "abs": "/a/b", "a/broken": "nowhere", "up": "../../../a", "loop": "loop", "far": "abs/f"} {
		l.must(os.Symlink(to, filepath.Join(l.root, name)))
	}
	for p, want := range map[string][2]string{ // name and target of the link
		"/": {"/"}, "/..": {"/"}, ".": {"."}, "./": {"."}, "/.": {"."}, "/a": {"a"}, "/a/": {"a"}, "/a/.": {"."}, "a/b/..": {"a"},
		"/a/l": {"l", "/a/b"}, "/a/l/": {"l"}, "/a/l/.": {"."}, "/abs": {"abs", "/a/b"}, "/abs/f": {"f"}, "/a/broken": {"broken", "/a/nowhere"},
		"/up": {"up", "/a"}, "/up/b/f": {"f"}, "/far": {"far", "/a/b/f"}, "/loop": {"loop", "/loop"},
	} {
		st, err := l.stat(p)
		if err != nil || st.Name != want[0] || st.LinkTarget != want[1] {
			t.Errorf("%s: %q, %q, %v; want %q", p, st.Name, st.LinkTarget, err, want)
		}
	}
	for p, kind := range map[string]error{"/nope": fs.ErrNotExist, "/a/broken/": fs.ErrNotExist, "/nope/x": fs.ErrNotExist, "/a/b/f/": nil, "/a/b/f/x": nil, "/loop/": nil} {
		_, err := l.stat(p)
		if err == nil || errors.Is(err, fs.ErrNotExist) != (kind != nil) || kind == nil && errdefs.KindOf(err) != errdefs.InvalidArgument {
			t.Errorf("%s: %v", p, err)
		}
	}
	for p, want := range map[string]string{
		"/a": "a/ a/b/ a/b/f a/broken a/l", "/a/.": "./ ./b/ ./b/f ./broken ./l", "/abs/": "abs/ abs/f", "/abs": "abs", "/a/b/f": "f",
		"/": "/ /a/ /a/b/ /a/b/f /a/broken /a/l /abs /far /loop /up",
	} {
		b, err := l.pack(p)
		l.must(err)
		var names []string
		for r := tar.NewReader(bytes.NewReader(b)); ; {
			h, err := r.Next()
			if err != nil {
				break
			}
			names = append(names, h.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %s, want %s", p, got, want)
		}
	}
}

// Attributes, owners, modes, links and holes come out as they went in.
func TestWhatBelongsToAFile(t *testing.T) {
	l := newLab(t)
	acl := "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\x4d\x00\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff"
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	records := map[string]string{"SCHILY.xattr.user.x": "y", "SCHILY.xattr.security.capability": capability, "SCHILY.xattr.trusted.x": "no"}
	in := l.archive(
		tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o1750, Uid: 5, Gid: 6},
		tar.Header{Name: "d/f", Mode: 0o4711, Uid: 7, Gid: 8, Uname: "data", PAXRecords: records},
		tar.Header{Name: "d/acl", Mode: 0o644, Uname: "x", PAXRecords: map[string]string{"SCHILY.xattr.system.posix_acl_access": acl}},
		tar.Header{Name: "d/g", Typeflag: tar.TypeLink, Linkname: "d/f"},
		tar.Header{Name: "d/s", Typeflag: tar.TypeSymlink, Linkname: "../../../out", Uid: 9},
		tar.Header{Name: "d/fifo", Typeflag: tar.TypeFifo, Mode: 0o622},
		tar.Header{Name: "d/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3},
		tar.Header{Name: "d/a\nb\xff", Mode: 0o600, Uname: "odd"},
	)
	l.must(l.unpack("/", in, UnpackOptions{}))
	b, err := l.pack("/d")
	l.must(err)
	out := l.entries(b)
	for name, want := range map[string]tar.Header{
		"d/": {Mode: 0o1750, Uid: 5, Gid: 6}, "d/f": {Mode: 0o4711, Uid: 7, Gid: 8}, "d/acl": {Mode: 0o644}, "d/fifo": {Mode: 0o622},
		"d/null": {Mode: 0o666, Devmajor: 1, Devminor: 3}, "d/s": {Mode: 0o777, Uid: 9, Linkname: "../../../out"}, "d/a\nb\xff": {Mode: 0o600},
		"d/g": {Mode: 0o4711, Uid: 7, Gid: 8, Linkname: "d/f"},
	} {
		h := out[name]
		if h == nil || h.Mode != want.Mode || h.Uid != want.Uid || h.Gid != want.Gid || h.Devmajor != want.Devmajor || h.Devminor != want.Devminor || h.Linkname != want.Linkname {
			t.Errorf("%q: %+v, want %+v", name, h, want)
		}
	}
	if r := out["d/f"].PAXRecords; r["SCHILY.xattr.user.x"] != "y" || r["SCHILY.xattr.security.capability"] != capability || r["SCHILY.xattr.trusted.x"] != "" {
		t.Errorf("attributes: %q", r)
	}
	if got := out["d/acl"].PAXRecords["SCHILY.xattr.system.posix_acl_access"]; got != acl {
		t.Errorf("ACL %q", got)
	}
}

func TestArchivesThatMeanHarm(t *testing.T) {
	for name, entries := range map[string][]tar.Header{
		"dotdot":     {{Name: "../outside/secret", Uname: "x"}},
		"absolute":   {{Name: "ABS/secret", Uname: "x"}},
		"link":       {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "ABS"}, {Name: "l/secret", Uname: "x"}, {Name: "l/new", Uname: "x"}},
		"up":         {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../outside"}, {Name: "l/secret", Uname: "x"}},
		"hard link":  {{Name: "h", Typeflag: tar.TypeLink, Linkname: "../outside/secret"}, {Name: "h", Uname: "x"}},
		"procfs":     {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/proc/self/cwd/0/.."}, {Name: "l/secret", Uname: "x"}},
		"descriptor": {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/proc/self/fd"}, {Name: "l/3/secret", Uname: "x"}},
		"chmod":      {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "ABS/dir"}, {Name: "l/", Typeflag: tar.TypeDir, Mode: 0o777}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			for i := range entries {
				entries[i].Name, entries[i].Linkname = strings.Replace(entries[i].Name, "ABS", l.outside, 1), strings.Replace(entries[i].Linkname, "ABS", l.outside, 1)
			}
			_ = l.unpack("/", l.archive(entries...), UnpackOptions{})
			l.check()
		})
	}
}

func TestKindsAreKept(t *testing.T) {
	l := newLab(t)
	l.must(os.MkdirAll(filepath.Join(l.root, "a", "dir", "x"), 0o755))
	l.write(filepath.Join(l.root, "a", "file"), "old")
	file, dir := l.archive(tar.Header{Name: "dir", Uname: "new"}), l.archive(tar.Header{Name: "file/", Typeflag: tar.TypeDir})
	for want, in := range map[string][]byte{
		`cannot overwrite directory "/a/dir" with non-directory "/a"`:                    file,
		`cannot overwrite non-directory "/a/file" with directory "/a"`:                   dir,
		`Error processing tar file: unexpected EOF`:                                      l.archive(tar.Header{Name: "cut", Uname: strings.Repeat("x", 2000)})[:1200],
		`Error processing tar file: entry "../x": "../x" is outside of`:                  l.archive(tar.Header{Name: "../x"}),
		`Error processing tar file: entry "h": hard link to "../x", which is outside of`: l.archive(tar.Header{Name: "x"}, tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "../x"}),
		`Error processing tar file: entry "z": hard link to "missing": no`:               l.archive(tar.Header{Name: "z", Typeflag: tar.TypeLink, Linkname: "missing"}),
	} {
		if err := l.unpack("/a", in, UnpackOptions{KeepKinds: true}); err == nil || !strings.HasPrefix(err.Error(), want) || errdefs.KindOf(err) != errdefs.InvalidArgument {
			t.Errorf("%v, want %s", err, want)
		}
	}
	l.must(l.unpack("/a", file, UnpackOptions{}))
	l.must(l.unpack("/a", dir, UnpackOptions{}))
	if err := l.unpack("/a/dir", file, UnpackOptions{}); err == nil || err.Error() != "extraction point is not a directory" {
		t.Error(err)
	}
	if err := l.unpack("/", file, UnpackOptions{ReadOnlyRoot: true}); err == nil || err.Error() != "container rootfs is marked read-only" {
		t.Error(err)
	}
}

// A mount of the view: what is under it does not show, a file that is mounted is
// written anew, and one that is read-only stays.
func TestMounts(t *testing.T) {
	l := newLab(t)
	vol := filepath.Join(l.base, "vol")
	l.must(os.Mkdir(vol, 0o755))
	l.write(filepath.Join(vol, "file"), "old")
	l.must(os.MkdirAll(filepath.Join(l.root, "v"), 0o755))
	l.write(filepath.Join(l.root, "v", "hidden"), "x")
	clone := func(ro bool) mount.Placed {
		tree, err := mount.Clone(vol, true)
		l.must(err)
		if ro {
			l.must(mount.SetAttr(tree, mount.Change{Set: mount.ReadOnly}))
		}
		return mount.Placed{Path: "/v", Tree: tree}
	}
	in := l.archive(tar.Header{Name: "file", Uname: "new"})
	own := func(uid, gid int) (int, int, error) { return uid, gid, nil }
	err := l.inside([]mount.Placed{clone(false)}, func(root *os.File) error {
		if _, err := Stat(root, "/v/hidden"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what lies under a mount: %v", err)
		}
		return Unpack(t.Context(), root, "/v", bytes.NewReader(in), UnpackOptions{Own: own, ReadOnlyRoot: true})
	})
	if b, _ := os.ReadFile(filepath.Join(vol, "file")); err != nil || string(b) != "new" {
		t.Errorf("%q, %v", b, err)
	}
	err = l.inside([]mount.Placed{clone(true)}, func(root *os.File) error {
		return Unpack(t.Context(), root, "/v", bytes.NewReader(in), UnpackOptions{Own: own})
	})
	if err == nil || err.Error() != "mounted volume is marked read-only" {
		t.Error(err)
	}

	l.write(filepath.Join(l.root, "f"), "under")
	tree, err := mount.Clone(filepath.Join(vol, "file"), false)
	l.must(err)
	err = l.inside([]mount.Placed{{Path: "/f", Tree: tree}}, func(root *os.File) error {
		return Unpack(t.Context(), root, "/", bytes.NewReader(l.archive(tar.Header{Name: "f", Uname: "anew"})), UnpackOptions{Own: own})
	})
	mounted, _ := os.ReadFile(filepath.Join(vol, "file"))
	under, _ := os.ReadFile(filepath.Join(l.root, "f"))
	if err != nil || string(mounted) != "anew" || string(under) != "under" {
		t.Errorf("%q, %q, %v", mounted, under, err)
	}
}

func FuzzPaths(f *testing.F) {
	for _, p := range []string{"/", ".", "a/l/.", "/abs/../..", "//x//", "a/\x00", strings.Repeat("a/", 3000), "/up/up/up/outside/secret"} {
		f.Add(p)
	}
	l := newLab(f)
	l.must(os.MkdirAll(filepath.Join(l.root, "a", "b"), 0o755))
	for name, to := range map[string]string{"a/l": "b", "abs": l.outside, "up": "../outside"} {
		l.must(os.Symlink(to, filepath.Join(l.root, name)))
	}
	in := l.archive(tar.Header{Name: "x", Uname: "y"})
	f.Fuzz(func(t *testing.T, p string) {
		l := *l
		l.TB = t
		if st, err := l.stat(p); err == nil && (st.Name == "" || st.Name != "/" && strings.Contains(st.Name, "/")) {
			t.Errorf("%q has the name %q", p, st.Name)
		}
		if b, err := l.pack(p); err == nil && bytes.Contains(b, []byte(secret)) {
			t.Errorf("%q gives away a file outside", p)
		}
		_ = l.unpack(p, in, UnpackOptions{})
		l.check()
	})
}
