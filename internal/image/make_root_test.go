//go:build root

package image_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/image/imagetest"
	"github.com/tare-engine/tare/internal/layer"
)

func newImage(t testing.TB, name string, parent image.ID) image.New {
	n := image.New{Parent: parent, Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, Author: "me", Comment: "msg", CreatedBy: "sh"}
	n.Config = dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{Cmd: []string{"x"}}}
	var err error
	if n.Name, err = image.ParseName(name, ""); err != nil {
		t.Fatal(err)
	}
	return n
}

// changed makes a container of an image, in which change works, and returns
// what writes its layer.
func (s *site) changed(t testing.TB, i *image.Image, change func(root string)) func(context.Context, io.Writer) error {
	t.Helper()
	id := fmt.Sprintf("c%p", change)
	if err := s.layers.Prepare(ctx, id, i.Chain, layer.Options{}); err != nil {
		t.Fatal(err)
	}
	m, err := s.layers.Mount(ctx, id, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	change(fmt.Sprintf("/proc/self/fd/%d/", m.Fd()))
	return func(ctx context.Context, w io.Writer) error { return s.layers.Diff(ctx, id, nil, w) }
}

func (s *site) read(t testing.TB, i *image.Image, name string) string {
	t.Helper()
	m, err := s.layers.View(ctx, i.Chain)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/%s", m.Fd(), name))
	if err != nil {
		return err.(*os.PathError).Err.Error()
	}
	return string(b)
}

func (s *site) image(t testing.TB, ref string) *image.Image {
	t.Helper()
	i, err := s.images.Resolve(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestCommit(t *testing.T) {
	for name, open := range map[string]func(root string) *site{
		"overlay": func(root string) *site { return openSite(t, root) },
		"vfs":     func(root string) *site { return openOn(t, root, newVFS(t, root)) },
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			s := open(root)
			packed := simple("x:1")
			packed.Pack = imagetest.Gzip
			s.load(t, imagetest.Reader(imagetest.Docker(packed)))
			parent := s.image(t, "x:1")
			diff := s.changed(t, parent, func(root string) {
				if err := errors.Join(os.WriteFile(root+"a", []byte("three"), 0o600), os.Remove(root+"b")); err != nil {
					t.Fatal(err)
				}
			})
			id, err := s.images.Commit(ctx, newImage(t, "new", parent.ID), diff)
			if err != nil {
				t.Fatal(err)
			}
			s.close()
			s = open(root)
			i := s.image(t, "new")
			if i.ID != id || i.Parent != parent.ID || parent.Parent != "" || len(i.Layers) != 3 || i.Chain != layer.Chain(parent.Chain, i.Layers[2]) || i.Config.Author != "me" || i.Config.Config.Cmd[0] != "x" || i.Created.IsZero() {
				t.Errorf("%+v", i)
			}
			if a, b := s.read(t, i, "a"), s.read(t, i, "b"); a != "three" || b != "no such file or directory" {
				t.Errorf("a is %q, b %q", a, b)
			}
			steps, err := s.images.History(ctx, i)
			if err != nil || len(steps) != 3 || steps[0].Comment != "msg" || steps[0].CreatedBy != "sh" || steps[0].Size != 5 {
				t.Errorf("%+v, %v", steps, err)
			}
			// The layers below are the parent's very blobs.
			if _, err := s.images.Choose(ctx, []string{"new"}, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCommitOfNothingAddsNoLayer(t *testing.T) {
	s := openSite(t, t.TempDir())
	s.load(t, imagetest.Reader(imagetest.Docker(simple("x:1"))))
	parent := s.image(t, "x:1")
	id, err := s.images.Commit(ctx, newImage(t, "", parent.ID), s.changed(t, parent, func(string) {}))
	if err != nil {
		t.Fatal(err)
	}
	i := s.image(t, id.String())
	if h := i.Config.History; i.Chain != parent.Chain || len(h) != 3 || !h[2].EmptyLayer || len(i.RepoTags) != 0 {
		t.Errorf("%+v", i)
	}
}

// What does not become an image leaves nothing, and takes no name from another.
func TestCommitThatFailsLeavesNothing(t *testing.T) {
	s := openSite(t, t.TempDir())
	s.load(t, imagetest.Reader(imagetest.Docker(simple("x:1"))))
	parent := s.image(t, "x:1")
	before := s.store(t)
	bad := errors.New("bad")
	write := func(b []byte, err error) func(context.Context, io.Writer) error {
		return func(_ context.Context, w io.Writer) error {
			_, werr := w.Write(b)
			return errors.Join(werr, err)
		}
	}
	whole := imagetest.Layer(map[string]string{"f": strings.Repeat("f", 2<<20)})
	left, cancel := context.WithCancel(ctx)
	for name, c := range map[string]struct {
		ctx  context.Context
		n    image.New
		diff func(context.Context, io.Writer) error
	}{
		"error at once":   {ctx, newImage(t, "x:1", parent.ID), write(nil, bad)},
		"error later":     {ctx, newImage(t, "x:1", parent.ID), write(whole[:1<<20], bad)},
		"cut off":         {ctx, newImage(t, "x:1", parent.ID), write(whole[:1<<20], nil)},
		"no archive":      {ctx, newImage(t, "x:1", parent.ID), write(bytes.Repeat([]byte("x"), 1<<20), nil)},
		"client leaves":   {left, newImage(t, "x:1", parent.ID), func(ctx context.Context, w io.Writer) error { cancel(); _, err := w.Write(whole); return err }},
		"no such parent":  {ctx, newImage(t, "x:1", "sha256:"+image.ID(strings.Repeat("0", 64))), write(whole, nil)},
		"parent vanishes": {ctx, newImage(t, "y:1", s.gone(t)), write(whole, nil)},
	} {
		if _, err := s.images.Commit(c.ctx, c.n, c.diff); err == nil {
			t.Errorf("%s: committed", name)
		}
		if after := s.store(t); !slices.Equal(before, after) {
			t.Errorf("%s:\n%q, before\n%q", name, after, before)
		}
	}
}

// gone is the ID of an image that was there.
func (s *site) gone(t *testing.T) image.ID {
	s.load(t, imagetest.Reader(imagetest.Docker(imagetest.Image{Names: []string{"gone:1"}, Layers: [][]byte{imagetest.Layer(map[string]string{"g": "g"})}})))
	id := s.image(t, "gone:1").ID
	if _, err := s.images.Remove(ctx, "gone:1", image.RemoveOptions{InUse: func(image.ID) []image.User { return nil }}); err != nil {
		t.Fatal(err)
	}
	return id
}

// A parent that is removed while the layer is written is missed at the end.
func TestCommitBesideARemoval(t *testing.T) {
	s := openSite(t, t.TempDir())
	s.load(t, imagetest.Reader(imagetest.Docker(simple("x:1"))))
	parent := s.image(t, "x:1")
	diff := s.changed(t, parent, func(root string) { os.WriteFile(root+"n", nil, 0o600) }) // keeps the parent's layers
	_, err := s.images.Commit(ctx, newImage(t, "new", parent.ID), func(ctx context.Context, w io.Writer) error {
		_, err := s.images.Remove(ctx, "x:1", image.RemoveOptions{InUse: func(image.ID) []image.User { return nil }})
		return errors.Join(err, diff(ctx, w))
	})
	if !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("committed on an image that is gone: %v", err)
	}
	if list, err := s.images.List(ctx); err != nil || len(list) > 0 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestImport(t *testing.T) {
	tarball := imagetest.Layer(map[string]string{"etc/": "", "etc/f": "data", "big": strings.Repeat("b", 1<<20)})
	for name, pack := range map[string]func([]byte) []byte{"plain": func(b []byte) []byte { return b }, "gzip": imagetest.Gzip, "zstd": imagetest.Zstd} {
		t.Run(name, func(t *testing.T) {
			s := openSite(t, t.TempDir())
			id, err := s.images.Import(ctx, newImage(t, "imp:2", ""), bytes.NewReader(pack(tarball)))
			if err != nil {
				t.Fatal(err)
			}
			i := s.image(t, "imp:2")
			if i.ID != id || len(i.Layers) != 1 || s.read(t, i, "etc/f") != "data" {
				t.Errorf("%+v", i)
			}
			saved(t, s, "imp:2") // a layer's bytes are kept as they came
			if got, _ := filepath.Glob(s.root + "/content/blobs/sha256/*"); len(got) != 3 {
				t.Errorf("blobs: %q", got)
			}
		})
	}
	s := openSite(t, t.TempDir())
	before := s.store(t)
	for name, b := range map[string][]byte{"no archive": []byte("bad"), "cut off": tarball[:1<<19], "packed cut off": imagetest.Gzip(tarball)[:300], "a bomb of names": imagetest.Layer(map[string]string{strings.Repeat("d/", 2000) + "f": ""})} {
		if _, err := s.images.Import(ctx, newImage(t, "imp:2", ""), bytes.NewReader(b)); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
		if after := s.store(t); !slices.Equal(before, after) {
			t.Errorf("%s left %q", name, after)
		}
	}
}

func TestImportOfNothingHasNoLayer(t *testing.T) {
	s := openSite(t, t.TempDir())
	if _, err := s.images.Import(ctx, newImage(t, "nothing", ""), bytes.NewReader(nil)); err != nil {
		t.Fatal(err)
	}
	if i := s.image(t, "nothing"); len(i.Layers) != 0 || len(i.Config.History) != 1 || !i.Config.History[0].EmptyLayer {
		t.Errorf("%+v", i)
	}
	saved(t, s, "nothing")
}

func TestRemovalTakesNamelessParents(t *testing.T) {
	s := openSite(t, t.TempDir())
	s.load(t, imagetest.Reader(imagetest.Docker(simple("base:1"))))
	commit := func(name string, parent image.ID) image.ID {
		t.Helper()
		on := s.image(t, parent.String())
		id, err := s.images.Commit(ctx, newImage(t, name, parent), s.changed(t, on, func(root string) { os.WriteFile(root+name, nil, 0o600) }))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	base := s.image(t, "base:1").ID
	lower := commit("", base)
	upper := commit("", lower)
	var used image.ID
	o := image.RemoveOptions{InUse: func(id image.ID) []image.User {
		if id == used {
			return []image.User{{Container: "c"}}
		}
		return nil
	}}
	remove := func(name string) (deleted []string) {
		t.Helper()
		done, err := s.images.Remove(ctx, name, o)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range done {
			if d.Deleted == d.ID.String() {
				deleted = append(deleted, d.Deleted)
			}
		}
		return deleted
	}
	one, two := commit("one", upper), commit("two", upper)
	used = ""
	if got := remove("one"); len(got) != 1 || got[0] != one.String() {
		t.Errorf("beside another child %q went", got)
	}
	used = upper
	if got := remove("two"); len(got) != 1 || got[0] != two.String() {
		t.Errorf("under a container %q went", got)
	}
	used, o.NoPrune = "", true
	three := commit("three", upper)
	if got := remove("three"); len(got) != 1 || got[0] != three.String() {
		t.Errorf("although they were to be kept %q went", got)
	}
	o.NoPrune = false
	four := commit("four", upper)
	if got, want := remove("four"), []string{four.String(), upper.String(), lower.String()}; !slices.Equal(got, want) {
		t.Errorf("%q went, want %q", got, want)
	}
	s.image(t, "base:1")
}

func saved(t *testing.T, s *site, refs ...string) []byte {
	t.Helper()
	list, err := s.images.Choose(ctx, refs, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := s.images.Save(ctx, list, image.Omission{}, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// without is an archive without one of its members.
func without(t *testing.T, b []byte, name string) []byte {
	t.Helper()
	var out bytes.Buffer
	r, w := tar.NewReader(bytes.NewReader(b)), tar.NewWriter(&out)
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err == nil && h.Name != name {
			if err = w.WriteHeader(h); err == nil {
				_, err = io.Copy(w, r)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return out.Bytes()
}

func TestSaveAndLoad(t *testing.T) {
	s := openSite(t, t.TempDir())
	one, two := simple("x:1", "host:5000/y:latest"), imagetest.Image{Names: []string{"x:2"}, Layers: simple().Layers[:1]}
	one.Pack, two.Pack = imagetest.Gzip, imagetest.Gzip // they share a blob
	s.load(t, imagetest.Reader(imagetest.Docker(one, two)))
	b := saved(t, s, "x", "host:5000/y", "x:2")
	if !bytes.Equal(b, saved(t, s, "x", "host:5000/y", "x:2")) {
		t.Error("the same images give another archive")
	}
	seen := map[string]bool{}
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if err != nil {
			break
		}
		if seen[h.Name] || !h.ModTime.IsZero() && h.ModTime.Unix() != 0 {
			t.Errorf("%s: twice, or with a time (%v)", h.Name, h.ModTime)
		}
		seen[h.Name] = true
	}
	for form, b := range map[string][]byte{"both": b, "OCI": without(t, b, "manifest.json"), "docker": without(t, b, "index.json")} {
		to := openSite(t, t.TempDir())
		to.load(t, bytes.NewReader(b))
		for _, ref := range []string{"x:1", "x:2", "host:5000/y"} {
			got, want := to.image(t, ref), s.image(t, ref)
			if got.ID != want.ID || got.Manifest.Digest != want.Manifest.Digest {
				t.Errorf("%s: %s is %s by %s, want %s by %s", form, ref, got.ID, got.Manifest.Digest, want.ID, want.Manifest.Digest)
			}
		}
	}
	// By ID it goes without names.
	to := openSite(t, t.TempDir())
	to.load(t, bytes.NewReader(saved(t, s, one.ID().Encoded()[:12])))
	if got := to.image(t, one.ID().String()); len(got.RepoTags) > 0 {
		t.Errorf("%q", got.RepoTags)
	}
	for ref, kind := range map[string]errdefs.Kind{"nosuch": errdefs.NotFound, "UPPER": errdefs.InvalidArgument, "x:3": errdefs.NotFound} {
		if _, err := s.images.Choose(ctx, []string{"x:1", ref}, nil); !errdefs.Is(err, kind) {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

// An image that came through an index keeps it.
// writerFunc is a writer that is a function.
type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestSaveBesideARemoval(t *testing.T) {
	s := openSite(t, t.TempDir())
	s.load(t, imagetest.Reader(imagetest.Docker(simple("x:1"))))
	want := saved(t, s, "x:1")
	list, err := s.images.Choose(ctx, []string{"x:1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	var once sync.Once
	err = s.images.Save(ctx, list, image.Omission{}, writerFunc(func(p []byte) (int, error) {
		once.Do(func() {
			if _, err := s.images.Remove(ctx, "x:1", image.RemoveOptions{}); err != nil {
				t.Error(err)
			}
		})
		return got.Write(p)
	}))
	if err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%d bytes of %d: %v", got.Len(), len(want), err)
	}
}

func TestSaveKeepsTheIndex(t *testing.T) {
	s, r := openSite(t, t.TempDir()), newRemote()
	other := imagetest.Image{Layers: simple().Layers[:1]}
	d, o := r.image(simple()), r.image(other)
	d.Platform, o.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}, &ocispec.Platform{OS: "linux", Architecture: "s390x"}
	top := r.index(o, d)
	r.tags["1"] = top
	if _, _, err := s.pull(ctx, t, "x:1", r, image.PullOptions{Platform: d.Platform}); err != nil {
		t.Fatal(err)
	}
	want := s.image(t, "x:1")
	if want.Target.Digest != top.Digest {
		t.Fatalf("the index is not the target: %+v", want.Target)
	}
	to := openSite(t, t.TempDir())
	to.load(t, bytes.NewReader(saved(t, s, "x:1")))
	if got := to.image(t, "x:1"); got.ID != want.ID || got.Target.Digest != top.Digest || got.Manifest.Digest != want.Manifest.Digest {
		t.Errorf("got %+v", got)
	}
}

// A blob that is lost is made again of the unpacked layer, if that gives the
// same bytes; else the error names it, before the archive begins.
func TestSaveWithoutABlob(t *testing.T) {
	s := openSite(t, t.TempDir())
	packed := simple("x:1")
	packed.Pack = imagetest.Gzip
	s.load(t, imagetest.Reader(imagetest.Docker(packed)))
	parent := s.image(t, "x:1")
	if _, err := s.images.Commit(ctx, newImage(t, "new", parent.ID), s.changed(t, parent, func(root string) { os.WriteFile(root+"n", []byte("n"), 0o600) })); err != nil {
		t.Fatal(err)
	}
	b := saved(t, s, "new")
	i := s.image(t, "new")
	blob := func(hex string) string { return s.root + "/content/blobs/sha256/" + hex }
	if err := os.Remove(blob(i.Layers[2].Encoded())); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, saved(t, s, "new")) {
		t.Error("another archive")
	}
	all, _ := filepath.Glob(blob("*"))
	for _, p := range all {
		if info, err := os.Stat(p); err == nil && info.Size() > 0 {
			head, _ := os.ReadFile(p)
			if bytes.HasPrefix(head, []byte{0x1f, 0x8b}) {
				if err := os.Truncate(p, info.Size()-1); err != nil {
					t.Fatal(err)
				}
				_, err := s.images.Choose(ctx, []string{"new"}, nil)
				if err == nil || !strings.Contains(err.Error(), filepath.Base(p)) {
					t.Errorf("without %s: %v", filepath.Base(p), err)
				}
				return
			}
		}
	}
	t.Error("no packed blob")
}
