//go:build root

package image_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/image/imagetest"
)

// twoPlatforms is an archive as `docker save` makes it of an image for two
// machines: manifest.json names the image of one.
func twoPlatforms(amd, arm imagetest.Image) []imagetest.Member {
	var members []imagetest.Member
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	index.SchemaVersion = 2
	blob := func(media string, b []byte) ocispec.Descriptor {
		d := digest.FromBytes(b)
		members = append(members, imagetest.Member{Name: "blobs/sha256/" + d.Encoded(), Data: b})
		return ocispec.Descriptor{MediaType: media, Digest: d, Size: int64(len(b))}
	}
	for n, i := range []imagetest.Image{amd, arm} {
		m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: blob(ocispec.MediaTypeImageConfig, i.Config())}
		m.SchemaVersion = 2
		for _, l := range i.Layers {
			m.Layers = append(m.Layers, blob(ocispec.MediaTypeImageLayer, l))
		}
		d := blob(ocispec.MediaTypeImageManifest, imagetest.JSON(m))
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: []string{"amd64", "arm64"}[n]}
		index.Manifests = append(index.Manifests, d)
	}
	top := blob(ocispec.MediaTypeImageIndex, imagetest.JSON(index))
	top.Annotations = map[string]string{"io.containerd.image.name": "docker.io/library/two:1"}
	layout := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{top}}
	layout.SchemaVersion = 2
	return append(members, imagetest.Member{Name: "index.json", Data: imagetest.JSON(layout)})
}

func TestLoadOfAPlatform(t *testing.T) {
	amd, arm := simple("two:1"), simple("two:1")
	arm.Change = func(c map[string]any) { c["architecture"] = "arm64" }
	linux := func(archs ...string) (list []ocispec.Platform) {
		for _, a := range archs {
			list = append(list, ocispec.Platform{OS: "linux", Architecture: a})
		}
		return list
	}
	both := twoPlatforms(amd, arm)
	for name, c := range map[string]struct {
		archive []imagetest.Member
		want    []ocispec.Platform
		id      digest.Digest
		others  []digest.Digest
		kind    errdefs.Kind
		failed  string
	}{
		"amd64":           {archive: both, want: linux("amd64"), id: amd.ID()},
		"arm64":           {archive: both, want: linux("arm64"), id: arm.ID()},
		"the same twice":  {archive: both, want: linux("arm64", "arm64"), id: arm.ID()},
		"arm64/v8":        {archive: both, want: []ocispec.Platform{{OS: "linux", Architecture: "arm64", Variant: "v8"}}, id: arm.ID()},
		"not there":       {archive: both, want: linux("s390x"), kind: errdefs.NotFound, failed: "image two:1 was loaded, but doesn't provide the requested platform ([linux/s390x])"},
		"one not there":   {archive: both, want: linux("amd64", "s390x"), kind: errdefs.NotFound, failed: "([linux/amd64 linux/s390x])"},
		"both":            {archive: both, want: linux("arm64", "amd64"), id: amd.ID(), others: []digest.Digest{arm.ID()}},
		"whatever":        {archive: both, id: amd.ID(), others: []digest.Digest{arm.ID()}},
		"old archive":     {archive: imagetest.Docker(arm), want: linux("arm64"), id: arm.ID()},
		"old, another":    {archive: imagetest.Docker(arm), want: linux("amd64"), kind: errdefs.NotFound, failed: "image two:1 was loaded, but"},
		"several without": {archive: imagetest.Docker(arm, simple("b:1")), want: linux("s390x"), kind: errdefs.NotFound, failed: "images [two:1, b:1] were loaded, but don't provide the requested platform ([linux/s390x])"},
	} {
		t.Run(name, func(t *testing.T) {
			s := openSite(t, t.TempDir())
			loaded, err := s.images.Load(ctx, imagetest.Reader(c.archive), image.LoadOptions{Quiet: true, Platforms: c.want})
			if c.failed != "" {
				if err == nil || !strings.Contains(err.Error(), c.failed) || errdefs.KindOf(err) != c.kind {
					t.Errorf("%v, want %s", err, c.failed)
				}
				if left := s.store(t); len(left) > 0 {
					t.Error("left: ", left)
				}
				return
			}
			if err != nil || len(loaded) != 1 || loaded[0].ID != c.id || loaded[0].Name != "two:1" {
				t.Errorf("%v, %v, want %s", loaded, err, c.id)
			}
			if i, err := s.images.Resolve(ctx, "two:1"); err != nil || i.ID != c.id || !slices.Equal(i.Others, c.others) {
				t.Errorf("%+v, %v, want %s beside %v", i, err, c.id, c.others)
			}
		})
	}
}

func TestStoredSizeCountsWhatCame(t *testing.T) {
	s := openSite(t, t.TempDir())
	img := simple("a:1")
	s.load(t, imagetest.Reader(imagetest.OCI(img)))
	i, err := s.images.Resolve(ctx, "a:1")
	if err != nil {
		t.Fatal(err)
	}
	want := i.Manifest.Size + int64(len(img.Config()))
	for _, l := range img.Layers {
		want += int64(len(l))
	}
	if got, err := s.images.StoredSize(i); err != nil || got != want {
		t.Errorf("%d, %v, want %d", got, err, want)
	}
}
