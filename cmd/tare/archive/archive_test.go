package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestPlace(t *testing.T) {
	file, dir, inside := Source{Name: "f"}, Source{Name: "d", Dir: true}, Source{Name: ".", Dir: true}
	link := Source{Name: "real", As: "link"}
	to := func(p string, exists, dir bool) Target { return Target{Path: p, Exists: exists, Dir: dir} }
	for _, c := range []struct {
		s    Source
		t    Target
		dir  string
		name string
		err  error
	}{
		{file, to("/a", true, true), "/a", "f", nil},
		{file, to("/a", true, false), "/", "a", nil},
		{file, to("/a", false, false), "/", "a", nil},
		{file, to("/a/", false, false), "", "", ErrNoDirectory},
		{file, to("/a/.", false, false), "", "", ErrNoDirectory},
		{dir, to("/a", true, true), "/a", "d", nil},
		{dir, to("/a", true, false), "", "", ErrDirectory},
		{dir, to("/x/a/", false, false), "/x", "a", nil},
		{inside, to("/a/", true, true), "/a/", ".", nil},
		{inside, to("/a", false, false), "/", "a", nil},
		{link, to("/a", true, true), "/a", "link", nil},
		{link, to("/x/a", false, false), "/x", "a", nil},
	} {
		dir, name, err := Place(c.s, c.t, Split)
		if dir != c.dir || name != c.name || !errors.Is(err, c.err) {
			t.Errorf("%+v to %+v: %q, %q, %v", c.s, c.t, dir, name, err)
		}
	}
}

func TestRenamed(t *testing.T) {
	for _, c := range [][4]string{
		{"b/", "b", "x", "x"}, {"b/f", "b", "x", "x/f"}, {"bb", "b", "x", "bb"}, {"./f", ".", "x", "x/f"}, {"./", ".", "x", "x"},
		{"/a/b", "/", "x", "x/a/b"}, {"./f", ".", ".", "f"}, {"./", ".", ".", "."}, {"b/../../f", "b", "b", "f"}, {"/etc/passwd", "b", "b", "etc/passwd"},
	} {
		if got := Renamed(c[0], c[1], c[2]); got != c[3] {
			t.Errorf("%q, %q called %q: %q, want %q", c[0], c[1], c[2], got, c[3])
		}
	}
}

func write(t *testing.T, p, data string, mode fs.FileMode) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(data), 0o600), os.Chmod(p, mode)); err != nil {
		t.Fatal(err)
	}
}

func TestThereAndBack(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	write(t, filepath.Join(from, "d", "f"), "data", 0o640)
	write(t, filepath.Join(from, "d", "sub", "holes"), strings.Repeat("\x00", 1<<20)+"end", 0o755)
	old := time.Unix(1_000_000, 0)
	if err := errors.Join(os.Symlink("../../up", filepath.Join(from, "d", "s")), os.Link(filepath.Join(from, "d", "f"), filepath.Join(from, "d", "g")),
		os.Chtimes(filepath.Join(from, "d", "sub"), old, old), os.Chmod(filepath.Join(from, "d"), 0o750)); err != nil {
		t.Fatal(err)
	}
	l, err := Find(filepath.Join(from, "d"), false)
	if err != nil {
		t.Fatal(err)
	}
	var b, renamed bytes.Buffer
	if err := errors.Join(l.Pack(&b, l.Name), Rename(&renamed, bytes.NewReader(b.Bytes()), "d", "e")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // over what is there as well
		if err := Unpack(bytes.NewReader(renamed.Bytes()), to, "e", "x"); err != nil {
			t.Fatal(err)
		}
	}
	for p, want := range map[string]fs.FileMode{"x": fs.ModeDir | 0o750, "x/f": 0o640, "x/sub/holes": 0o755} {
		if st, err := os.Lstat(filepath.Join(to, p)); err != nil || st.Mode() != want {
			t.Errorf("%s: %v, %v", p, st, err)
		}
	}
	f, _ := os.Stat(filepath.Join(to, "x", "f"))
	g, err := os.Stat(filepath.Join(to, "x", "g"))
	if err != nil || !os.SameFile(f, g) {
		t.Errorf("a second name: %v", err)
	}
	if s, err := os.Readlink(filepath.Join(to, "x", "s")); s != "../../up" {
		t.Errorf("link to %q, %v", s, err)
	}
	if b, _ := os.ReadFile(filepath.Join(to, "x", "sub", "holes")); len(b) != 1<<20+3 || !bytes.HasSuffix(b, []byte("end")) {
		t.Errorf("%d bytes", len(b))
	}
	if st, err := os.Stat(filepath.Join(to, "x", "sub")); err != nil || !st.ModTime().Equal(old) {
		t.Errorf("%v, %v", st.ModTime(), err)
	}
}

