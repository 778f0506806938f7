//go:build root

package image_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/image/imagetest"
	"github.com/tare-engine/tare/internal/registry/registrytest"
)

// fellows is a site with one name that has an image for each of two platforms.
type fellows struct {
	*site
	amd, arm digest.Digest
	members  []imagetest.Member
}

var (
	onAMD64 = []ocispec.Platform{{OS: "linux", Architecture: "amd64"}}
	onARM64 = []ocispec.Platform{{OS: "linux", Architecture: "arm64"}}
)

func newFellows(t *testing.T) *fellows {
	t.Helper()
	amd, arm := simple("two:1"), simple("two:1")
	arm.Layers[1] = imagetest.Layer(map[string]string{"b": "arm"})
	arm.Change = func(c map[string]any) { c["architecture"] = "arm64" }
	f := &fellows{openSite(t, t.TempDir()), amd.ID(), arm.ID(), twoPlatforms(amd, arm)}
	if said := f.load(t, imagetest.Reader(f.members)); said != "Loaded image: two:1\n" {
		t.Errorf("said %q", said)
	}
	return f
}

// expect checks what a reference means; others none: on no other platform.
func (f *fellows) expect(t *testing.T, s *site, ref string, id digest.Digest, others ...digest.Digest) {
	t.Helper()
	i, err := s.images.Resolve(ctx, ref)
	if err != nil || i.ID != id || !slices.Equal(i.Others, others) {
		t.Errorf("%s: %+v, %v, want %s beside %v", ref, i, err, id, others)
	}
}

func (f *fellows) save(t *testing.T, ref string, want []ocispec.Platform) []byte {
	t.Helper()
	return f.saveAll(t, []string{ref}, want)
}

func (f *fellows) saveAll(t *testing.T, refs []string, want []ocispec.Platform) []byte {
	t.Helper()
	list, err := f.images.Choose(ctx, refs, want)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := f.images.Save(ctx, list, image.Omission{}, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestANameForSeveralPlatforms(t *testing.T) {
	f := newFellows(t)
	f.expect(t, f.site, "two:1", f.amd, f.arm)
	for _, want := range [][]ocispec.Platform{onAMD64, onARM64} {
		i, err := f.images.ResolveFor(ctx, "two:1", want)
		if err != nil || i.Config.Architecture != want[0].Architecture || !slices.Equal(i.RepoTags, []string{"two:1"}) {
			t.Errorf("%v: %+v, %v", want, i, err)
		}
		if slices.Equal(i.Behind, []string{"two:1"}) != (i.ID == f.arm) {
			t.Errorf("%v: behind %v", want, i.Behind)
		}
	}
	if _, err := f.images.ResolveFor(ctx, string(f.amd), onARM64); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("by ID: %v", err)
	}
	if _, _, err := f.images.Tag(ctx, "two:1", "whole", "1"); err != nil {
		t.Fatal(err)
	}
	f.expect(t, f.site, "whole:1", f.amd, f.arm)
	if _, _, err := f.images.Tag(ctx, string(f.arm), "whole", "1"); err != nil {
		t.Fatal(err)
	}
	f.expect(t, f.site, "whole:1", f.arm)
	if i, err := f.images.Resolve(ctx, "whole:1"); err != nil || !slices.Equal(i.RepoTags, []string{"two:1", "whole:1"}) || !slices.Equal(i.Behind, []string{"two:1"}) {
		t.Errorf("%+v, %v", i, err)
	}
	f.close()
	again := openSite(t, f.root)
	f.expect(t, again, "two:1", f.amd, f.arm)
	f.expect(t, again, "whole:1", f.arm)
}

func TestSaveOfSeveralPlatforms(t *testing.T) {
	f := newFellows(t)
	whole := f.save(t, "two:1", nil)
	for name, c := range map[string]struct {
		archive []byte
		id      digest.Digest
		others  []digest.Digest
	}{
		"all":       {whole, f.amd, []digest.Digest{f.arm}},
		"each":      {f.save(t, "two", append(slices.Clone(onARM64), onAMD64...)), f.amd, []digest.Digest{f.arm}},
		"one":       {f.save(t, "two:1", onARM64), f.arm, nil},
		"the other": {f.save(t, "two:1", onAMD64), f.amd, nil},
	} {
		t.Run(name, func(t *testing.T) {
			to := openSite(t, t.TempDir())
			if said := to.load(t, bytes.NewReader(c.archive)); said != "Loaded image: two:1\n" {
				t.Errorf("said %q", said)
			}
			f.expect(t, to, "two:1", c.id, c.others...)
		})
	}
	if _, err := f.images.Choose(ctx, []string{"two:1"}, []ocispec.Platform{{OS: "linux", Architecture: "s390x"}}); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("s390x: %v", err)
	}
	for _, id := range []digest.Digest{f.amd, f.arm} {
		to := openSite(t, t.TempDir())
		if said := to.load(t, bytes.NewReader(f.save(t, string(id), nil))); said != "Loaded image ID: "+id.String()+"\n" {
			t.Errorf("said %q", said)
		}
	}
	// An archive of one platform adds it to the other.
	to := openSite(t, t.TempDir())
	to.load(t, bytes.NewReader(f.save(t, "two:1", onARM64)))
	to.load(t, bytes.NewReader(f.save(t, "two:1", onAMD64)))
	f.expect(t, to, "two:1", f.amd, f.arm)
	if !bytes.Equal((&fellows{site: to}).save(t, "two:1", nil), whole) {
		t.Error("the same images give another archive")
	}
}

