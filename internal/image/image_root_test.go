//go:build root

package image_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/content"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/image/hello"
	"github.com/tare-engine/tare/internal/image/imagetest"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/layer/overlay"
	"github.com/tare-engine/tare/internal/layer/vfs"
)

type site struct {
	root   string
	images *image.Service
	layers *layer.Service
	close  func()
}

func openSite(t testing.TB, root string) *site {
	t.Helper()
	d, err := overlay.New(root)
	if err != nil {
		t.Fatal(err)
	}
	return openOn(t, root, d)
}

func newVFS(t testing.TB, root string) layer.Driver {
	t.Helper()
	d, err := vfs.New(root)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func openOn(t testing.TB, root string, d layer.Driver) *site {
	t.Helper()
	l, err := layer.Open(layer.Config{Root: root, Driver: d})
	if err != nil {
		t.Fatal(err)
	}
	c, err := content.Open(filepath.Join(root, "content"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := image.Open(context.Background(), root, c, l, 3)
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	at := &site{root, s, l, func() { once.Do(func() { s.Close(); l.Close() }) }}
	t.Cleanup(at.close)
	return at
}

var ctx = context.Background()

func (s *site) load(t testing.TB, r io.Reader) string {
	t.Helper()
	var said strings.Builder
	if _, err := s.images.Load(ctx, r, image.LoadOptions{Quiet: true, Out: func(m jsonstream.Message) { said.WriteString(m.Stream) }}); err != nil {
		t.Fatal(err)
	}
	return said.String()
}

// store lists what is kept on disk: names, blobs, layers.
func (s *site) store(t testing.TB) []string {
	t.Helper()
	var all []string
	list, err := s.images.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range list {
		all = append(all, string(i.ID)+" "+strings.Join(i.RepoTags, " "))
	}
	for _, pattern := range []string{"content/blobs/sha256/*", "content/staging/*", "content/partial/*", "content/ingest/*", "layers/*/staging/*", "layers/*/*/diff", "images.sweep"} {
		found, _ := filepath.Glob(filepath.Join(s.root, pattern))
		all = append(all, found...)
	}
	return all
}

func simple(names ...string) imagetest.Image {
	return imagetest.Image{Names: names, Layers: [][]byte{
		imagetest.Layer(map[string]string{"bin/": "", "bin/sh": "#!", "a": "1"}),
		imagetest.Layer(map[string]string{"a": "two", "b": strings.Repeat("b", 5000)}),
	}}
}

func TestLoadReadsEveryForm(t *testing.T) {
	packs := map[string]func([]byte) []byte{"plain": nil, "gzip": imagetest.Gzip, "zstd": imagetest.Zstd, "bzip2": imagetest.Bzip2,
		"xz": func(b []byte) []byte { return imagetest.Xz(b) }}
	for layers, inner := range packs {
		for outer, pack := range packs {
			for form, build := range map[string]func(...imagetest.Image) []imagetest.Member{"docker": imagetest.Docker, "oci": imagetest.OCI,
				"both": func(i ...imagetest.Image) []imagetest.Member {
					return append(imagetest.OCI(i...), imagetest.Docker(i...)...)
				}} {
				t.Run(fmt.Sprintf("%s/%s/%s", form, outer, layers), func(t *testing.T) {
					s := openSite(t, t.TempDir())
					i := simple("x:1", "host:5000/y:latest")
					i.Pack = inner
					b := imagetest.Tar(build(i))
					if pack != nil {
						b = pack(b)
					}
					if said := s.load(t, bytes.NewReader(b)); said != "Loaded image: x:1\nLoaded image: host:5000/y:latest\n" {
						t.Errorf("said %q", said)
					}
					got, err := s.images.Resolve(ctx, "x:1")
					if err != nil {
						t.Fatal(err)
					}
					if got.ID != i.ID() || len(got.RepoTags) != 2 || len(got.Layers) != 2 || got.Size != 2+1+3+5000 {
						t.Errorf("%+v", got)
					}
					m, err := s.layers.View(ctx, got.Chain)
					if err != nil {
						t.Fatal(err)
					}
					defer m.Close()
					if b, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/a", m.Fd())); string(b) != "two" {
						t.Errorf("a: %q, %v", b, err)
					}
				})
			}
		}
	}
}

func TestLoadOnVFS(t *testing.T) {
	root := t.TempDir()
	s := openOn(t, root, newVFS(t, root))
	s.load(t, imagetest.Reader(imagetest.Docker(simple("x"))))
	i, err := s.images.Resolve(ctx, "x")
	if err != nil || !s.layers.Has(i.Chain) {
		t.Fatal(err)
	}
}

func TestLoadedImagesSurviveARestart(t *testing.T) {
	s := openSite(t, t.TempDir())
	s.load(t, imagetest.Reader(imagetest.Docker(simple("x:1"))))
	untagged := simple()
	untagged.Layers = untagged.Layers[:1]
	if said := s.load(t, imagetest.Reader(imagetest.Docker(untagged))); said != "Loaded image ID: "+string(untagged.ID())+"\n" {
		t.Errorf("said %q", said)
	}
	want := s.store(t)
	s.close()
	s = openSite(t, s.root)
	if got := s.store(t); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestOldDockerSaveLinksLayers(t *testing.T) {
	s := openSite(t, t.TempDir())
	i := simple("x:1")
	i.Layers = append(i.Layers, i.Layers[0]) // the same layer again
	members := imagetest.Docker(i)
	first := members[0].Name
	members[2] = imagetest.Member{Name: "again/layer.tar", Link: "../" + first}
	last := &members[len(members)-1]
	last.Data = bytes.Replace(last.Data, []byte(first+`"]`), []byte(`again/layer.tar"]`), 1)
	s.load(t, imagetest.Reader(members))
}

func TestBadArchivesLeaveNothing(t *testing.T) {
	s := openSite(t, t.TempDir())
	empty := s.store(t)
	edit := func(name string, f func([]byte) []byte) []imagetest.Member {
		members := imagetest.Docker(simple("x:1"))
		for i := range members {
			if strings.HasSuffix(members[i].Name, name) {
				members[i].Data = f(members[i].Data)
			}
		}
		return members
	}
	replace := func(old, new string) func([]byte) []byte {
		return func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(old), []byte(new)) }
	}
	set := func(v string) func([]byte) []byte { return func([]byte) []byte { return []byte(v) } }
	config := string(simple().ID().Encoded()) + ".json"
	other := simple("y")
	other.Change = func(c map[string]any) {
		c["rootfs"] = map[string]any{"type": "layers", "diff_ids": []digest.Digest{digest.FromString("1"), digest.FromString("2")}}
	}
	windows := simple("y")
	windows.Change = func(c map[string]any) { c["os"] = "windows" }
	evil := simple("y")
	evil.Layers = [][]byte{append(bytes.Repeat([]byte("x"), 512), make([]byte, 1024)...)}
	lying := imagetest.OCI(simple("z"))
	lying[1].Data = append(lying[1].Data, ' ')
	confused := imagetest.OCI(simple("z"))
	confused[len(confused)-1].Data = []byte(`{"manifests":[],"layers":[]}`)
	// CVE-2021-41190: what a blob is must not depend on whom one asks.
	typed := imagetest.OCI(simple("z"))
	typed[len(typed)-1].Data = bytes.ReplaceAll(typed[len(typed)-1].Data, []byte(ocispec.MediaTypeImageManifest), []byte("application/vnd.docker.distribution.manifest.v2+json"))
	whole := imagetest.Tar(imagetest.Docker(simple("x:1")))
	for name, b := range map[string][]byte{
		"empty":            nil,
		"no tar":           []byte(strings.Repeat("x", 2000)),
		"cut":              whole[:len(whole)/2],
		"cut gzip":         imagetest.Gzip(whole)[:100],
		"damaged gzip":     append(imagetest.Gzip(whole)[:60], bytes.Repeat([]byte("x"), 100)...),
		"damaged zstd":     append(imagetest.Zstd(whole)[:60], bytes.Repeat([]byte("x"), 100)...),
		"damaged xz":       append(imagetest.Xz(whole)[:60], bytes.Repeat([]byte("x"), 100)...),
		"cut xz":           imagetest.Xz(whole)[:100],
		"greedy xz":        imagetest.Xz(whole, "--lzma2=dict=128MiB"),
		"bomb":             imagetest.Gzip(make([]byte, 200<<20)),
		"no manifest":      imagetest.Tar(imagetest.Docker(simple("x:1"))[:2]),
		"null":             imagetest.Tar(edit("manifest.json", set("null"))),
		"list of null":     imagetest.Tar(edit("manifest.json", set("[null]"))),
		"deep":             imagetest.Tar(edit("manifest.json", set(strings.Repeat("[", 200000)))),
		"huge":             imagetest.Tar(edit("manifest.json", set(`[{"Config":"`+strings.Repeat("x", 5<<20)+`"}]`))),
		"null config":      imagetest.Tar(edit(config, set("null"))),
		"config is a list": imagetest.Tar(edit(config, set("[]"))),
		"layer missing":    imagetest.Tar(edit("manifest.json", replace("layer.tar", "other.tar"))),
		"traversal":        imagetest.Tar(edit("manifest.json", replace(config, "../../../../etc/passwd"))),
		"wrong diff ID":    imagetest.Tar(imagetest.Docker(other)),
		"wrong system":     imagetest.Tar(imagetest.Docker(windows)),
		"bad layer":        imagetest.Tar(imagetest.Docker(evil)),
		"bad tag":          imagetest.Tar(edit("manifest.json", replace("x:1", "UPPER:1"))),
		"digest as tag":    imagetest.Tar(edit("manifest.json", replace("x:1", "x@"+string(digest.FromString(""))))),
		"name of digests":  imagetest.Tar(edit("manifest.json", replace("x:1", "sha256:1"))),
		"lying blob":       imagetest.Tar(lying),
		"index, manifest":  imagetest.Tar(confused),
		"two types":        imagetest.Tar(typed),
		"one of two":       imagetest.Tar(append(imagetest.Docker(simple("x:1"), other)[:0:0], imagetest.Docker(simple("x:1"), other)...)),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.images.Load(ctx, bytes.NewReader(b), image.LoadOptions{})
			if !errdefs.Is(err, errdefs.InvalidArgument) {
				t.Errorf("error %v", err)
			}
			if got := s.store(t); !slices.Equal(got, empty) {
				t.Errorf("left: %q", got)
			}
		})
	}
}

