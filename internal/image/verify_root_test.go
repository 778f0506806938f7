//go:build root

package image_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/image/imagetest"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/layer/overlay"
	"github.com/tare-engine/tare/internal/layer/vfs"
)

// everything is an image with each kind of entry that a layer can have.
func everything(t testing.TB) imagetest.Image {
	t.Helper()
	at := time.Unix(1700000000, 123456789)
	base := tarOf(t,
		tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0750, Uid: 7, Gid: 8, ModTime: at},
		tar.Header{Name: "d/file", Typeflag: tar.TypeReg, Mode: 04755, Uid: 1, ModTime: at, Size: 300_000},
		tar.Header{Name: "d/hard", Typeflag: tar.TypeLink, Linkname: "d/file", ModTime: at},
		tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "d/file", ModTime: at},
		tar.Header{Name: "null", Typeflag: tar.TypeChar, Mode: 0666, Devmajor: 1, Devminor: 3, ModTime: at},
		tar.Header{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0600, ModTime: at},
		tar.Header{Name: "attributes", Typeflag: tar.TypeReg, Mode: 0644, ModTime: at, Size: 10, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}},
		tar.Header{Name: "implied/by/file", Typeflag: tar.TypeReg, Mode: 0644, ModTime: at, Size: 1},
		tar.Header{Name: "gone", Typeflag: tar.TypeReg, Mode: 0644, ModTime: at, Size: 1},
		tar.Header{Name: "opaque/gone", Typeflag: tar.TypeReg, Mode: 0644, ModTime: at, Size: 1},
	)
	top := tarOf(t,
		tar.Header{Name: ".wh.gone", Typeflag: tar.TypeReg, Mode: 0644, ModTime: at},
		tar.Header{Name: "opaque/.wh..wh..opq", Typeflag: tar.TypeReg, Mode: 0644, ModTime: at},
		tar.Header{Name: "opaque/new", Typeflag: tar.TypeReg, Mode: 0644, ModTime: at, Size: 5},
		tar.Header{Name: "d/more", Typeflag: tar.TypeReg, Mode: 0600, ModTime: at, Size: 70_000},
	)
	return imagetest.Image{Layers: [][]byte{base, top}, Pack: imagetest.Gzip}
}

func tarOf(t testing.TB, list ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range list {
		h.Format = tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(bytes.Repeat([]byte("x"), int(h.Size))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// verify returns what is damaged, one a line, and what came out for each image.
func (s *site) verify(t testing.TB, r *remote, refs ...string) (lines []string, all []image.Verified) {
	t.Helper()
	o := image.VerifyOptions{
		Images: refs, Repair: r != nil,
		Source: func(reference.Named) image.Source { return r },
		Damage: func(d image.Damage) error {
			line := fmt.Sprint(d.Kind, " ", d.Digest.Encoded()[:8], " ", d.Path, " ", d.Problem)
			if d.Repaired {
				line += " (repaired)"
			}
			if d.Unrepaired != "" {
				line += " (" + d.Unrepaired + ")"
			}
			lines = append(lines, line)
			return nil
		},
		Image: func(v image.Verified) error {
			all = append(all, v)
			return nil
		},
	}
	if err := s.images.Verify(ctx, o); err != nil {
		t.Fatal(err)
	}
	return lines, all
}

func (s *site) whole(t testing.TB) {
	t.Helper()
	if lines, _ := s.verify(t, nil); len(lines) > 0 {
		t.Errorf("damaged:\n%s", strings.Join(lines, "\n"))
	}
}

// flip changes one byte in the middle of a file and keeps its times.
func flip(t testing.TB, name string) {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], info.Size()/2); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], info.Size()/2); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
}