// TestSaveOfNamesThatLeadToAnImageInTwoWays: one by an index, the other by the
// image's own manifest.
func TestSaveOfNamesThatLeadToAnImageInTwoWays(t *testing.T) {
	for _, refs := range [][]string{{"one:1", "two:1"}, {"two:1", "one:1"}} {
		f := newFellows(t)
		if _, _, err := f.images.Tag(ctx, string(f.amd), "one", "1"); err != nil {
			t.Fatal(err)
		}
		to := openSite(t, t.TempDir())
		if said := to.load(t, bytes.NewReader(f.saveAll(t, refs, nil))); strings.Count(said, "\n") != 2 {
			t.Errorf("said %q", said)
		}
		for ref, want := range map[string][]digest.Digest{"one:1": {f.amd}, "two:1": {f.amd, f.arm}} {
			if meant := to.images.Meant(ref); !slices.Equal(meant, want) {
				t.Errorf("%v: %s is %v, want %v", refs, ref, meant, want)
			}
		}
	}
}

func TestSaveOfImagesOfAnIndexWithoutNames(t *testing.T) {
	f, to := newFellows(t), openSite(t, t.TempDir())
	want := "Loaded image ID: " + f.amd.String() + "\nLoaded image ID: " + f.arm.String() + "\n"
	if said := to.load(t, bytes.NewReader(f.saveAll(t, []string{string(f.amd), string(f.arm)}, nil))); said != want {
		t.Errorf("said %q, want %q", said, want)
	}
}