func TestResolve(t *testing.T) {
	s := openSite(t, t.TempDir())
	s.load(t, imagetest.Reader(imagetest.Docker(simple("x:1", "host/y:latest"))))
	id := string(simple().ID())
	for _, ref := range []string{"x:1", "docker.io/library/x:1", "host/y", id, id[7:], id[7:19], "sha256:" + id[7:13], id[7:9]} {
		if i, err := s.images.Resolve(ctx, ref); err != nil || string(i.ID) != id {
			t.Errorf("%s: %v", ref, err)
		}
	}
	for ref, text := range map[string]string{
		"x": "No such image: x:latest", "y:2": "No such image: y:2", "docker.io/library/q": "No such image: q:latest",
		"UP": "invalid reference format: repository name (library/UP) must be lowercase",
	} {
		if _, err := s.images.Resolve(ctx, ref); err == nil || err.Error() != text {
			t.Errorf("%s: %v, want %s", ref, err, text)
		}
	}
	for _, name := range []string{"sha256", "docker.io/library/sha256:1"} { // else sha256:1 is no beginning of an ID any more
		if _, _, err := s.images.Tag(ctx, "x:1", name, ""); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("tagged %s: %v", name, err)
		}
		if _, _, err := s.pull(ctx, t, name, newRemote(), image.PullOptions{}); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("pulled %s: %v", name, err)
		}
	}
}

