//go:build root

package image_test

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/image/imagetest"
	"github.com/tare-engine/tare/internal/registry"
	"github.com/tare-engine/tare/internal/registry/registrytest"
)

func client(t testing.TB) *registry.Client {
	t.Helper()
	c, err := registry.New(registry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (s *site) push(t testing.TB, c *registry.Client, ref string, o image.PushOptions) (string, error) {
	t.Helper()
	var said strings.Builder
	o.Uploads = 3
	o.Out = func(m jsonstream.Message) {
		if (m.Progress == nil || m.Progress.Total == 0) && m.Aux == nil {
			said.WriteString(strings.TrimSpace(m.ID+" "+m.Status) + "\n")
		}
		if m.Aux != nil {
			said.Write(*m.Aux)
		}
	}
	tagged := named(t, ref).(reference.NamedTagged)
	err := s.images.Push(ctx, tagged, c.Repository(tagged, nil), o)
	return said.String(), err
}

// TestPushGivesBackWhatWasPulled moves images of all forms from one registry to
// another and compares digests.
func TestPushGivesBackWhatWasPulled(t *testing.T) {
	for name, i := range map[string]registrytest.Image{
		"OCI":              {Layers: 3, Compression: []string{"gzip", "zstd", "none"}},
		"Docker":           {Docker: true, Layers: 2},
		"with attestation": {Index: true, Layers: 2},
	} {
		t.Run(name, func(t *testing.T) {
			from, to, c := registrytest.New(t, registrytest.Options{}), registrytest.New(t, registrytest.Options{}), client(t)
			put := from.Put("a/x", "1", i)
			s := openSite(t, t.TempDir())
			ref := named(t, from.Host+"/a/x:1")
			if _, err := s.images.Pull(ctx, ref, c.Repository(ref, nil), image.PullOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, _, err := s.images.Tag(ctx, ref.String(), to.Host+"/b/y", "2"); err != nil {
				t.Fatal(err)
			}
			said, err := s.push(t, c, to.Host+"/b/y:2", image.PushOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if want := "2: digest: " + put.Top.Digest.String(); !strings.Contains(said, want) || strings.Count(said, ": Pushed")+strings.Count(said, " Pushed") != len(put.Layers) {
				t.Errorf("said\n%s, not %q", said, want)
			}
			back := named(t, to.Host+"/b/y:2")
			d, err := c.Repository(back, nil).Resolve(ctx, "2")
			if err != nil || d.Digest != put.Top.Digest {
				t.Errorf("%v, %v", d, err)
			}
			again, err := s.push(t, c, to.Host+"/b/y:2", image.PushOptions{})
			if err != nil || strings.Count(again, "Layer already exists") != len(put.Layers) {
				t.Errorf("again: %v, said\n%s", err, again)
			}
			if img, err := s.images.Resolve(ctx, to.Host+"/b/y@"+put.Top.Digest.String()); err != nil || img.Target.Digest != put.Top.Digest {
				t.Errorf("%+v, %v", img, err)
			}
			for _, ref := range []string{ref.String(), to.Host + "/b/y:2"} {
				if _, err := s.images.Remove(ctx, ref, image.RemoveOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			if left := s.store(t); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

func TestPushMountsWhatTheRegistryHas(t *testing.T) {
	r, c := registrytest.New(t, registrytest.Options{}), client(t)
	put := r.Put("a/x", "1", registrytest.Image{Layers: 2})
	s := openSite(t, t.TempDir())
	ref := named(t, r.Host+"/a/x:1")
	if _, err := s.images.Pull(ctx, ref, c.Repository(ref, nil), image.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.images.Tag(ctx, ref.String(), r.Host+"/b/y", "1"); err != nil {
		t.Fatal(err)
	}
	said, err := s.push(t, c, r.Host+"/b/y:1", image.PushOptions{})
	if err != nil || strings.Count(said, "Mounted from a/x") != len(put.Layers) {
		t.Errorf("%v, said\n%s", err, said)
	}
	if n := len(r.Requests(http.MethodPut, "/blobs/uploads/")); n != 0 {
		t.Errorf("%d uploads", n)
	}
}

// TestPushOfSeveralPlatforms pulls two images of an index and pushes the index.
func TestPushOfSeveralPlatforms(t *testing.T) {
	s, r := openSite(t, t.TempDir()), newRemote()
	amd, arm := simple(), simple()
	arm.Layers = arm.Layers[:1]
	arm.Change = func(c map[string]any) { c["architecture"] = "arm64" }
	a, b := r.image(amd), r.image(arm)
	a.Platform, b.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}, &ocispec.Platform{OS: "linux", Architecture: "arm64"}
	index := r.index(a, b)
	r.tags["latest"] = index
	to, c := registrytest.New(t, registrytest.Options{}), client(t)
	if _, _, err := s.pull(ctx, t, to.Host+"/x", r, image.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	said, err := s.push(t, c, to.Host+"/x:latest", image.PushOptions{})
	if err != nil || !strings.Contains(said, `"manifestPushedInsteadOfIndex":true`) || !strings.Contains(said, "latest: digest: "+a.Digest.String()) {
		t.Fatalf("one of them: %v, said\n%s", err, said)
	}
	arm64 := &ocispec.Platform{OS: "linux", Architecture: "arm64"}
	if _, err := s.push(t, c, to.Host+"/x:latest", image.PushOptions{Platform: arm64}); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("arm64, which is not here: %v", err)
	}
	if _, _, err := s.pull(ctx, t, to.Host+"/x", r, image.PullOptions{Platform: arm64}); err != nil {
		t.Fatal(err)
	}
	said, err = s.push(t, c, to.Host+"/x:latest", image.PushOptions{})
	if err != nil || !strings.Contains(said, "latest: digest: "+index.Digest.String()) {
		t.Fatalf("both: %v, said\n%s", err, said)
	}
	for _, d := range []digest.Digest{index.Digest, a.Digest, b.Digest} {
		if has, err := c.Repository(named(t, to.Host+"/x"), nil).Has(ctx, ocispec.Descriptor{Digest: d, MediaType: ocispec.MediaTypeImageManifest}); err != nil || !has {
			t.Errorf("%s: %v, %v", d, has, err)
		}
	}
	said, err = s.push(t, c, to.Host+"/x:latest", image.PushOptions{Platform: arm64})
	if err != nil || !strings.Contains(said, "latest: digest: "+b.Digest.String()) {
		t.Errorf("arm64: %v, said\n%s", err, said)
	}
}

// TestPushIsOfThePlatformNamed, not of one that would run there too.
func TestPushIsOfThePlatformNamed(t *testing.T) {
	s, r := openSite(t, t.TempDir()), newRemote()
	i386 := simple()
	i386.Change = func(c map[string]any) { c["architecture"] = "386" }
	a := r.image(i386)
	a.Platform = &ocispec.Platform{OS: "linux", Architecture: "386"}
	r.tags["latest"] = r.index(a)
	to, c := registrytest.New(t, registrytest.Options{}), client(t)
	if _, _, err := s.pull(ctx, t, to.Host+"/x", r, image.PullOptions{Platform: a.Platform}); err != nil {
		t.Fatal(err)
	}
	_, err := s.push(t, c, to.Host+"/x:latest", image.PushOptions{Platform: &ocispec.Platform{OS: "linux", Architecture: "amd64"}})
	if want := "image with reference " + to.Host + "/x:latest was found but does not provide the specified platform (linux/amd64)"; !errdefs.Is(err, errdefs.NotFound) || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if said, err := s.push(t, c, to.Host+"/x:latest", image.PushOptions{Platform: a.Platform}); err != nil {
		t.Errorf("%v, said %s", err, said)
	}
}

func TestPushOfWhatIsNotHere(t *testing.T) {
	s, to, c := openSite(t, t.TempDir()), registrytest.New(t, registrytest.Options{}), client(t)
	if _, err := s.push(t, c, to.Host+"/x:1", image.PushOptions{}); !errdefs.Is(err, errdefs.NotFound) {
		t.Error(err)
	}
	s.load(t, imagetest.Reader(imagetest.Docker(simple(to.Host+"/x:1", to.Host+"/x:2", "y:3"))))
	if got := s.images.Tags(named(t, to.Host+"/x")); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("tags %q", got)
	}
}

// destination counts the documents that a push sends.
type destination struct{ documents int }

func (d *destination) Has(context.Context, ocispec.Descriptor) (bool, error) { return true, nil }
func (d *destination) Mount(context.Context, ocispec.Descriptor, string) (bool, error) {
	return false, nil
}
func (d *destination) PushBlob(context.Context, ocispec.Descriptor, func(int64) (io.ReadCloser, error), func(int64)) error {
	return nil
}
func (d *destination) PushManifest(_ context.Context, _, _ string, b []byte) (digest.Digest, error) {
	d.documents++
	return digest.FromBytes(b), nil
}

// TestPushSendsADocumentOnce, however often the indexes list it.
func TestPushSendsADocumentOnce(t *testing.T) {
	s, r := openSite(t, t.TempDir()), newRemote()
	r.tags["1"] = r.thousandfold(4, 10, r.image(simple()))
	if _, _, err := s.pull(ctx, t, "host:5000/x:1", r, image.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	var to destination
	tagged := named(t, "host:5000/x:1").(reference.NamedTagged)
	if err := s.images.Push(ctx, tagged, &to, image.PushOptions{}); err != nil || to.documents != 5 {
		t.Errorf("%d documents were sent, not 5: %v", to.documents, err)
	}
}
