//go:build root

package untar

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

type entry struct {
	h    tar.Header
	data string
}

func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.h.Size = int64(len(e.data))
		if e.h.Mode == 0 {
			e.h.Mode = 0755
		}
		if e.h.ModTime.IsZero() {
			e.h.ModTime = time.Unix(1, 0)
		}
		if err := w.WriteHeader(&e.h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.data)); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return b.Bytes()
}

func file(name, data string) entry { return entry{tar.Header{Name: name, Typeflag: tar.TypeReg}, data} }
func dir(name string) entry        { return entry{tar.Header{Name: name, Typeflag: tar.TypeDir}, ""} }
func soft(name, to string) entry {
	return entry{tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeSymlink}, ""}
}
func hard(name, to string) entry {
	return entry{tar.Header{Name: name, Linkname: to, Typeflag: tar.TypeLink}, ""}
}

// place is a root with a canary beside it.
type place struct{ base, root string }

func newPlace(t testing.TB) place {
	base := t.TempDir()
	p := place{base, filepath.Join(base, "root")}
	for _, d := range []string{p.root, base + "/canary", base + "/canary/dir"} {
		if err := os.Mkdir(d, 0755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(base+"/canary/file", []byte("canary"), 0644); err != nil {
		t.Fatal(err)
	}
	os.Chtimes(base+"/canary/file", time.Unix(5, 0), time.Unix(5, 0))
	os.Chtimes(base+"/canary/dir", time.Unix(5, 0), time.Unix(5, 0))
	os.Chtimes(base+"/canary", time.Unix(5, 0), time.Unix(5, 0))
	return p
}

func (p place) unpack(b []byte, o Options) (Result, error) {
	f, err := os.Open(p.root)
	if err != nil {
		return Result{}, err
	}
	defer f.Close()
	return Unpack(context.Background(), f, bytes.NewReader(b), o)
}

// check fails if anything outside the root changed.
func (p place) check(t testing.TB) {
	t.Helper()
	n := 0
	filepath.WalkDir(p.base, func(path string, d fs.DirEntry, err error) error {
		if path == p.root {
			return filepath.SkipDir
		}
		n++
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if path == p.base {
			return nil
		}
		want := fs.FileMode(0755)
		if !d.IsDir() {
			want = 0644
		}
		st := info.Sys().(*syscall.Stat_t)
		if info.Mode().Perm() != want || !info.ModTime().Equal(time.Unix(5, 0)) || st.Uid != 0 || !d.IsDir() && st.Nlink != 1 {
			t.Fatalf("%s was changed: %v %v", path, info.Mode(), info.ModTime())
		}
		return nil
	})
	if n != 4 {
		t.Fatalf("%d files outside the root, want 4", n)
	}
	if b, err := os.ReadFile(p.base + "/canary/file"); err != nil || string(b) != "canary" {
		t.Fatalf("canary: %q, %v", b, err)
	}
}

func TestNothingOutsideIsTouched(t *testing.T) {
	p := newPlace(t)
	out := p.base + "/canary"
	for name, entries := range map[string][]entry{
		"dotdot":            {file("../canary/file", "x"), file("../../../../../../tmp/evil", "x")},
		"absolute":          {file(out+"/file", "x")},
		"link then file":    {soft("l", out), file("l/file", "x"), file("l/new", "x"), dir("l/dir")},
		"relative link":     {soft("l", "../canary"), file("l/file", "x")},
		"link to file":      {soft("l", out+"/file"), file("l", "x")},
		"hard link out":     {hard("h", out+"/file"), file("h", "x")},
		"hard link dotdot":  {hard("h", "../canary/file"), file("h", "x")},
		"hard through link": {soft("l", out), hard("h", "l/file"), file("h", "x")},
		"hard to link":      {soft("l", out+"/file"), hard("h", "l"), file("h", "x")},
		"dir over link":     {soft("l", out+"/dir"), dir("l"), file("l/x", "x")},
		"whiteout out":      {soft("l", out), file("l/.wh.file", ""), file("l/.wh..wh..opq", "")},
		"whiteout dotdot":   {file("../canary/.wh.file", "")},
		"chain of links":    {soft("a", "b"), soft("b", "c"), soft("c", out), file("a/file", "x")},
		"replaced parent":   {dir("d"), file("d/x", "x"), soft("d", out), file("d/file", "x")},
		"times of a link":   {soft("l", out+"/file"), dir("l2"), soft("l2", out)},
		"loop":              {soft("a", "a"), file("a/x", "x")},
		"proc":              {soft("p", "/proc/self/root"), file("p/"+out+"/file", "x")},
	} {
		for _, w := range []Whiteouts{Overlay, Remove} {
			t.Run(name, func(t *testing.T) {
				os.RemoveAll(p.root)
				os.Mkdir(p.root, 0755)
				_, _ = p.unpack(pack(t, entries...), Options{Whiteouts: w})
				p.check(t)
			})
		}
	}
}

func TestBadEntriesAreTheArchivesFault(t *testing.T) {
	for name, e := range map[string]entry{
		"unknown type":    {tar.Header{Name: "x", Typeflag: 'Z'}, ""},
		"device number":   {tar.Header{Name: "x", Typeflag: tar.TypeChar, Devmajor: 1 << 13}, ""},
		"missing target":  hard("x", "nothing"),
		"empty whiteout":  file(".wh.", ""),
		"dotdot whiteout": file(".wh...", ""),
		"root is a file":  file(".", "x"),
		"deep":            file(strings.Repeat("d/", 2000)+"x", ""),
		"long name":       file(strings.Repeat("d", 300), ""),
		"huge attribute":  {tar.Header{Name: "x", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.user.x": strings.Repeat("x", 70<<10)}}, ""},
		"uid":             {tar.Header{Name: "x", Typeflag: tar.TypeReg, Uid: 1<<32 - 1, Format: tar.FormatPAX}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newPlace(t).unpack(pack(t, e), Options{})
			var in *InputError
			if !errors.As(err, &in) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	many := pack(t, file("a", "12345678"), file("b", "12345678"), file("c", "12345678"))
	var in *InputError
	if _, err := newPlace(t).unpack(many, Options{Entries: 2}); !errors.As(err, &in) {
		t.Errorf("entries: %v", err)
	}
	if _, err := newPlace(t).unpack(many, Options{Bytes: 20}); !errors.Is(err, syscall.ENOSPC) || errors.As(err, &in) {
		t.Errorf("bytes: %v", err)
	}
	if _, err := newPlace(t).unpack(many, Options{Entries: 3, Bytes: 24}); err != nil {
		t.Error(err)
	}
}

func TestTheLastEntryCounts(t *testing.T) {
	p := newPlace(t)
	_, err := p.unpack(pack(t, file("a", "1"), file("a", "2"), dir("b"), file("b/x", ""), file("b", "now a file"),
		file("c", ""), dir("c"), file("c/x", "y"), soft("d", "a"), file("d", "own"), hard("a", "a")), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "2", "b": "now a file", "c/x": "y", "d": "own"} {
		if b, err := os.ReadFile(p.root + "/" + name); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

func TestZerosBecomeHoles(t *testing.T) {
	p := newPlace(t)
	data := strings.Repeat("\x00", 10<<20) + "end" + strings.Repeat("\x00", 1<<20)
	r, err := p.unpack(pack(t, file("f", data)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	var st syscall.Stat_t
	syscall.Stat(p.root+"/f", &st)
	if b, _ := os.ReadFile(p.root + "/f"); string(b) != data {
		t.Error("other bytes")
	}
	if st.Blocks*512 > 1<<20 || r.Size > 1<<20 {
		t.Errorf("%d bytes on disk, %d counted", st.Blocks*512, r.Size)
	}
}

func FuzzUntar(f *testing.F) {
	f.Add(pack(f, dir("a"), file("a/b", "x"), soft("l", "/"), file("l/../x", "y"), hard("h", "a/b")), false)
	f.Add(pack(f, soft("l", "../canary"), file("l/file", "x"), file("l/.wh.file", ""), file(".wh..wh..opq", "")), true)
	f.Add([]byte("not a tar"), false)
	f.Fuzz(func(t *testing.T, b []byte, remove bool) {
		p := newPlace(t)
		o := Options{Bytes: 1 << 20, Entries: 100}
		if remove {
			o.Whiteouts = Remove
		}
		_, _ = p.unpack(b, o)
		p.check(t)
	})
}