func TestTagMovesAndLeavesADanglingImage(t *testing.T) {
	s := openSite(t, t.TempDir())
	s.load(t, imagetest.Reader(imagetest.Docker(simple("x:1"))))
	second := simple("x:1")
	second.Layers = second.Layers[:1]
	s.load(t, imagetest.Reader(imagetest.Docker(second)))
	old, err := s.images.Resolve(ctx, string(simple().ID()))
	if err != nil || len(old.RepoTags) != 0 {
		t.Fatalf("%+v, %v", old, err)
	}
	if name, i, err := s.images.Tag(ctx, string(old.ID), "z", ""); err != nil || name != "z:latest" || len(i.RepoTags) != 1 {
		t.Errorf("%s %+v %v", name, i, err)
	}
	if list, _ := s.images.List(ctx); len(list) != 2 {
		t.Errorf("%d images", len(list))
	}
}

func TestRemove(t *testing.T) {
	s := openSite(t, t.TempDir())
	empty := s.store(t)
	shared := simple("y:1")
	shared.Layers = shared.Layers[:1]
	s.load(t, imagetest.Reader(imagetest.Docker(simple("x:1", "x:2"), shared)))
	users := []image.User{{Container: strings.Repeat("c", 64)}}
	inUse := func(image.ID) []image.User { return users }
	id := string(simple().ID())[7:19]
	steps := []struct {
		ref   string
		force bool
		run   bool
		want  string // the error, or what was removed
	}{
		{"q", false, false, "No such image: q:latest"},
		{id, false, false, "conflict: unable to delete " + id + " (must be forced) - image is referenced in multiple repositories"},
		{"x:1", false, false, "untagged x:1"},
		{"x:2", false, false, `conflict: unable to remove repository reference "x:2" (must force) - container cccccccccccc is using its referenced image ` + id},
		{id, false, false, "conflict: unable to delete " + id + " (must be forced) - image is being used by stopped container cccccccccccc"},
		{id, true, true, "conflict: unable to delete " + id + " (cannot be forced) - image is being used by running container cccccccccccc"},
		{"x:2", true, true, "untagged x:2"},
	}
	for _, st := range steps {
		users[0].Running = st.run
		done, err := s.images.Remove(ctx, st.ref, image.RemoveOptions{Force: st.force, InUse: inUse})
		got := ""
		if err != nil {
			got = err.Error()
		}
		for _, d := range done {
			got += "untagged " + d.Untagged
		}
		if got != st.want {
			t.Errorf("%s: got %s\nwant %s", st.ref, got, st.want)
		}
	}
	done, err := s.images.Remove(ctx, id, image.RemoveOptions{})
	if err != nil || len(done) != 2 { // image and its own layer
		t.Errorf("%+v, %v", done, err)
	}
	if i, err := s.images.Resolve(ctx, "y:1"); err != nil || !s.layers.Has(i.Chain) {
		t.Errorf("the other image: %v", err)
	}
	if done, err := s.images.Remove(ctx, "y:1", image.RemoveOptions{}); err != nil || len(done) != 3 {
		t.Errorf("%+v, %v", done, err)
	}
	if got := s.store(t); !slices.Equal(got, empty) {
		t.Errorf("left: %q", got)
	}
}

