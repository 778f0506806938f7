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
	"testing"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/image/imagetest"
)

// increment is an archive of an image without what other images have.
func increment(t testing.TB, s *site, ref string, since ...string) []byte {
	t.Helper()
	list, err := s.images.Choose(ctx, []string{ref}, nil)
	if err != nil {
		t.Fatal(err)
	}
	o, err := s.images.Omit(ctx, list, since, nil)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := s.images.Save(ctx, list, o, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// generations are two images, of which the second has a layer more.
func generations(pack func([]byte) []byte) (base, derived imagetest.Image) {
	base, derived = simple("base:1"), simple("derived:1")
	derived.Layers = append(derived.Layers, imagetest.Layer(map[string]string{"c": "three"}))
	base.Pack, derived.Pack = pack, pack
	return base, derived
}

func (s *site) refuses(t *testing.T, archive []byte, kind errdefs.Kind, want ...string) {
	t.Helper()
	before := s.store(t)
	_, err := s.images.Load(ctx, bytes.NewReader(archive), image.LoadOptions{})
	if err == nil || errdefs.KindOf(err) != kind {
		t.Errorf("%v", err)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not in %q", w, err)
		}
	}
	if after := s.store(t); !slices.Equal(before, after) {
		t.Errorf("left %q", after)
	}
}

func TestIncrement(t *testing.T) {
	for packed, pack := range map[string]func([]byte) []byte{"plain": nil, "gzip": imagetest.Gzip} {
		base, derived := generations(pack)
		s := openSite(t, t.TempDir())
		s.load(t, imagetest.Reader(imagetest.OCI(base, derived)))
		whole, b := saved(t, s, "derived:1"), increment(t, s, "derived:1", "base:1")
		if !bytes.Equal(b, increment(t, s, "derived:1", "base:1")) {
			t.Error("the same images give another archive")
		}
		for i, l := range derived.Layers {
			if pack != nil {
				l = pack(l)
			}
			if name := "blobs/sha256/" + digest.FromBytes(l).Encoded(); bytes.Contains(b, []byte(name+"\x00")) != (i == 2) {
				t.Errorf("%s: layer %d", packed, i)
			}
		}
		for form, b := range map[string][]byte{"both": b, "OCI": without(t, b, "manifest.json")} {
			for driver, open := range map[string]func() *site{
				"overlay": func() *site { return openSite(t, t.TempDir()) },
				"vfs":     func() *site { root := t.TempDir(); return openOn(t, root, newVFS(t, root)) },
			} {
				t.Run(packed+"/"+form+"/"+driver, func(t *testing.T) {
					to := open()
					want := s.resolve(t, "base:1").Manifest.Digest
					to.refuses(t, b, errdefs.NotFound, "image derived:1 cannot be loaded", "base:1@"+want.String())
					to.load(t, imagetest.Reader(imagetest.OCI(base)))
					if said := to.load(t, bytes.NewReader(b)); said != "Loaded image: derived:1\n" {
						t.Errorf("said %q", said)
					}
					got := to.resolve(t, "derived:1")
					if f := to.read(t, got, "c"); f != "three" {
						t.Errorf("c: %q", f)
					}
					if !bytes.Equal(saved(t, to, "derived:1"), whole) {
						t.Error("it is not the same image")
					}
					if _, err := to.images.Remove(ctx, "base:1", image.RemoveOptions{}); err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(saved(t, to, "derived:1"), whole) {
						t.Error("it went with its base")
					}
					to.refuses(t, bytes.ReplaceAll(b, []byte(got.ID.Encoded()[:10]), []byte("0123456789")), errdefs.InvalidArgument)
				})
			}
		}
	}
}

func TestIncrementSaysWhatItNeeds(t *testing.T) {
	base, derived := generations(nil)
	other := imagetest.Image{Names: []string{"other:1"}, Layers: [][]byte{imagetest.Layer(map[string]string{"z": "z"})}}
	s := openSite(t, t.TempDir())
	s.load(t, imagetest.Reader(imagetest.OCI(base, derived, other)))
	id, manifest := s.resolve(t, "base:1").ID, s.resolve(t, "base:1").Manifest.Digest
	for _, since := range [][]string{{"other:1", "base:1"}, {"base:1", "base:1"}} {
		b := increment(t, s, "derived:1", since...)
		if want := fmt.Sprintf(`"annotations":{"tare.since":"base:1@%s"}`, manifest); !bytes.Contains(b, []byte(want)) {
			t.Errorf("--since %q: no %s", since, want)
		}
	}
	if b := increment(t, s, "derived:1", id.Encoded()[:12]); !bytes.Contains(b, []byte(`"tare.since":"`+manifest.String()+`"`)) {
		t.Error("an ID is no name")
	}
	if !bytes.Equal(increment(t, s, "derived:1", "other:1"), saved(t, s, "derived:1")) {
		t.Error("an image that has nothing to do with it changes the archive")
	}
	list, err := s.images.Choose(ctx, []string{"derived:1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.images.Omit(ctx, list, []string{"nosuch"}, nil); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("%v", err)
	}
	if _, err := s.images.Omit(ctx, list, nil, []digest.Digest{"../../x"}); !errdefs.Is(err, errdefs.InvalidArgument) {
		t.Errorf("%v", err)
	}
	// A configuration's digest leaves nothing out: only layers are.
	o, err := s.images.Omit(ctx, list, nil, []digest.Digest{derived.ID()})
	var b bytes.Buffer
	if err != nil || s.images.Save(ctx, list, o, &b) != nil || !bytes.Equal(b.Bytes(), saved(t, s, "derived:1")) {
		t.Errorf("%v", err)
	}
}

func TestIncrementOnAnotherPacking(t *testing.T) {
	base, derived := generations(nil)
	packed := base
	packed.Pack = imagetest.Gzip
	s := openSite(t, t.TempDir())
	s.load(t, imagetest.Reader(imagetest.OCI(base, derived)))

	// The plain blobs are in the packed ones.
	to := openSite(t, t.TempDir())
	to.load(t, imagetest.Reader(imagetest.OCI(packed)))
	if missing := to.missing(t, s, "derived:1"); len(missing) != 1 {
		t.Errorf("missing %q", missing)
	}
	to.load(t, bytes.NewReader(increment(t, s, "derived:1", "base:1")))
	if !bytes.Equal(saved(t, to, "derived:1"), saved(t, s, "derived:1")) {
		t.Error("it is not the same image")
	}

	// A packed one that is damaged makes nothing.
	bad := openSite(t, t.TempDir())
	bad.load(t, imagetest.Reader(imagetest.OCI(packed)))
	path := filepath.Join(bad.root, "content/blobs/sha256", digest.FromBytes(imagetest.Gzip(base.Layers[0])).Encoded())
	wrong := bytes.Replace(base.Layers[0], []byte("#!"), []byte("!#"), 1)
	if err := os.WriteFile(path, imagetest.Gzip(wrong), 0o400); err != nil {
		t.Fatal(err)
	}
	bad.refuses(t, increment(t, s, "derived:1", "base:1"), errdefs.InvalidArgument, "it becomes "+digest.FromBytes(wrong).String())

	// Packed ones are not in the plain ones.
	derived.Pack = imagetest.Gzip
	p := openSite(t, t.TempDir())
	p.load(t, imagetest.Reader(imagetest.OCI(packed, derived)))
	if missing := s.missing(t, p, "derived:1"); len(missing) != 3 {
		t.Errorf("missing %q", missing)
	}
	s.refuses(t, increment(t, p, "derived:1", "base:1"), errdefs.NotFound, "save the whole image")
}

// missing is what s has to get of an image of another site.
func (s *site) missing(t *testing.T, from *site, ref string) []digest.Digest {
	t.Helper()
	list, err := from.images.Choose(ctx, []string{ref}, nil)
	if err != nil {
		t.Fatal(err)
	}
	missing, err := s.images.Missing(ctx, list[0].Layers())
	if err != nil {
		t.Fatal(err)
	}
	return missing
}

// A layer whose blob is there, but which is not unpacked at this place.
func TestIncrementUnpacksStoredBlobs(t *testing.T) {
	for name, pack := range map[string]func([]byte) []byte{"plain": nil, "gzip": imagetest.Gzip} {
		t.Run(name, func(t *testing.T) {
			base, _ := generations(pack)
			upper := imagetest.Image{Names: []string{"upper:1"}, Layers: base.Layers[1:], Pack: pack}
			s := openSite(t, t.TempDir())
			s.load(t, imagetest.Reader(imagetest.OCI(base, upper)))
			b := increment(t, s, "upper:1", "base:1")

			to := openSite(t, t.TempDir())
			to.load(t, imagetest.Reader(imagetest.OCI(base)))
			to.load(t, bytes.NewReader(b))
			if f := to.read(t, to.resolve(t, "upper:1"), "a"); f != "two" {
				t.Errorf("a: %q", f)
			}

			// A damaged blob is not taken for what it is called.
			to = openSite(t, t.TempDir())
			to.load(t, imagetest.Reader(imagetest.OCI(base)))
			l := upper.Layers[0]
			if pack != nil {
				l = pack(l)
			}
			path := filepath.Join(to.root, "content/blobs/sha256", digest.FromBytes(l).Encoded())
			bad := bytes.Clone(l)
			bad[len(bad)/2] ^= 1
			if err := os.WriteFile(path, bad, 0o400); err != nil {
				t.Fatal(err)
			}
			before := to.store(t)
			if _, err := to.images.Load(ctx, bytes.NewReader(b), image.LoadOptions{}); err == nil || !slices.Equal(before, to.store(t)) {
				t.Errorf("%v left %q", err, to.store(t))
			}
		})
	}
}

// ociOf is a layout of one image, whose layers are described and not brought.
func ociOf(i imagetest.Image, name string, layers ...ocispec.Descriptor) []byte {
	var members []imagetest.Member
	blob := func(media string, b []byte) ocispec.Descriptor {
		d := digest.FromBytes(b)
		members = append(members, imagetest.Member{Name: "blobs/sha256/" + d.Encoded(), Data: b})
		return ocispec.Descriptor{MediaType: media, Digest: d, Size: int64(len(b))}
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: blob(ocispec.MediaTypeImageConfig, i.Config()), Layers: layers}
	m.SchemaVersion = 2
	d := blob(ocispec.MediaTypeImageManifest, imagetest.JSON(m))
	d.Annotations = map[string]string{"io.containerd.image.name": name}
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{d}}
	index.SchemaVersion = 2
	return imagetest.Tar(append(members, imagetest.Member{Name: "index.json", Data: imagetest.JSON(index)}))
}

func TestHostileIncrements(t *testing.T) {
	_, derived := generations(imagetest.Gzip)
	s := openSite(t, t.TempDir())
	s.load(t, imagetest.Reader(imagetest.OCI(derived)))
	layer := func(n int) ocispec.Descriptor {
		b := imagetest.Gzip(derived.Layers[n])
		return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(b), Size: int64(len(b))}
	}
	small := func(d ocispec.Descriptor) ocispec.Descriptor { d.Size--; return d }
	below := func(d ocispec.Descriptor) ocispec.Descriptor { d.Size = -1; return d }
	config := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: derived.ID(), Size: int64(len(derived.Config()))}
	of := func(layers ...[]byte) imagetest.Image { return imagetest.Image{Layers: layers} }
	l := derived.Layers
	for name, c := range map[string]struct {
		archive []byte
		kind    errdefs.Kind
		want    string
	}{
		"blobs in another order than the diff IDs":       {ociOf(of(l[0], l[1]), "x", layer(1), layer(0)), errdefs.InvalidArgument, "invalid diffID for layer"},
		"another blob for a chain that is there":         {ociOf(of(l[0]), "x", layer(2)), errdefs.InvalidArgument, "invalid diffID for layer"},
		"a diff ID that is nowhere":                      {ociOf(of([]byte("x")), "x", layer(2)), errdefs.InvalidArgument, "invalid diffID for layer"},
		"another size":                                   {ociOf(of(l[0]), "x", small(layer(0))), errdefs.NotFound, "save the whole image"},
		"a size below nothing":                           {ociOf(of(l[0]), "x", below(layer(0))), errdefs.NotFound, "save the whole image"},
		"a configuration for a layer":                    {ociOf(of(l[0]), "x", config), errdefs.InvalidArgument, "invalid diffID for layer"},
		"more layers than diff IDs":                      {ociOf(of(l[0]), "x", layer(0), layer(1)), errdefs.InvalidArgument, "has 2 layers"},
		"a digest that is a path":                        {ociOf(of(l[0]), "x", ocispec.Descriptor{Digest: "sha256:../../../etc/passwd", Size: 3}), errdefs.InvalidArgument, "digest"},
		"a docker archive that does not say sizes":       {without(t, increment(t, s, "derived:1", "derived:1"), "index.json"), errdefs.InvalidArgument, "is missing"},
		"a configuration that the archive does not have": {without(t, increment(t, s, "derived:1", "derived:1"), "blobs/sha256/"+derived.ID().Encoded()), errdefs.InvalidArgument, "is missing"},
	} {
		t.Run(name, func(t *testing.T) { s.refuses(t, c.archive, c.kind, c.want) })
	}
	s.load(t, bytes.NewReader(ociOf(of(l[0], l[1]), "x", layer(0), layer(1)))) // the sound one
}

