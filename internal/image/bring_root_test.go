//go:build root

package image_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/dataroot"
	"github.com/tare-engine/tare/internal/dataroot/dataroottest"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/image/imagetest"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/layer/overlay"
	"github.com/tare-engine/tare/internal/layer/vfs"
)

// dockerOf makes a data root of Docker that has the images.
func dockerOf(t testing.TB, driver string, all ...imagetest.Image) (dir string, g *dataroot.Graph) {
	t.Helper()
	dir = t.TempDir()
	var list []dataroottest.Image
	for _, i := range all {
		list = append(list, dataroottest.Image{Config: i.Config(), Tags: i.Names, Layers: i.Layers})
	}
	dataroottest.Docker(t, dir, driver, list...)
	root, err := dataroot.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return dir, root.Graphs()[0]
}

func (s *site) bring(g *dataroot.Graph, i imagetest.Image, dry bool) (*image.Brought, string, error) {
	var said strings.Builder
	b, err := s.images.Bring(ctx, g, dataroot.GraphImage{ID: i.ID(), Tags: i.Names}, dry, func(m jsonstream.Message) {
		if m.Progress == nil || m.Progress.Total == 0 {
			fmt.Fprintln(&said, m.Status)
		}
	})
	return b, said.String(), err
}

func TestBringMakesTheSameImage(t *testing.T) {
	for name, open := range map[string]func(string) (layer.Driver, error){
		"overlay": func(root string) (layer.Driver, error) { return overlay.New(root) },
		"vfs":     func(root string) (layer.Driver, error) { return vfs.New(root) },
	} {
		for _, driver := range []string{"overlay2", "vfs"} {
			t.Run(driver+" to "+name, func(t *testing.T) {
				root := t.TempDir()
				d, err := open(root)
				if err != nil {
					t.Fatal(err)
				}
				s := openOn(t, root, d)
				i := everything(t)
				i.Names, i.Pack = []string{"everything:1", "other.example/every/thing:2"}, nil
				_, g := dockerOf(t, driver, i)
				b, said, err := s.bring(g, i, false)
				if err != nil || !b.New || len(b.Came) != 2 || strings.Count(said, "Import complete") != 2 {
					t.Fatal(b, said, err)
				}
				got, err := s.images.Resolve(ctx, "other.example/every/thing:2")
				if err != nil || got.ID != i.ID() || !slices.Equal(got.RepoTags, i.Names) {
					t.Fatal(got, err)
				}
				if damaged, all := s.verify(t, nil); len(damaged) > 0 || len(all) != 1 {
					t.Error(damaged, all)
				}
				before := s.store(t)
				if b, _, err := s.bring(g, i, false); err != nil || b.New || len(b.Came) > 0 {
					t.Error("brought again:", b, err)
				}
				if after := s.store(t); !slices.Equal(before, after) {
					t.Error(before, after)
				}
				s.close()
				s = openOn(t, root, d)
				if again := s.store(t); !slices.Equal(before, again) {
					t.Error("after a restart:", again)
				}
			})
		}
	}
}

// TestBringLeavesLayersThatAreThere, packed as they are.
func TestBringLeavesLayersThatAreThere(t *testing.T) {
	s := openSite(t, t.TempDir())
	base := simple("base:1")
	base.Pack = imagetest.Gzip
	s.load(t, imagetest.Reader(imagetest.OCI(base)))
	more := simple("more:1")
	more.Layers = append(more.Layers, imagetest.Layer(map[string]string{"c": "three"}))
	dir, g := dockerOf(t, "overlay2", more)
	for _, l := range more.Layers[:2] { // whoever reads them fails
		found, _ := filepath.Glob(filepath.Join(dir, "image/overlay2/layerdb/sha256", digest.FromBytes(l).Encoded()))
		for _, f := range found {
			if err := os.RemoveAll(f); err != nil {
				t.Fatal(err)
			}
		}
	}
	b, said, err := s.bring(g, more, false)
	if err != nil || len(b.Came) != 1 || strings.Count(said, "Already exists") != 2 || strings.Count(said, "Import complete") != 1 {
		t.Fatal(b, said, err)
	}
	if damaged, all := s.verify(t, nil); len(damaged) > 0 || len(all) != 2 {
		t.Error(damaged, all)
	}
	blobs, _ := filepath.Glob(filepath.Join(s.root, "content/blobs/sha256/*"))
	if len(blobs) != 2+2+3 { // configurations, manifests, two packed layers and one that is not
		t.Error(len(blobs), "blobs")
	}
}