// TestOmissionOfSeveralPlatforms leaves out what any image of the name has.
func TestOmissionOfSeveralPlatforms(t *testing.T) {
	f := newFellows(t)
	list, err := f.images.Choose(ctx, []string{"two:1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	o, err := f.images.Omit(ctx, list, []string{"two:1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := f.images.Save(ctx, list, o, &b); err != nil {
		t.Fatal(err)
	}
	for _, sv := range list {
		for _, l := range sv.Layers() {
			if bytes.Contains(b.Bytes(), []byte("blobs/sha256/"+l.Digest.Encoded()+"\x00")) {
				t.Errorf("%s: layer %s is in the archive", sv.ID, l.Digest)
			}
		}
	}
}

func TestRemovalOfSeveralPlatforms(t *testing.T) {
	used := func(id digest.Digest) func(image.ID) []image.User {
		return func(of image.ID) []image.User {
			if of != id {
				return nil
			}
			return []image.User{{Container: strings.Repeat("c", 64)}}
		}
	}
	said := func(list []image.Removed) (all []string) {
		for _, r := range list {
			if strings.HasPrefix(r.Deleted, "sha256:") && r.Deleted != r.ID.String() {
				continue // a layer
			}
			all = append(all, r.Untagged+r.Deleted)
		}
		return all
	}
	t.Run("of all", func(t *testing.T) {
		f := newFellows(t)
		if done, err := f.images.Remove(ctx, "two:1", image.RemoveOptions{InUse: used(f.arm)}); !errdefs.Is(err, errdefs.Conflict) || len(done) > 0 {
			t.Errorf("in use: %v, %v", done, err)
		}
		f.expect(t, f.site, "two:1", f.amd, f.arm)
		done, err := f.images.Remove(ctx, "two:1", image.RemoveOptions{})
		if err != nil || !slices.Equal(said(done), []string{"two:1", f.amd.String(), f.arm.String()}) {
			t.Errorf("%v, %v", said(done), err)
		}
		if left := f.store(t); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	})
	t.Run("of one", func(t *testing.T) {
		for _, c := range []struct {
			gone, stays func(*fellows) digest.Digest
			want        []ocispec.Platform
		}{
			{func(f *fellows) digest.Digest { return f.amd }, func(f *fellows) digest.Digest { return f.arm }, onAMD64},
			{func(f *fellows) digest.Digest { return f.arm }, func(f *fellows) digest.Digest { return f.amd }, onARM64},
		} {
			f := newFellows(t)
			done, err := f.images.Remove(ctx, "two:1", image.RemoveOptions{Platforms: c.want})
			if err != nil || !slices.Equal(said(done), []string{c.gone(f).String()}) {
				t.Errorf("%v, %v", said(done), err)
			}
			f.expect(t, f.site, "two:1", c.stays(f))
			if _, err := f.images.Remove(ctx, "two:1", image.RemoveOptions{Platforms: c.want}); !errdefs.Is(err, errdefs.NotFound) {
				t.Errorf("again: %v", err)
			}
			if _, err := f.images.Remove(ctx, string(c.stays(f)), image.RemoveOptions{}); err != nil {
				t.Error(err)
			}
			if left := f.store(t); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		}
	})
	t.Run("by ID", func(t *testing.T) {
		f := newFellows(t)
		done, err := f.images.Remove(ctx, string(f.amd), image.RemoveOptions{})
		if err != nil || !slices.Equal(said(done), []string{f.amd.String()}) {
			t.Errorf("%v, %v", said(done), err)
		}
		f.expect(t, f.site, "two:1", f.arm)
		err = f.images.Verify(ctx, image.VerifyOptions{
			Damage: func(d image.Damage) error { t.Errorf("%+v", d); return nil },
			Image:  func(image.Verified) error { return nil },
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("of one that is used", func(t *testing.T) {
		f := newFellows(t)
		if _, err := f.images.Remove(ctx, "two:1", image.RemoveOptions{Force: true, InUse: used(f.arm)}); err != nil {
			t.Fatal(err)
		}
		i, err := f.images.Resolve(ctx, string(f.arm))
		if err != nil || len(i.RepoTags) > 0 {
			t.Errorf("%+v, %v", i, err)
		}
	})
}

// TestTheDigestOfAnIndexMeansAllOfIt, and names that lead to its images otherwise
// are none of its.
func TestTheDigestOfAnIndexMeansAllOfIt(t *testing.T) {
	open := func(t *testing.T) (*fellows, string) {
		f := newFellows(t)
		i, err := f.images.Resolve(ctx, "two:1")
		if err != nil {
			t.Fatal(err)
		}
		return f, i.Target.Digest.String()
	}
	t.Run("meant", func(t *testing.T) {
		f, index := open(t)
		if meant := f.images.Meant(index); !slices.Equal(meant, []digest.Digest{f.amd, f.arm}) {
			t.Errorf("%v", meant)
		}
		if i, err := f.images.ResolveFor(ctx, index, onARM64); err != nil || i.ID != f.arm {
			t.Errorf("%+v, %v", i, err)
		}
		if _, _, err := f.images.Tag(ctx, index, "whole", "1"); err != nil {
			t.Fatal(err)
		}
		f.expect(t, f.site, "whole:1", f.amd, f.arm)
		to := openSite(t, t.TempDir())
		want := "Loaded image ID: " + f.amd.String() + "\nLoaded image ID: " + f.arm.String() + "\n"
		if said := to.load(t, bytes.NewReader(f.save(t, index, nil))); said != want {
			t.Errorf("said %q", said)
		}
		if meant := to.images.Meant(index); len(meant) != 2 { // nothing but the index leads to both
			t.Errorf("loaded without names: %v", meant)
		}
	})
	t.Run("removed", func(t *testing.T) {
		f, index := open(t)
		if done, err := f.images.Remove(ctx, index, image.RemoveOptions{}); err != nil || done[0].Untagged != "two:1" {
			t.Errorf("%v, %v", done, err)
		}
		if left := f.store(t); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	})
	t.Run("removed for a platform", func(t *testing.T) {
		f, index := open(t)
		if _, err := f.images.Remove(ctx, index, image.RemoveOptions{Platforms: onAMD64}); err != nil {
			t.Fatal(err)
		}
		f.expect(t, f.site, "two:1", f.arm)
	})
	t.Run("of several names", func(t *testing.T) {
		f, index := open(t)
		if _, _, err := f.images.Tag(ctx, "two:1", "whole", "1"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := f.images.Tag(ctx, string(f.arm), "arm", "1"); err != nil {
			t.Fatal(err)
		}
		_, err := f.images.Remove(ctx, index, image.RemoveOptions{})
		want := "unable to delete " + digest.Digest(index).Encoded()[:12] + " (must be forced) - image is referenced in multiple repositories"
		if !errdefs.Is(err, errdefs.Conflict) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		if _, err := f.images.Remove(ctx, index, image.RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		f.expect(t, f.site, "arm:1", f.arm)
		for _, gone := range []string{"two:1", "whole:1", f.amd.String(), index} {
			if meant := f.images.Meant(gone); len(meant) > 0 {
				t.Errorf("%s is still there: %v", gone, meant)
			}
		}
	})
	t.Run("used", func(t *testing.T) {
		f, index := open(t)
		used := func(running bool) image.RemoveOptions {
			return image.RemoveOptions{Force: running, InUse: func(id image.ID) []image.User {
				if id != f.arm {
					return nil
				}
				return []image.User{{Container: strings.Repeat("c", 64), Running: running}}
			}}
		}
		for _, running := range []bool{false, true} {
			if done, err := f.images.Remove(ctx, index, used(running)); !errdefs.Is(err, errdefs.Conflict) || len(done) > 0 {
				t.Errorf("running %v: %v, %v", running, done, err)
			}
			f.expect(t, f.site, "two:1", f.amd, f.arm)
		}
	})
}

// TestPinOfSeveralPlatforms pins all that a name has, or one by its ID; what
// cannot go whole stays whole.
func TestPinOfSeveralPlatforms(t *testing.T) {
	f := newFellows(t)
	if _, err := f.images.Pin(ctx, "two:1", true); err != nil {
		t.Fatal(err)
	}
	for _, id := range []digest.Digest{f.amd, f.arm} {
		if i, err := f.images.Resolve(ctx, string(id)); err != nil || !i.Pinned {
			t.Errorf("%+v, %v", i, err)
		}
		if _, err := f.images.Pin(ctx, string(id), false); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []digest.Digest{f.amd, f.arm} {
		if _, err := f.images.Pin(ctx, string(id), true); err != nil {
			t.Fatal(err)
		}
		if done, err := f.images.Remove(ctx, "two:1", image.RemoveOptions{}); !errdefs.Is(err, errdefs.Conflict) || len(done) > 0 {
			t.Errorf("%v, %v", done, err)
		}
		f.expect(t, f.site, "two:1", f.amd, f.arm)
		if _, err := f.images.Pin(ctx, "two:1", false); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.images.Remove(ctx, "two:1", image.RemoveOptions{}); err != nil {
		t.Error(err)
	}
}

// TestSeveralOfOnePlatform: the first of the index goes before others, in whatever
// order they come, as with a pull.
func TestSeveralOfOnePlatform(t *testing.T) {
	first, second := simple("two:1"), simple("two:1")
	second.Layers[1] = imagetest.Layer(map[string]string{"b": "second"})
	s := openSite(t, t.TempDir())
	for range 2 {
		s.load(t, imagetest.Reader(twoPlatforms(first, second)))
		if meant := s.images.Meant("two:1"); !slices.Equal(meant, []digest.Digest{first.ID(), second.ID()}) {
			t.Errorf("%v, want %v before %v", meant, first.ID(), second.ID())
		}
	}
}

// TestDamageOfOnePlatform: the other one is as it was.
func TestDamageOfOnePlatform(t *testing.T) {
	for _, c := range []struct {
		name        string
		sick, sound func(*fellows) digest.Digest
		want        []ocispec.Platform // the sound one's
	}{
		{"amd64", func(f *fellows) digest.Digest { return f.amd }, func(f *fellows) digest.Digest { return f.arm }, onARM64},
		{"arm64", func(f *fellows) digest.Digest { return f.arm }, func(f *fellows) digest.Digest { return f.amd }, onAMD64},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, to := newFellows(t), registrytest.New(t, registrytest.Options{})
			ref := to.Host + "/a/b:1"
			if _, _, err := f.images.Tag(ctx, "two:1", to.Host+"/a/b", "1"); err != nil {
				t.Fatal(err)
			}
			f.close()
			if err := os.WriteFile(filepath.Join(f.root, "content/blobs/sha256", c.sick(f).Encoded()), []byte("?"), 0o600); err != nil {
				t.Fatal(err)
			}
			f.site = openSite(t, f.root)
			i, err := f.images.ResolveFor(ctx, "two:1", c.want)
			if err != nil || i.ID != c.sound(f) {
				t.Errorf("%+v, %v", i, err)
			} else if fellows := f.images.Fellows(ctx, i); len(fellows) > 0 {
				t.Errorf("fellows: %+v", fellows)
			}
			if i, err := f.images.ResolveToRun(ctx, "two:1", c.want[0]); err != nil || i.ID != c.sound(f) {
				t.Errorf("to run: %+v, %v", i, err)
			}
			if list, err := f.images.Choose(ctx, []string{"two:1"}, c.want); err != nil || len(list) != 1 {
				t.Errorf("to save: %+v, %v", list, err)
			}
			if said, err := f.push(t, client(t), ref, image.PushOptions{Platform: &c.want[0]}); err != nil {
				t.Errorf("push: %v, said\n%s", err, said)
			}
			s390x := []ocispec.Platform{{OS: "linux", Architecture: "s390x"}}
			if _, err := f.images.ResolveFor(ctx, "two:1", s390x); err == nil || !strings.Contains(err.Error(), "damaged") {
				t.Errorf("it may be the damaged one: %v", err)
			}
			if _, err := f.images.Remove(ctx, "two:1", image.RemoveOptions{Platforms: c.want}); err != nil {
				t.Errorf("remove: %v", err)
			}
		})
	}
}

// TestRemovalOfADamagedImage takes away all of it that can be found.
func TestRemovalOfADamagedImage(t *testing.T) {
	f := newFellows(t)
	f.close()
	for _, id := range []digest.Digest{f.amd, f.arm} {
		if err := os.WriteFile(filepath.Join(f.root, "content/blobs/sha256", id.Encoded()), []byte("?"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := openSite(t, f.root)
	if _, err := s.images.Remove(ctx, "two:1", image.RemoveOptions{}); err != nil {
		t.Error(err)
	}
	if left := s.store(t); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestAnotherIndexTakesAllOfAName loads another image of the same name: what the
// name had is dangling, for each platform.
func TestAnotherIndexTakesAllOfAName(t *testing.T) {
	f := newFellows(t)
	other := simple("two:1")
	other.Layers = other.Layers[:1]
	f.load(t, imagetest.Reader(imagetest.OCI(other)))
	f.expect(t, f.site, "two:1", other.ID())
	for _, id := range []digest.Digest{f.amd, f.arm} {
		if i, err := f.images.Resolve(ctx, string(id)); err != nil || len(i.RepoTags) > 0 {
			t.Errorf("%+v, %v", i, err)
		}
	}
	f.load(t, imagetest.Reader(f.members))
	f.expect(t, f.site, "two:1", f.amd, f.arm)
}

func TestPushOfANameForSeveralPlatforms(t *testing.T) {
	f, to, c := newFellows(t), registrytest.New(t, registrytest.Options{}), client(t)
	whole, err := f.images.Resolve(ctx, "two:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.images.Tag(ctx, "two:1", to.Host+"/a/b", "1"); err != nil {
		t.Fatal(err)
	}
	ref := to.Host + "/a/b:1"
	said, err := f.push(t, c, ref, image.PushOptions{})
	if err != nil || !strings.Contains(said, "1: digest: "+whole.Target.Digest.String()) {
		t.Fatalf("%v, said\n%s", err, said)
	}
	f.expect(t, f.site, to.Host+"/a/b@"+whole.Target.Digest.String(), f.amd, f.arm)
	arm, err := f.images.ResolveFor(ctx, ref, onARM64)
	if err != nil {
		t.Fatal(err)
	}
	said, err = f.push(t, c, ref, image.PushOptions{Platform: &onARM64[0]})
	if err != nil || !strings.Contains(said, "1: digest: "+arm.Manifest.Digest.String()) {
		t.Fatalf("%v, said\n%s", err, said)
	}
	f.expect(t, f.site, to.Host+"/a/b@"+arm.Manifest.Digest.String(), f.arm)
	f.expect(t, f.site, ref, f.amd, f.arm)
}

// TestIndexesOfIndexesInAnArchive has an index of a thousand times the same
// index of a thousand times the same: each is read once, by a verification as well.
func TestIndexesOfIndexesInAnArchive(t *testing.T) {
	blobs := newRemote()
	i := simple()
	top := blobs.thousandfold(3, 1000, blobs.image(i))
	top.Annotations = map[string]string{"io.containerd.image.name": "docker.io/library/deep:1"}
	layout := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{top}}
	layout.SchemaVersion = 2
	members := []imagetest.Member{{Name: "index.json", Data: imagetest.JSON(layout)}}
	for d, b := range blobs.blobs {
		members = append(members, imagetest.Member{Name: "blobs/sha256/" + d.Encoded(), Data: b})
	}
	s := openSite(t, t.TempDir())
	var out []string
	_, err := s.images.Load(ctx, imagetest.Reader(members), image.LoadOptions{Quiet: true, Out: func(m jsonstream.Message) { out = append(out, m.Stream) }})
	if err != nil || !slices.Equal(out, []string{"Loaded image: deep:1\n"}) {
		t.Errorf("%v, said %q", err, out)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.sound(t, len(blobs.blobs))
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("the verification does not end")
	}
}
