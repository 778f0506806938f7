//go:build root

package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/linux/confine"
	"github.com/tare-engine/tare/internal/linux/mount"
)

// lab is a root that a container could have, beside which lies what is none of
// the container's.
type lab struct {
	testing.TB
	base, root, outside string
}

func newLab(t testing.TB) *lab {
	l := &lab{TB: t, base: t.TempDir()}
	l.root, l.outside = filepath.Join(l.base, "root"), filepath.Join(l.base, "outside")
	l.must(os.Mkdir(l.root, 0o755))
	l.must(os.MkdirAll(filepath.Join(l.outside, "dir"), 0o755))
	l.must(os.Chmod(filepath.Join(l.outside, "dir"), 0o755)) // whatever the umask is
	l.write(filepath.Join(l.outside, "secret"), secret)
	l.write(filepath.Join(l.outside, "dir", "secret"), secret)
	return l
}

const secret = "none of the container's"

func (l *lab) must(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

func (l *lab) write(p, data string) {
	l.Helper()
	l.must(os.WriteFile(p, []byte(data), 0o644))
}

// inside calls f as a copy is done.
func (l *lab) inside(mounts []mount.Placed, f func(root *os.File) error) error {
	l.Helper()
	tree, err := mount.Clone(l.root, false)
	l.must(err)
	view := &mount.View{Root: tree, Mounts: mounts}
	var root *os.File
	rights := confine.Options{
		Keep: confine.FileCapabilities(),
		Enter: func() (err error) {
			defer view.Close()
			root, err = view.Enter()
			return err
		},
	}
	return confine.Run(rights, func() error {
		defer root.Close()
		return f(root)
	})
}

func (l *lab) pack(p string) ([]byte, error) {
	l.Helper()
	var out bytes.Buffer
	err := l.inside(nil, func(root *os.File) error {
		return Pack(context.Background(), root, p, PackOptions{}, func(container.PathStat) (io.Writer, error) { return &out, nil })
	})
	return out.Bytes(), err
}

func (l *lab) unpack(p string, in []byte, o UnpackOptions) error {
	l.Helper()
	if o.Own == nil {
		o.Own = func(uid, gid int) (int, int, error) { return uid, gid, nil }
	}
	return l.inside(nil, func(root *os.File) error { return Unpack(context.Background(), root, p, bytes.NewReader(in), o) })
}

// entries reads an archive, which must be whole.
func (l *lab) entries(b []byte) map[string]*tar.Header {
	l.Helper()
	all := map[string]*tar.Header{}
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		l.must(err)
		if n, err := io.Copy(io.Discard, r); err != nil || n != h.Size && h.Typeflag == tar.TypeReg {
			l.Fatalf("%s: %d bytes of %d: %v", h.Name, n, h.Size, err)
		}
		all[h.Name] = h
	}
}

// archive makes one of entries; what a file has is said by its Uname.
func (l *lab) archive(headers ...tar.Header) []byte {
	l.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		data := h.Uname // of a file
		h.Uname = ""
		if h.Typeflag == tar.TypeReg || h.Typeflag == 0 {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(data))
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		l.must(w.WriteHeader(&h))
		if h.Typeflag == tar.TypeReg {
			_, err := w.Write([]byte(data))
			l.must(err)
		}
	}
	l.must(w.Close())
	return b.Bytes()
}

// check fails if anything outside the root is not as it was made.
func (l *lab) check() {
	l.Helper()
	var seen []string
	err := filepath.WalkDir(l.outside, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		seen = append(seen, p[len(l.outside):])
		st, err := d.Info()
		if err == nil && d.Name() == "dir" && st.Mode() != os.ModeDir|0o755 {
			l.Fatalf("%s was changed: %v", p, st.Mode())
		}
		if err == nil && st.Mode().IsRegular() {
			if b, err := os.ReadFile(p); err != nil || string(b) != secret || st.Mode().Perm() != 0o644 {
				l.Fatalf("%s was changed: %q, %v, %v", p, b, st.Mode(), err)
			}
		}
		return err
	})
	l.must(err)
	if len(seen) != 4 {
		l.Fatalf("outside the root there is %q", seen)
	}
}