// TestBringFetchesWhatVanishes: layers that did not have to come are removed
// meanwhile.
func TestBringFetchesWhatVanishes(t *testing.T) {
	s := openSite(t, t.TempDir())
	base := simple("base:1")
	s.load(t, imagetest.Reader(imagetest.Docker(base)))
	more := simple("more:1")
	more.Layers = append(more.Layers, imagetest.Layer(map[string]string{"c": "three"}))
	_, g := dockerOf(t, "overlay2", more)
	complete := 0
	b, err := s.images.Bring(ctx, g, dataroot.GraphImage{ID: more.ID(), Tags: more.Names}, false, func(m jsonstream.Message) {
		if m.Status != "Import complete" {
			return
		}
		if complete++; complete == 1 {
			if _, err := s.images.Remove(ctx, "base:1", image.RemoveOptions{}); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil || len(b.Came) != 3 || complete != 3 {
		t.Fatal(b, complete, err)
	}
	if damaged, all := s.verify(t, nil); len(damaged) > 0 || len(all) != 1 {
		t.Error(damaged, all)
	}
}

// TestBringGivesNames to an image that is there, and takes them from another.
func TestBringGivesNames(t *testing.T) {
	s := openSite(t, t.TempDir())
	i := simple("a:1")
	old := imagetest.Image{Names: []string{"b:1"}, Layers: [][]byte{imagetest.Layer(map[string]string{"old": ""})}}
	s.load(t, imagetest.Reader(imagetest.Docker(i, old)))
	i.Names = []string{"a:1", "b:1"}
	_, g := dockerOf(t, "overlay2", i)
	if b, _, err := s.bring(g, i, false); err != nil || !b.New || len(b.Came) > 0 {
		t.Fatal(b, err)
	}
	for ref, want := range map[string]imagetest.Image{"a:1": i, "b:1": i, old.ID().String(): old} {
		if got, err := s.images.Resolve(ctx, ref); err != nil || got.ID != want.ID() {
			t.Error(ref, got, err)
		}
	}
}

// TestBringRefuses what does not verify, and keeps nothing of it.
func TestBringRefuses(t *testing.T) {
	huge := func(name string) error { return os.WriteFile(name, []byte("9000000000000000000"), 0600) }
	for _, c := range []struct {
		what, file string
		change     func(string) error
		names      []string
		want       string
		kind       errdefs.Kind
	}{
		{"a changed file", "overlay2/*/diff/b", func(name string) error { return os.WriteFile(name, []byte(strings.Repeat("c", 5000)), 0600) }, nil, `checksum failed for "b"`, errdefs.InvalidArgument},
		{"another archive", "image/overlay2/layerdb/sha256/*/tar-split.json.gz", other, nil, "invalid diffID for layer: expected", errdefs.InvalidArgument},
		{"more than fits", "image/overlay2/layerdb/sha256/*/size", huge, nil, "no space left on device", errdefs.Internal},
		{"no name", "image", func(string) error { return nil }, []string{"../x:1"}, `invalid tag "../x:1"`, errdefs.InvalidArgument},
		{"many names", "image", func(string) error { return nil }, make([]string, 2000), "has 2000 names", errdefs.InvalidArgument},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := openSite(t, t.TempDir())
			i := simple("a:1")
			dir, g := dockerOf(t, "overlay2", i)
			if c.names != nil {
				i.Names = c.names
			}
			found, _ := filepath.Glob(filepath.Join(dir, c.file))
			if len(found) == 0 {
				t.Fatal("nothing to change")
			}
			for _, f := range found {
				if err := c.change(f); err != nil {
					t.Fatal(err)
				}
			}
			if _, _, err := s.bring(g, i, false); err == nil || !strings.Contains(err.Error(), c.want) || errdefs.KindOf(err) != c.kind {
				t.Errorf("%v (%v), want %s", err, errdefs.KindOf(err), c.want)
			}
			if left := s.store(t); len(left) > 0 {
				t.Error(left)
			}
		})
	}
}

// other replaces the description of a layer by that of an empty one.
func other(name string) error {
	empty := imagetest.JSON(map[string]any{"type": 2, "payload": make([]byte, 1024)})
	return os.WriteFile(name, imagetest.Gzip(append(empty, '\n')), 0600)
}

func TestBringDryLeavesNothing(t *testing.T) {
	s := openSite(t, t.TempDir())
	i := simple("a:1")
	_, g := dockerOf(t, "overlay2", i)
	b, said, err := s.bring(g, i, true)
	want := map[digest.Digest]int64{digest.FromBytes(i.Layers[0]): 3, digest.FromBytes(i.Layers[1]): 5003}
	if err != nil || !b.New || fmt.Sprint(b.Came) != fmt.Sprint(want) || said != "" {
		t.Error(b, said, err)
	}
	if left := s.store(t); len(left) > 0 {
		t.Error(left)
	}
}

// TestBringPacked: an index with an attestation comes as it would from a
// registry, and names stay.
func TestBringPacked(t *testing.T) {
	r := newRemote()
	i := simple()
	i.Pack = imagetest.Gzip
	m := r.image(i)
	m.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	foreign := r.put(ocispec.MediaTypeImageManifest, []byte("of another platform"))
	delete(r.blobs, foreign.Digest)
	foreign.Platform = &ocispec.Platform{OS: "linux", Architecture: "s390x"}
	attest := r.image(imagetest.Image{Layers: [][]byte{[]byte("statement")}})
	attest.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": m.Digest.String()}
	index := r.index(foreign, m, attest)
	dir := t.TempDir()
	dataroottest.Containerd(t, dir, r.blobs, dataroottest.Name{Namespace: "default", Name: "docker.io/library/a:1", Target: index})
	root, err := dataroot.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	list, err := root.Stores()[0].Images(nil)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	s := openSite(t, t.TempDir())
	bring := func(ref string, dry bool) *image.Brought {
		t.Helper()
		var to reference.Named
		if ref != "" {
			to = named(t, ref)
		}
		b, err := s.images.BringPacked(ctx, to, root.Stores()[0].Source(list[0]), dry, func(m jsonstream.Message) {
			if m.Progress == nil {
				t.Errorf("no progress: %v", m)
			}
		})
		if err != nil || b.ID != "" && b.ID != i.ID() {
			t.Fatal(b, err)
		}
		return b
	}
	if b := bring("a:1", true); !b.New || len(b.Came) != 2 {
		t.Error(b)
	}
	if left := s.store(t); len(left) > 0 {
		t.Error("after a dry one:", left)
	}
	if b := bring("", false); !b.New {
		t.Error(b)
	}
	got, err := s.images.Resolve(ctx, i.ID().String())
	if err != nil || len(got.RepoTags)+len(got.RepoDigests) > 0 || got.Target.Digest != index.Digest {
		t.Fatal(got, err)
	}
	if b := bring("", false); b.New {
		t.Error("twice:", b)
	}
	if b := bring("a:1", true); !b.New || len(b.Came) != 0 {
		t.Error(b)
	}
	if b := bring("a:1", false); !b.New {
		t.Error(b)
	}
	if b := bring("a:1", true); b.New {
		t.Error(b)
	}
	got, err = s.images.Resolve(ctx, "a:1")
	if err != nil || got.ID != i.ID() || got.Target.Digest != index.Digest || !slices.Equal(got.RepoDigests, []string{"a@" + index.Digest.String()}) {
		t.Fatal(got, err)
	}
	if damaged, all := s.verify(t, nil); len(damaged) > 0 || len(all) != 1 || all[0].Blobs != 1+1+1+2+1+1+1 {
		t.Error(damaged, all)
	}
}

// TestBringPackedOfSeveralPlatforms: those come of which all is there, also if
// this machine's is not.
func TestBringPackedOfSeveralPlatforms(t *testing.T) {
	amd, arm, riscv := simple(), simple(), simple()
	arm.Change = func(c map[string]any) { c["architecture"] = "arm64" }
	riscv.Change = func(c map[string]any) { c["architecture"] = "riscv64" }
	riscv.Layers[1] = imagetest.Layer(map[string]string{"b": "riscv"})
	for name, c := range map[string]struct {
		gone []digest.Digest // beside a layer of riscv64's
		want []digest.Digest
	}{
		"all":        {nil, []digest.Digest{amd.ID(), arm.ID()}},
		"the others": {[]digest.Digest{amd.ID()}, []digest.Digest{arm.ID()}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRemote()
			var list []ocispec.Descriptor
			for _, i := range []imagetest.Image{riscv, amd, arm} {
				d := r.image(i)
				var config struct{ Architecture string }
				if err := json.Unmarshal(i.Config(), &config); err != nil {
					t.Fatal(err)
				}
				d.Platform = &ocispec.Platform{OS: "linux", Architecture: config.Architecture}
				list = append(list, d)
				if slices.Contains(c.gone, i.ID()) {
					delete(r.blobs, d.Digest)
				}
			}
			delete(r.blobs, digest.FromBytes(riscv.Layers[1]))
			dir := t.TempDir()
			dataroottest.Containerd(t, dir, r.blobs, dataroottest.Name{Namespace: "default", Name: "docker.io/library/a:1", Target: r.index(list...)})
			root, err := dataroot.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			found, err := root.Stores()[0].Images(nil)
			if err != nil || len(found) != 1 {
				t.Fatal(found, err)
			}
			s := openSite(t, t.TempDir())
			for _, isNew := range []bool{true, false} {
				b, err := s.images.BringPacked(ctx, named(t, "a:1"), root.Stores()[0].Source(found[0]), false, func(jsonstream.Message) {})
				if err != nil || b.New != isNew || b.ID != c.want[0] {
					t.Errorf("%+v, %v", b, err)
				}
				if meant := s.images.Meant("a:1"); !slices.Equal(meant, c.want) {
					t.Errorf("%v, want %v", meant, c.want)
				}
			}
		})
	}
}