func TestIncrementBesideARemoval(t *testing.T) {
	base, derived := generations(imagetest.Gzip)
	s, to := openSite(t, t.TempDir()), openSite(t, t.TempDir())
	s.load(t, imagetest.Reader(imagetest.OCI(base, derived)))
	to.load(t, imagetest.Reader(imagetest.OCI(base)))
	if missing := to.missing(t, s, "derived:1"); len(missing) != 1 {
		t.Fatalf("missing %q", missing)
	}
	b := increment(t, s, "derived:1", "base:1")
	removed := false
	r := io.MultiReader(bytes.NewReader(b[:len(b)/2]), readerFunc(func([]byte) (int, error) {
		if !removed {
			removed = true
			if _, err := to.images.Remove(ctx, "base:1", image.RemoveOptions{}); err != nil {
				t.Error(err)
			}
		}
		return 0, io.EOF
	}), bytes.NewReader(b[len(b)/2:]))
	_, err := to.images.Load(ctx, r, image.LoadOptions{})
	if !errdefs.Is(err, errdefs.NotFound) || !strings.Contains(err.Error(), "load or pull that first") {
		t.Errorf("%v", err)
	}
	if left := to.store(t); len(left) > 0 {
		t.Errorf("left %q", left)
	}
	if missing := to.missing(t, s, "derived:1"); len(missing) != 3 {
		t.Errorf("missing %q", missing)
	}
}