func TestLoadsAtOnceShareLayers(t *testing.T) {
	s := openSite(t, t.TempDir())
	var all sync.WaitGroup
	for n := range 6 {
		all.Go(func() {
			if _, err := s.images.Load(ctx, imagetest.Reader(imagetest.Docker(simple(fmt.Sprintf("x:%d", n)))), image.LoadOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if i, err := s.images.Resolve(ctx, string(simple().ID())); err != nil || len(i.RepoTags) != 6 {
		t.Errorf("%+v %v", i, err)
	}
}

func TestDamagedDatabaseIsSetAside(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"empty": func([]byte) []byte { return nil },
		"half":  func(b []byte) []byte { return b[:len(b)/2] },
		"zero":  func(b []byte) []byte { return make([]byte, len(b)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := openSite(t, t.TempDir())
			s.load(t, imagetest.Reader(imagetest.Docker(simple("x:1"))))
			s.close()
			db := filepath.Join(s.root, "images.db")
			b, err := os.ReadFile(db)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(db, damage(b), 0600); err != nil {
				t.Fatal(err)
			}
			s = openSite(t, s.root)
			if _, err := s.images.Resolve(ctx, string(simple().ID())); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSweepTakesWhatAKilledLoadLeft(t *testing.T) {
	s := openSite(t, t.TempDir())
	s.load(t, imagetest.Reader(imagetest.Docker(simple("x:1"))))
	want := s.store(t)
	more := imagetest.Layer(map[string]string{"more": ""})
	i, _ := s.images.Resolve(ctx, "x:1")
	if _, err := s.layers.Apply(ctx, i.Chain, digest.FromBytes(more), bytes.NewReader(more)); err != nil {
		t.Fatal(err)
	}
	s.close()
	for _, f := range []string{"images.sweep", "content/blobs/sha256/" + digest.FromString("y").Encoded(), "content/staging/x"} {
		if err := os.WriteFile(filepath.Join(s.root, f), []byte("y"), 0600); err != nil {
			t.Fatal(err)
		}
	}
	s = openSite(t, s.root)
	if got := s.store(t); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestHello(t *testing.T) {
	r, err := hello.Archive()
	if err != nil {
		if !strings.Contains(err.Error(), "run make build") {
			t.Error(err)
		}
		return
	}
	if said := openSite(t, t.TempDir()).load(t, r); said != "Loaded image: tare/hello:latest\n" {
		t.Errorf("said %q", said)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(imagetest.Tar(imagetest.Docker(simple("x:1"))))
	f.Add(imagetest.Tar(imagetest.OCI(simple("x:1"))))
	f.Add(imagetest.Gzip(imagetest.Tar(imagetest.OCI(simple("x:1")))))
	s := openSite(f, f.TempDir())
	base, derived := generations(imagetest.Gzip)
	s.load(f, imagetest.Reader(imagetest.OCI(base, derived)))
	f.Add(increment(f, s, "derived:1", "base:1"))
	if _, err := s.images.Remove(ctx, "derived:1", image.RemoveOptions{}); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := s.store(t)
		done, err := s.images.Load(ctx, bytes.NewReader(b), image.LoadOptions{})
		if err != nil && (len(done) > 0 || !slices.Equal(s.store(t), before)) {
			t.Errorf("%v left %q", err, s.store(t))
		}
	})
}