// files lists the regular files with data below a directory.
func files(t testing.TB, dir string) (all []string) {
	t.Helper()
	err := filepath.Walk(dir, func(p string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() && info.Size() > 0 {
			all = append(all, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func eachDriver(t *testing.T, f func(t *testing.T, s *site)) {
	for name, open := range map[string]func(string) (layer.Driver, error){
		"overlay": func(root string) (layer.Driver, error) { return overlay.New(root) },
		"vfs":     func(root string) (layer.Driver, error) { return vfs.New(root) },
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			d, err := open(root)
			if err != nil {
				t.Fatal(err)
			}
			f(t, openOn(t, root, d))
		})
	}
}

func TestVerifyFindsAndRepairMends(t *testing.T) {
	eachDriver(t, func(t *testing.T, s *site) {
		r, i := newRemote(), everything(t)
		m := r.image(i)
		r.tags["1"] = r.index(m)
		if _, _, err := s.pull(ctx, t, "host/x:1", r, image.PullOptions{}); err != nil {
			t.Fatal(err)
		}
		s.whole(t)
		_, all := s.verify(t, nil)
		if len(all) != 1 || all[0].Blobs != 5 || all[0].Layers != 2 || all[0].Names[0] != "host/x:1" {
			t.Fatalf("%+v", all)
		}
		blobs, err := filepath.Glob(filepath.Join(s.root, "content/blobs/sha256/*"))
		if err != nil || len(blobs) != 5 {
			t.Fatal(blobs, err)
		}
		for _, b := range blobs {
			flip(t, b)
			lines, _ := s.verify(t, nil)
			if len(lines) != 1 || !strings.Contains(lines[0], " "+filepath.Base(b)[:8]+" ") || !strings.Contains(lines[0], "another digest") {
				t.Errorf("%s: %q", filepath.Base(b), lines)
			}
			lines, all := s.verify(t, r)
			if len(lines) != 1 || !strings.HasSuffix(lines[0], "(repaired)") || all[0].Repaired != 1 {
				t.Errorf("%s: %q, %+v", filepath.Base(b), lines, all)
			}
			s.whole(t)
			if err := os.Remove(b); err != nil {
				t.Fatal(err)
			}
			if lines, _ := s.verify(t, r); len(lines) != 1 || !strings.HasSuffix(lines[0], "is missing (repaired)") {
				t.Errorf("%s: %q", filepath.Base(b), lines)
			}
			s.whole(t)
		}
		diffs, err := filepath.Glob(filepath.Join(s.root, "layers/*/*/diff"))
		if err != nil || len(diffs) != 2 {
			t.Fatal(diffs, err)
		}
		n := 0
		for _, diff := range diffs {
			for _, f := range files(t, diff) {
				n++
				p, _ := filepath.Rel(diff, f)
				flip(t, f)
				lines, _ := s.verify(t, nil)
				if len(lines) == 0 || !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, " "+p+" has other data") }) {
					t.Errorf("%s: %q", p, lines)
				}
				lines, _ = s.verify(t, r)
				if slices.ContainsFunc(lines, func(l string) bool { return !strings.HasSuffix(l, "(repaired)") }) {
					t.Errorf("%s: %q", p, lines)
				}
				s.whole(t)
			}
		}
		if n < 7 {
			t.Errorf("only %d files were looked at", n)
		}
		if left, _ := filepath.Glob(filepath.Join(s.root, "layers/*/*/replaced-*")); len(left) > 0 {
			t.Error("left:", left)
		}
	})
}