// TestLoadHoldsUpNobody while it unpacks, and begins anew where what it found
// goes meanwhile.
func TestLoadHoldsUpNobody(t *testing.T) {
	base, derived := generations(imagetest.Gzip)
	from := openSite(t, t.TempDir())
	from.load(t, imagetest.Reader(imagetest.OCI(base, derived)))
	whole, part := saved(t, from, "derived:1"), increment(t, from, "derived:1", "base:1")
	other := imagetest.Image{Names: []string{"other:1"}, Layers: [][]byte{imagetest.Layer(map[string]string{"z": "z"})}}
	for name, driver := range map[string]func(t *testing.T) *site{
		"overlay": func(t *testing.T) *site { return openSite(t, t.TempDir()) },
		"vfs":     func(t *testing.T) *site { root := t.TempDir(); return openOn(t, root, newVFS(t, root)) },
	} {
		for what, c := range map[string]struct {
			archive []byte
			gone    string // while it is unpacked
			kind    errdefs.Kind
			want    string // "": it is loaded
		}{
			"another image":                 {whole, "other:1", 0, ""},
			"layers that are there":         {whole, "base:1", 0, ""},
			"another image than the base":   {part, "other:1", 0, ""},
			"layers that the archive lacks": {part, "base:1", errdefs.NotFound, "load or pull that first"},
		} {
			t.Run(name+": "+what, func(t *testing.T) {
				s := driver(t)
				s.load(t, imagetest.Reader(imagetest.OCI(base, other)))
				removed := false
				_, err := s.images.Load(ctx, bytes.NewReader(c.archive), image.LoadOptions{Out: func(m jsonstream.Message) {
					if removed || m.Progress == nil {
						return
					}
					removed = true
					ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // of a test that would wait for itself
					defer cancel()
					if _, err := s.images.Remove(ctx, c.gone, image.RemoveOptions{}); err != nil {
						t.Errorf("remove %s: %v", c.gone, err)
					}
				}})
				if !removed {
					t.Error("no progress was told")
				}
				if c.want != "" {
					if err == nil || errdefs.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
						t.Errorf("%v, want %s", err, c.want)
					}
				} else if err != nil || !bytes.Equal(saved(t, s, "derived:1"), whole) {
					t.Errorf("%v, or another image", err)
				}
				s.whole(t)
			})
		}
	}
}