// An archive of a container must not get out of where it is unpacked.
func TestUnpackStaysInside(t *testing.T) {
	for name, entries := range map[string][]tar.Header{
		"dotdot":    {{Name: "../outside/f"}},
		"link":      {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "OUT"}, {Name: "l/f"}, {Name: "l/new"}},
		"relative":  {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "../outside"}, {Name: "l/f"}},
		"file":      {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "OUT/f"}, {Name: "l"}},
		"hard link": {{Name: "h", Typeflag: tar.TypeLink, Linkname: "../outside/f"}, {Name: "h"}},
		"through":   {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "OUT"}, {Name: "h", Typeflag: tar.TypeLink, Linkname: "l/f"}, {Name: "h"}},
		"mode":      {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "OUT"}, {Name: "l/", Typeflag: tar.TypeDir, Mode: 0o777}},
		"fifo":      {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "OUT"}, {Name: "l/p", Typeflag: tar.TypeFifo}},
		"renamed":   {{Name: "top/../../outside/f"}},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			out := filepath.Join(base, "outside")
			write(t, filepath.Join(out, "f"), "canary", 0o644)
			if err := os.Mkdir(filepath.Join(base, "in"), 0o755); err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for _, h := range entries {
				h.Linkname = strings.Replace(h.Linkname, "OUT", out, 1)
				if h.Typeflag == 0 {
					h.Typeflag, h.Size = tar.TypeReg, 4
				}
				if err := w.WriteHeader(&h); err != nil {
					t.Fatal(err)
				}
				if h.Size > 0 {
					_, _ = io.WriteString(w, "evil")
				}
			}
			w.Close()
			err := Unpack(&b, filepath.Join(base, "in"), "top", "to")
			names, _ := os.ReadDir(out)
			canary, rerr := os.ReadFile(filepath.Join(out, "f"))
			st, serr := os.Stat(out)
			if len(names) != 1 || rerr != nil || string(canary) != "canary" || serr != nil || st.Mode().Perm() != 0o755 {
				t.Errorf("outside there is %v, %q, %v (%v)", names, canary, st.Mode(), err)
			}
		})
	}
}

func TestKindsAndCuts(t *testing.T) {
	to := t.TempDir()
	write(t, filepath.Join(to, "file"), "x", 0o600)
	if err := os.Mkdir(filepath.Join(to, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	pack := func(h tar.Header, data string) *bytes.Reader {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		h.Size = int64(len(data))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, data)
		w.Close()
		return bytes.NewReader(b.Bytes())
	}
	for want, in := range map[string]io.Reader{
		`cannot overwrite directory "` + to + `/dir" with non-directory "` + to + `"`:  pack(tar.Header{Name: "dir"}, "x"),
		`cannot overwrite non-directory "` + to + `/file" with directory "` + to + `"`: pack(tar.Header{Name: "file/", Typeflag: tar.TypeDir}, ""),
		`"../x" is outside of "` + to + `"`:                                            pack(tar.Header{Name: "../x"}, ""),
		`unexpected EOF`:                                                               io.LimitReader(pack(tar.Header{Name: "cut"}, strings.Repeat("x", 3000)), 1500),
	} {
		if err := Unpack(in, to, "a", "a"); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
