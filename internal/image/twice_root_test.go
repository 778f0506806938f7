//go:build root

package image_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/image/imagetest"
	"github.com/tare-engine/tare/internal/registry/registrytest"
)

// twice is an index that has an image twice, by manifests whose layers are packed
// differently, and one for another platform.
func (r *remote) twice() (index ocispec.Descriptor, id, other digest.Digest) {
	plain, packed, arm := simple(), simple(), simple()
	packed.Pack = imagetest.Gzip
	arm.Change = func(c map[string]any) { c["architecture"] = "arm64" }
	var list []ocispec.Descriptor
	for n, i := range []imagetest.Image{plain, packed, arm} {
		d := r.image(i)
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: []string{"amd64", "amd64", "arm64"}[n], Variant: []string{"", "v2", ""}[n]}
		list = append(list, d)
	}
	return r.index(list...), plain.ID(), arm.ID()
}

// layout is an archive of all that r has, with the index under the names.
func (r *remote) layout(index ocispec.Descriptor, names ...string) []imagetest.Member {
	top := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	top.SchemaVersion = 2
	for _, n := range names {
		index.Annotations = map[string]string{"io.containerd.image.name": n}
		top.Manifests = append(top.Manifests, index)
	}
	if len(names) == 0 {
		top.Manifests = append(top.Manifests, index)
	}
	members := []imagetest.Member{{Name: "index.json", Data: imagetest.JSON(top)}}
	for d, b := range r.blobs {
		members = append(members, imagetest.Member{Name: "blobs/sha256/" + d.Encoded(), Data: b})
	}
	return members
}

