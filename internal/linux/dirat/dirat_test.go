package dirat

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) FD {
	t.Helper()
	d, err := Open(dir)
	must(t, err)
	t.Cleanup(d.Close)
	return d
}

// TestNamesStayInTheirDirectory: no link is followed and no way leads out.
func TestNamesStayInTheirDirectory(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "in/sub"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "secret"), nil, 0o644))
	must(t, os.Symlink("../secret", filepath.Join(dir, "in/link")))
	must(t, os.Symlink("sub", filepath.Join(dir, "in/dirlink")))
	d := open(t, filepath.Join(dir, "in"))
	for name, want := range map[string]error{"../secret": syscall.EXDEV, "..": syscall.EXDEV, dir + "/secret": syscall.EXDEV,
		"link": syscall.ELOOP, "none": syscall.ENOENT} {
		if fd, err := d.OpenAt(name, syscall.O_RDONLY, 0); err != want {
			t.Errorf("open %s: %v, want %v", name, err, want)
			fd.Close()
		}
	}
	for _, name := range []string{"dirlink", "link", ".."} {
		if fd, err := d.Dir(name); err == nil {
			t.Errorf("%s was opened as a directory", name)
			fd.Close()
		}
	}
	p, err := d.Place("link")
	must(t, err)
	defer p.Close()
	if to, err := p.Readlink(); to != "../secret" {
		t.Errorf("%q (%v)", to, err)
	}
	if has, err := d.Has("link"); !has || err != nil {
		t.Errorf("link: %v (%v)", has, err)
	}
	var names []string
	must(t, d.Names(func(name string, ino uint64, typ uint8) {
		if typ == syscall.DT_LNK {
			name += "@"
		}
		names = append(names, name)
	}))
	slices.Sort(names)
	if !slices.Equal(names, []string{"dirlink@", "link@", "sub"}) {
		t.Errorf("%q", names)
	}
}

// TestCopyDataKeepsHoles on whatever file system there is.
func TestCopyDataKeepsHoles(t *testing.T) {
	dir := t.TempDir()
	const size = 8<<20 + 5
	f, err := os.Create(filepath.Join(dir, "from"))
	must(t, err)
	must(t, f.Truncate(size))
	for _, at := range []int64{0, 1 << 20, 5<<20 + 100, size - 3} {
		_, err := f.WriteAt([]byte("abc"), at)
		must(t, err)
	}
	must(t, f.Sync())
	must(t, f.Close())
	d := open(t, dir)
	from, err := d.OpenAt("from", syscall.O_RDONLY, 0)
	must(t, err)
	defer from.Close()
	to, err := d.OpenAt("to", syscall.O_CREAT|syscall.O_EXCL|syscall.O_WRONLY, 0o600)
	must(t, err)
	defer to.Close()
	must(t, to.CopyData(from, size))
	must(t, to.Sync())
	a, err := os.ReadFile(filepath.Join(dir, "from"))
	must(t, err)
	b, err := os.ReadFile(filepath.Join(dir, "to"))
	must(t, err)
	if !bytes.Equal(a, b) {
		t.Error("the copy differs")
	}
	var x, y Stat
	must(t, from.Stat(&x))
	must(t, to.Stat(&y))
	if x.Blocks < size/512 && y.Blocks >= size/512 {
		t.Errorf("%d blocks became %d", x.Blocks, y.Blocks)
	}
}