func TestVerifySeesEveryKindOfDamage(t *testing.T) {
	eachDriver(t, func(t *testing.T, s *site) {
		r := newRemote()
		r.tags["1"] = r.image(everything(t))
		if _, _, err := s.pull(ctx, t, "host/x:1", r, image.PullOptions{}); err != nil {
			t.Fatal(err)
		}
		img, err := s.images.Resolve(ctx, "host/x:1")
		if err != nil {
			t.Fatal(err)
		}
		base := filepath.Join(s.root, "layers", s.layers.Driver(), img.Layers[0].Encoded())
		diff := filepath.Join(base, "diff")
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []struct {
			name, want string
			do         func() error
		}{
			{"mode", "d/file has mode 0755 instead of 04755", func() error { return os.Chmod(diff+"/d/file", 0755) }},
			{"mode of a directory", "d has mode 0700 instead of 0750", func() error { return os.Chmod(diff+"/d", 0700) }},
			{"owner", "link has owner 5:0 instead of 0:0", func() error { return os.Lchown(diff+"/link", 5, 0) }},
			{"time", "attributes was changed at another time", func() error { return os.Chtimes(diff+"/attributes", time.Now(), time.Now()) }},
			{"longer", "attributes has 11 bytes instead of 10", func() error { return os.Truncate(diff+"/attributes", 11) }},
			{"attribute", "attributes has other extended attributes", func() error { return unix.Setxattr(diff+"/attributes", "user.a", []byte("c"), 0) }},
			{"attribute too much", "d has other extended attributes", func() error { return unix.Setxattr(diff+"/d", "user.b", []byte("c"), 0) }},
			{"missing", "gone is missing", func() error { return os.Remove(diff + "/gone") }},
			{"missing directory", "implied is missing", func() error { return os.RemoveAll(diff + "/implied") }},
			{"too much", "more does not belong here", func() error { return os.WriteFile(diff+"/more", nil, 0600) }},
			{"hard link", "d/hard has other hard links", func() error {
				must(os.Remove(diff + "/d/hard"))
				must(os.WriteFile(diff+"/d/hard", bytes.Repeat([]byte("x"), 300_000), 0600))
				return nil
			}},
			{"link", "link leads elsewhere", func() error {
				must(os.Remove(diff + "/link"))
				return os.Symlink("/etc/passwd", diff+"/link")
			}},
			{"device", "null is device 1:5 instead of 1:3", func() error {
				must(os.Remove(diff + "/null"))
				return unix.Mknod(diff+"/null", unix.S_IFCHR|0666, int(unix.Mkdev(1, 5)))
			}},
			{"kind", "fifo is a symbolic link instead of a FIFO", func() error {
				must(os.Remove(diff + "/fifo"))
				return os.Symlink("/", diff+"/fifo")
			}},
			{"tree", " is missing", func() error { return os.RemoveAll(diff) }},
			{"record", " has a wrong layer.json", func() error {
				return os.WriteFile(base+"/layer.json", fmt.Appendf(nil, `{"version":1,"diffID":%q,"size":7}`, img.Layers[0]), 0600)
			}},
			{"no record", " has a damaged layer.json", func() error { return os.WriteFile(base+"/layer.json", []byte("x"), 0600) }},
			{"all", " is missing", func() error { return os.RemoveAll(base) }},
		} {
			must(c.do())
			want := "layer " + img.Layers[0].Encoded()[:8] + " " + c.want
			if lines, _ := s.verify(t, nil, "host/x:1"); !slices.Contains(lines, want) {
				t.Errorf("%s: %q, want %q", c.name, lines, want)
			}
			if lines, _ := s.verify(t, r, "host/x:1"); !slices.Contains(lines, want+" (repaired)") {
				t.Errorf("%s: %q", c.name, lines)
			}
			s.whole(t)
		}
	})
}

// TestRepairLeavesContainersTheirLayer: what a container may have mounted stays
// until it is removed.
func TestRepairLeavesContainersTheirLayer(t *testing.T) {
	s, r := openSite(t, t.TempDir()), newRemote()
	r.tags["1"] = r.image(everything(t))
	if _, _, err := s.pull(ctx, t, "host/x:1", r, image.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	img, err := s.images.Resolve(ctx, "host/x:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.layers.Prepare(ctx, "c", img.Chain, layer.Options{}); err != nil {
		t.Fatal(err)
	}
	m, err := s.layers.Mount(ctx, "c", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	file := filepath.Join(s.root, "layers/overlay", img.Layers[0].Encoded(), "diff/attributes")
	flip(t, file)
	damaged, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if lines, _ := s.verify(t, r); len(lines) != 1 {
		t.Fatal(lines)
	}
	s.whole(t)
	seen, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/attributes", m.Fd()))
	if err != nil || !bytes.Equal(seen, damaged) {
		t.Errorf("the container's file has changed: %v", err)
	}
	m.Close()
	if err := s.layers.Remove(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	s.whole(t)
	if left, _ := filepath.Glob(filepath.Join(s.root, "layers/*/*/replaced-*")); len(left) > 0 {
		t.Error("left:", left)
	}
}

func TestRepairSaysWhatIsMissing(t *testing.T) {
	s, r := openSite(t, t.TempDir()), newRemote()
	i := everything(t)
	i.Names = []string{"loaded:1"}
	s.load(t, imagetest.Reader(imagetest.OCI(i)))
	blob := digest.FromBytes(i.Pack(i.Layers[0]))
	flip(t, filepath.Join(s.root, "content/blobs/sha256", blob.Encoded()))
	lines, all := s.verify(t, r)
	if len(lines) != 1 || !strings.Contains(lines[0], "the image has no digest in a repository") || all[0].Repaired != 0 {
		t.Errorf("%q, %+v", lines, all)
	}
	r.tags["1"] = r.image(everything(t))
	if _, _, err := s.pull(ctx, t, "host/x:1", r, image.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	r.blobs[blob] = []byte("something else")
	if lines, _ = s.verify(t, r); len(lines) != 1 || !strings.Contains(lines[0], "(the registry sends something else)") {
		t.Errorf("%q", lines)
	}
	r.blobs[blob] = i.Pack(i.Layers[0])
	if lines, _ = s.verify(t, r); len(lines) != 1 || !strings.Contains(lines[0], "(repaired)") {
		t.Errorf("%q", lines)
	}
	s.whole(t)
}