// pushes checks that a push of ref has the digest.
func (s *site) pushes(t *testing.T, ref string, want digest.Digest) {
	t.Helper()
	to := registrytest.New(t, registrytest.Options{})
	if _, _, err := s.images.Tag(ctx, ref, to.Host+"/a/b", "1"); err != nil {
		t.Fatal(err)
	}
	said, err := s.push(t, client(t), to.Host+"/a/b:1", image.PushOptions{})
	if err != nil || !strings.Contains(said, "1: digest: "+want.String()) {
		t.Errorf("%s: %v, want %s, said\n%s", ref, err, want, said)
	}
	if _, err := s.images.Remove(ctx, to.Host+"/a/b:1", image.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
}

// sound checks that a verification finds so many blobs, and nothing damaged.
func (s *site) sound(t *testing.T, blobs int) {
	t.Helper()
	n := 0
	err := s.images.Verify(ctx, image.VerifyOptions{
		Damage: func(d image.Damage) error { t.Errorf("%+v", d); return nil },
		Image:  func(v image.Verified) error { n += v.Blobs; return nil },
	})
	if err != nil || n != blobs {
		t.Errorf("%v, %d blobs, want %d", err, n, blobs)
	}
}

// TestAnImageTwiceInAnIndex: the index is pushed and saved as it came.
func TestAnImageTwiceInAnIndex(t *testing.T) {
	r := newRemote()
	index, id, arm := r.twice()
	s := openSite(t, t.TempDir())
	if said := s.load(t, imagetest.Reader(r.layout(index, "docker.io/library/twice:1"))); said != "Loaded image: twice:1\n" {
		t.Errorf("said %q", said)
	}
	(&fellows{}).expect(t, s, "twice:1", id, arm)
	s.pushes(t, "twice:1", index.Digest)
	s.sound(t, len(r.blobs))

	s.close()
	s = openSite(t, s.root)
	s.pushes(t, "twice:1", index.Digest)
	archive := (&fellows{site: s}).save(t, "twice:1", nil)
	other := openSite(t, t.TempDir())
	for range 2 {
		other.load(t, bytes.NewReader(archive))
	}
	other.pushes(t, "twice:1", index.Digest)
	if !bytes.Equal((&fellows{site: other}).save(t, "twice:1", nil), archive) {
		t.Error("the same images give another archive")
	}

	if _, _, err := s.images.Tag(ctx, "twice:1", "again", "1"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.images.Remove(ctx, "twice:1", image.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	s.pushes(t, "again:1", index.Digest)
	if _, err := s.images.Remove(ctx, "again:1", image.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if left := s.store(t); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestAnImageTwiceInAnIndexWithoutNames(t *testing.T) {
	r := newRemote()
	index, id, arm := r.twice()
	s := openSite(t, t.TempDir())
	for range 2 {
		want := "Loaded image ID: " + id.String() + "\nLoaded image ID: " + arm.String() + "\n"
		if said := s.load(t, imagetest.Reader(r.layout(index))); said != want {
			t.Errorf("said %q", said)
		}
	}
	s.pushes(t, index.Digest.String(), index.Digest)
	s.load(t, imagetest.Reader(r.layout(index, "docker.io/library/twice:1"))) // and moved away from
	s.load(t, imagetest.Reader(imagetest.OCI(imagetest.Image{Names: []string{"twice:1"}, Layers: simple().Layers[:1]})))
	s.pushes(t, index.Digest.String(), index.Digest)
}

// TestAnImageTwiceInAnIndexIsPulledTwice, by the platforms that the index tells of.
func TestAnImageTwiceInAnIndexIsPulledTwice(t *testing.T) {
	s, r := openSite(t, t.TempDir()), newRemote()
	index, id, _ := r.twice()
	r.tags["1"] = index
	platforms := []*ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "amd64", Variant: "v2"}, {OS: "linux", Architecture: "arm64"}}
	for n, p := range slices.Concat(platforms, platforms) {
		_, said, err := s.pull(ctx, t, "twice:1", r, image.PullOptions{Platform: p})
		if err != nil || strings.Contains(said, "up to date") != (n >= len(platforms)) {
			t.Errorf("%v: %v, said\n%s", p, err, said)
		}
	}
	if i, err := s.images.Resolve(ctx, "twice:1"); err != nil || i.ID != id || len(i.Others) != 1 {
		t.Errorf("%+v, %v", i, err)
	}
	s.pushes(t, "twice:1", index.Digest)
}

// TestANameMovesToAnotherManifestOfItsImage: what only the one before needs goes.
func TestANameMovesToAnotherManifestOfItsImage(t *testing.T) {
	for name, move := range map[string]func(s *site) error{
		"by a load": func(s *site) error {
			i := simple("x:1")
			i.Pack = imagetest.Gzip
			_, err := s.images.Load(ctx, imagetest.Reader(imagetest.OCI(i)), image.LoadOptions{Quiet: true})
			return err
		},
		"by a pull": func(s *site) error {
			r, i := newRemote(), simple()
			i.Pack = imagetest.Gzip
			r.tags["1"] = r.image(i)
			_, err := s.images.Pull(ctx, named(t, "x:1"), r, image.PullOptions{})
			return err
		},
		"by a tag": func(s *site) error {
			i := simple("y:1")
			i.Pack = imagetest.Gzip
			s.load(t, imagetest.Reader(imagetest.OCI(i)))
			_, _, err := s.images.Tag(ctx, "y:1", "x", "1")
			return err
		},
		"by a removal": func(s *site) error {
			i := simple("y:1")
			i.Pack = imagetest.Gzip
			s.load(t, imagetest.Reader(imagetest.OCI(i)))
			_, err := s.images.Remove(ctx, "x:1", image.RemoveOptions{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := openSite(t, t.TempDir())
			s.load(t, imagetest.Reader(imagetest.OCI(simple("x:1"))))
			if err := move(s); err != nil {
				t.Fatal(err)
			}
			s.sound(t, 4)
			for _, l := range simple().Layers {
				if _, err := os.Stat(filepath.Join(s.root, "content/blobs/sha256", digest.FromBytes(l).Encoded())); err == nil {
					t.Error("a layer as it was packed before is still there")
				}
			}
			if _, err := s.images.Remove(ctx, simple().ID().String(), image.RemoveOptions{Force: true}); err != nil {
				t.Fatal(err)
			}
			if left := s.store(t); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}
