//go:build root

package image_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/image/imagetest"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/layer/overlay"
)

// remote is a repository in memory that can misbehave.
type remote struct {
	mu     sync.Mutex
	tags   map[string]ocispec.Descriptor
	blobs  map[digest.Digest][]byte
	asked  []string                                        // blobs, with the offset
	mirror bool                                            // what serve changes comes from a mirror
	before func(d digest.Digest)                           // called when a blob is asked for
	serve  func(d digest.Digest, rest io.Reader) io.Reader // what is sent instead
}

func newRemote() *remote {
	return &remote{tags: map[string]ocispec.Descriptor{}, blobs: map[digest.Digest][]byte{}}
}

func (r *remote) put(media string, b []byte) ocispec.Descriptor {
	d := digest.FromBytes(b)
	r.blobs[d] = b
	return ocispec.Descriptor{MediaType: media, Digest: d, Size: int64(len(b))}
}

// image puts an image and returns its manifest.
func (r *remote) image(i imagetest.Image) ocispec.Descriptor {
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: r.put(ocispec.MediaTypeImageConfig, i.Config())}
	m.SchemaVersion = 2
	for _, l := range i.Layers {
		media := ocispec.MediaTypeImageLayer
		if i.Pack != nil {
			l, media = i.Pack(l), ocispec.MediaTypeImageLayerGzip
		}
		m.Layers = append(m.Layers, r.put(media, l))
	}
	return r.put(m.MediaType, imagetest.JSON(m))
}

func (r *remote) index(list ...ocispec.Descriptor) ocispec.Descriptor {
	i := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: list}
	i.SchemaVersion = 2
	return r.put(i.MediaType, imagetest.JSON(i))
}

func (r *remote) Resolve(_ context.Context, name string) (ocispec.Descriptor, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d, ok := r.tags[name]; ok {
		return d, nil
	}
	for _, d := range r.tags {
		if d.Digest.String() == name {
			return d, nil
		}
	}
	return ocispec.Descriptor{}, errdefs.New(errdefs.NotFound, "manifest unknown")
}

func (r *remote) Manifest(_ context.Context, d ocispec.Descriptor) ([]byte, error) {
	b, ok := r.blobs[d.Digest]
	if !ok {
		return nil, errdefs.New(errdefs.NotFound, "manifest unknown")
	}
	return b, nil
}

func (r *remote) Blob(_ context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	r.mu.Lock()
	r.asked = append(r.asked, fmt.Sprint(d.Digest.Encoded()[:8], " ", offset))
	r.mu.Unlock()
	if r.before != nil {
		r.before(d.Digest)
	}
	var rest io.Reader = bytes.NewReader(r.blobs[d.Digest][offset:])
	if r.serve != nil {
		rest = r.serve(d.Digest, rest)
	}
	return io.NopCloser(rest), nil
}

func (r *remote) WithoutMirrors() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	were := r.mirror
	if were {
		r.mirror, r.serve = false, nil
	}
	return were
}

func named(t testing.TB, s string) reference.Named {
	t.Helper()
	n, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (s *site) pull(ctx context.Context, t testing.TB, ref string, r *remote, o image.PullOptions) (*image.Pulled, string, error) {
	t.Helper()
	var said strings.Builder
	o.Out = func(m jsonstream.Message) {
		if m.Progress == nil || m.Progress.Total == 0 {
			fmt.Fprintln(&said, strings.TrimSpace(m.ID+" "+m.Status))
		}
	}
	p, err := s.images.Pull(ctx, named(t, ref), r, o)
	return p, said.String(), err
}

// large is an image whose one layer does not fit any buffer.
func large() imagetest.Image {
	var words strings.Builder
	for i := range 200_000 {
		fmt.Fprintln(&words, i)
	}
	return imagetest.Image{Layers: [][]byte{imagetest.Layer(map[string]string{"words": words.String()})}}
}

func TestPull(t *testing.T) {
	s, r := openSite(t, t.TempDir()), newRemote()
	i := simple()
	i.Pack = imagetest.Gzip
	m := r.image(i)
	r.tags["1"] = m
	p, said, err := s.pull(ctx, t, "host:5000/a/x:1", r, image.PullOptions{})
	if err != nil || p.ID != i.ID() || p.Name != "host:5000/a/x:1" || !p.New {
		t.Fatalf("%+v, %v", p, err)
	}
	layers := []string{digest.FromBytes(imagetest.Gzip(i.Layers[0])).Encoded()[:12], digest.FromBytes(imagetest.Gzip(i.Layers[1])).Encoded()[:12]}
	if !strings.HasPrefix(said, "1 Pulling from a/x\n"+layers[0]+" Pulling fs layer\n"+layers[1]+" Pulling fs layer\n") ||
		!strings.HasSuffix(said, "Digest: "+m.Digest.String()+"\nStatus: Downloaded newer image for host:5000/a/x:1\n") || strings.Count(said, "Pull complete") != 2 {
		t.Errorf("said\n%s", said)
	}
	img, err := s.images.Resolve(ctx, "host:5000/a/x@"+m.Digest.String())
	if err != nil || !slices.Equal(img.RepoTags, []string{"host:5000/a/x:1"}) || !slices.Equal(img.RepoDigests, []string{"host:5000/a/x@" + m.Digest.String()}) {
		t.Errorf("%+v, %v", img, err)
	}
	asked := len(r.asked)
	p, said, err = s.pull(ctx, t, "host:5000/a/x:1", r, image.PullOptions{})
	if err != nil || p.New || len(r.asked) != asked || said != "1 Pulling from a/x\nDigest: "+m.Digest.String()+"\nStatus: Image is up to date for host:5000/a/x:1\n" {
		t.Errorf("again: %+v, %v, %v, said\n%s", p, err, r.asked, said)
	}
	if _, err := s.images.Remove(ctx, "host:5000/a/x:1", image.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if left := s.store(t); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestPullChoosesThePlatform(t *testing.T) {
	s, r := openSite(t, t.TempDir()), newRemote()
	amd, arm := simple(), simple()
	amd.Pack, arm.Pack = imagetest.Gzip, imagetest.Gzip
	arm.Layers = arm.Layers[:1]
	arm.Change = func(c map[string]any) { c["architecture"], c["variant"] = "arm64", "v8" }
	a, b := r.image(amd), r.image(arm)
	a.Platform, b.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}, &ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}
	attest := r.put(ocispec.MediaTypeImageManifest, []byte(`{"attestation":1}`))
	attest.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	attest.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	index := r.index(attest, b, a)
	r.tags["latest"] = index
	p, _, err := s.pull(ctx, t, "x", r, image.PullOptions{})
	if err != nil || p.ID != amd.ID() {
		t.Fatalf("%+v, %v", p, err)
	}
	img, err := s.images.Resolve(ctx, "x@"+index.Digest.String())
	if err != nil || img.ID != amd.ID() || img.Target.Digest != index.Digest || img.Manifest.Digest != a.Digest {
		t.Errorf("%+v, %v", img, err)
	}
	other := image.PullOptions{Platform: &ocispec.Platform{OS: "linux", Architecture: "arm64"}}
	if p, _, err = s.pull(ctx, t, "x", r, other); err != nil || p.ID != arm.ID() {
		t.Fatalf("arm64: %+v, %v", p, err)
	}
	if img, err = s.images.Resolve(ctx, "x"); err != nil || img.ID != amd.ID() || !slices.Equal(img.Others, []digest.Digest{arm.ID()}) {
		t.Errorf("both: %+v, %v", img, err)
	}
	for id, o := range map[digest.Digest]image.PullOptions{amd.ID(): {}, arm.ID(): other} {
		if p, said, err := s.pull(ctx, t, "x", r, o); err != nil || p.ID != id || p.New || !strings.Contains(said, "Image is up to date for x:latest") {
			t.Errorf("again: %+v, %v, said\n%s", p, err, said)
		}
	}
	_, _, err = s.pull(ctx, t, "x", r, image.PullOptions{Platform: &ocispec.Platform{OS: "linux", Architecture: "s390x"}})
	if want := "no matching manifest for linux/s390x in the manifest list entries: no match for platform in manifest: not found"; err == nil || err.Error() != want {
		t.Errorf("s390x: %v", err)
	}
	for _, id := range []digest.Digest{amd.ID(), arm.ID()} {
		if _, err := s.images.Remove(ctx, string(id), image.RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if left := s.store(t); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestPullLooksIntoIndexesThatDoNotSayTheirPlatform, and at manifests, until one
// has what is wanted.
func TestPullLooksIntoIndexesThatDoNotSayTheirPlatform(t *testing.T) {
	of := func(arch string) imagetest.Image {
		i := simple()
		i.Layers[1] = imagetest.Layer(map[string]string{"b": arch})
		i.Change = func(c map[string]any) { c["architecture"] = arch }
		return i
	}
	on := func(arch string) *ocispec.Platform { return &ocispec.Platform{OS: "linux", Architecture: arch} }
	says := func(r *remote, arch string) ocispec.Descriptor {
		d := r.image(of(arch))
		d.Platform = on(arch)
		return d
	}
	none := func(d ocispec.Descriptor) ocispec.Descriptor { d.Digest = digest.FromString("none"); return d }
	for name, index := range map[string]func(r *remote) ocispec.Descriptor{
		"indexes": func(r *remote) ocispec.Descriptor {
			return r.index(r.index(says(r, "s390x")), r.index(says(r, "arm64")), r.index(says(r, "amd64")))
		},
		"deeper": func(r *remote) ocispec.Descriptor {
			return r.index(r.index(r.index(says(r, "s390x")), r.index(says(r, "arm64"))), r.index(r.index(says(r, "amd64"))))
		},
		"manifests": func(r *remote) ocispec.Descriptor {
			return r.index(r.image(of("s390x")), r.image(of("arm64")), r.image(of("amd64")))
		},
		"both": func(r *remote) ocispec.Descriptor {
			return r.index(r.image(of("s390x")), r.index(r.image(of("arm64"))), r.index(says(r, "amd64")))
		},
		"one that names the platform and has it not": func(r *remote) ocispec.Descriptor {
			lies := r.index(says(r, "s390x"))
			lies.Platform = on("arm64")
			return r.index(lies, r.index(says(r, "arm64"), says(r, "amd64")))
		},
		"one that is not there": func(r *remote) ocispec.Descriptor {
			return r.index(none(r.index(says(r, "amd64"))), none(r.image(of("arm64"))), r.index(says(r, "arm64")), r.index(says(r, "amd64")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, arch := range []string{"arm64", "amd64"} {
				s, r := openSite(t, t.TempDir()), newRemote()
				r.tags["latest"] = index(r)
				p, _, err := s.pull(ctx, t, "x", r, image.PullOptions{Platform: on(arch)})
				if err != nil || p.ID != of(arch).ID() {
					t.Fatalf("%s: %+v, %v", arch, p, err)
				}
				if _, said, err := s.pull(ctx, t, "x", r, image.PullOptions{Platform: on(arch)}); err != nil || !strings.Contains(said, "Image is up to date for x:latest") {
					t.Errorf("%s again: %v, said\n%s", arch, err, said)
				}
				if _, err := s.images.Remove(ctx, "x", image.RemoveOptions{}); err != nil {
					t.Fatal(err)
				}
				if left := s.store(t); len(left) > 0 {
					t.Errorf("left: %q", left)
				}
			}
			s, r := openSite(t, t.TempDir()), newRemote()
			r.tags["latest"] = index(r)
			if _, _, err := s.pull(ctx, t, "x", r, image.PullOptions{Platform: on("riscv64")}); !errdefs.Is(err, errdefs.NotFound) {
				t.Errorf("riscv64: %v", err)
			}
		})
	}
}

// TestPullLooksIntoSoManyDocuments: an index of a thousand that do not say what
// they are for does not have all of them fetched.
func TestPullLooksIntoSoManyDocuments(t *testing.T) {
	s, r := openSite(t, t.TempDir()), newRemote()
	var list []ocispec.Descriptor
	for n := range 1000 {
		i := simple()
		i.Change = func(c map[string]any) { c["architecture"], c["author"] = "s390x", fmt.Sprint(n) }
		list = append(list, r.image(i))
	}
	r.tags["latest"] = r.index(list...)
	_, _, err := s.pull(ctx, t, "x", r, image.PullOptions{})
	if err == nil || !strings.Contains(err.Error(), "more than 100 documents") || len(r.asked) > 100 {
		t.Errorf("%v, asked for %d", err, len(r.asked))
	}
}

// TestPullOfAPlatformThatTheConfigurationDoesNotSay: what images for old ARM
// machines have there is the architecture alone.
func TestPullOfAPlatformThatTheConfigurationDoesNotSay(t *testing.T) {
	s, r := openSite(t, t.TempDir()), newRemote()
	v6, other := simple(), imagetest.Image{Layers: [][]byte{imagetest.Layer(nil)}}
	v6.Pack = imagetest.Gzip
	v6.Change = func(c map[string]any) { c["architecture"] = "arm" }
	want := &ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v6"}
	a, b := r.image(other), r.image(v6)
	a.Platform, b.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}, want
	r.tags["latest"] = r.index(a, b)
	for range 2 {
		if p, _, err := s.pull(ctx, t, "x", r, image.PullOptions{Platform: want}); err != nil || p.ID != v6.ID() {
			t.Errorf("%+v, %v", p, err)
		}
	}
	if p, _, err := s.pull(ctx, t, "x", r, image.PullOptions{}); err != nil || p.ID != other.ID() {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestResolveToRunIsOfTheBest of the images that a name has.
func TestResolveToRunIsOfTheBest(t *testing.T) {
	s, r := openSite(t, t.TempDir()), newRemote()
	var index []ocispec.Descriptor
	ids := map[string]digest.Digest{}
	for _, variant := range []string{"v5", "v6", "v7"} {
		i := simple()
		i.Change = func(c map[string]any) { c["architecture"], c["variant"] = "arm", variant }
		d := r.image(i)
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm", Variant: variant}
		index, ids[variant] = append(index, d), i.ID()
	}
	r.tags["latest"] = r.index(index...)
	for _, d := range index {
		if _, _, err := s.pull(ctx, t, "x", r, image.PullOptions{Platform: d.Platform}); err != nil {
			t.Fatal(err)
		}
	}
	for want, best := range map[string]string{"v5": "v5", "v6": "v6", "v7": "v7", "v8": "v7", "": "v7"} {
		if i, err := s.images.ResolveToRun(ctx, "x", ocispec.Platform{OS: "linux", Architecture: "arm", Variant: want}); err != nil || i.ID != ids[best] {
			t.Errorf("%q: %+v, %v", want, i, err)
		}
	}
	if i, err := s.images.ResolveToRun(ctx, "x", ocispec.Platform{OS: "linux", Architecture: "s390x"}); !errdefs.Is(err, errdefs.NotFound) {
		t.Error(i, err)
	}
}

// failAfter passes n bytes on and then fails.
func failAfter(r io.Reader, n int64, err error) io.Reader {
	return io.MultiReader(io.LimitReader(r, n), &failing{err})
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

func TestPullGoesOnWhereItStopped(t *testing.T) {
	root, r := t.TempDir(), newRemote()
	s := openSite(t, root)
	i := large()
	r.tags["latest"] = r.image(i)
	blob := digest.FromBytes(i.Layers[0])
	cut := errors.New("the line is cut")
	r.serve = func(d digest.Digest, rest io.Reader) io.Reader {
		if d == blob {
			return failAfter(rest, 700_000, cut)
		}
		return rest
	}
	if _, _, err := s.pull(ctx, t, "x", r, image.PullOptions{}); !errors.Is(err, cut) {
		t.Fatal(err)
	}
	s.close()
	s = openSite(t, root) // a later engine
	r.serve, r.asked = nil, nil
	p, _, err := s.pull(ctx, t, "x", r, image.PullOptions{})
	if err != nil || p.ID != i.ID() {
		t.Fatalf("%+v, %v", p, err)
	}
	if want := blob.Encoded()[:8] + " 700000"; !slices.Contains(r.asked, want) || len(r.asked) != 2 {
		t.Errorf("asked for %q, not %q", r.asked, want)
	}
	for _, left := range s.store(t) {
		if strings.Contains(left, "partial") {
			t.Errorf("left: %q", left)
		}
	}
}

func TestPullOfAnUnsoundBeginning(t *testing.T) {
	root, r := t.TempDir(), newRemote()
	s := openSite(t, root)
	i := large()
	r.tags["latest"] = r.image(i)
	blob := digest.FromBytes(i.Layers[0])
	if err := os.WriteFile(filepath.Join(root, "content/partial", blob.Encoded()), make([]byte, 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	p, _, err := s.pull(ctx, t, "x", r, image.PullOptions{})
	if err != nil || p.ID != i.ID() {
		t.Fatalf("%+v, %v", p, err)
	}
	if !slices.Contains(r.asked, blob.Encoded()[:8]+" 0") {
		t.Errorf("asked for %q", r.asked)
	}
}

func TestPullLeavesNothingWhenTheClientLeaves(t *testing.T) {
	for name, makeDriver := range drivers {
		t.Run(name, func(t *testing.T) {
			root, r := t.TempDir(), newRemote()
			s := openOn(t, root, makeDriver(t, root))
			i := large()
			i.Layers = append(i.Layers, imagetest.Layer(map[string]string{"b": "b"}))
			r.tags["latest"] = r.image(i)
			ctx, leave := context.WithCancel(ctx)
			blob := digest.FromBytes(i.Layers[0])
			r.serve = func(d digest.Digest, rest io.Reader) io.Reader {
				if d != blob {
					return rest
				}
				return io.MultiReader(io.LimitReader(rest, 300_000), readerFunc(func([]byte) (int, error) {
					leave()
					<-ctx.Done()
					return 0, ctx.Err()
				}))
			}
			if _, _, err := s.pull(ctx, t, "x", r, image.PullOptions{}); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			if left := s.store(t); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
			r.serve = nil
			if p, _, err := s.pull(context.Background(), t, "x", r, image.PullOptions{}); err != nil || p.ID != i.ID() {
				t.Errorf("afterwards: %+v, %v", p, err)
			}
		})
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

var drivers = map[string]func(testing.TB, string) layer.Driver{
	"overlay": func(t testing.TB, root string) layer.Driver {
		d, err := overlay.New(root)
		if err != nil {
			t.Fatal(err)
		}
		return d
	},
	"vfs": newVFS,
}

func TestPullsShareTheWork(t *testing.T) {
	s, r := openSite(t, t.TempDir()), newRemote()
	i := large()
	r.tags["1"], r.tags["2"] = r.image(i), r.image(i)
	// Another image with the same layer.
	j := large()
	j.Change = func(c map[string]any) { c["author"] = "j" }
	r.tags["j"] = r.image(j)
	blob := digest.FromBytes(i.Layers[0])
	others := make(chan struct{})
	var once sync.Once
	r.before = func(d digest.Digest) {
		if d == blob {
			once.Do(func() { <-others })
		}
	}
	var all sync.WaitGroup
	errs := make(chan error, 6)
	for n, tag := range []string{"1", "1", "2", "2", "j", "j"} {
		all.Go(func() {
			if n == 5 {
				close(others) // the rest waits or is about to
			}
			_, err := s.images.Pull(ctx, named(t, "x:"+tag), r, image.PullOptions{})
			errs <- err
		})
	}
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	n := 0
	for _, a := range r.asked {
		if strings.HasPrefix(a, blob.Encoded()[:8]) {
			n++
		}
	}
	if n != 1 {
		t.Errorf("the layer was fetched %d times", n)
	}
	for _, tag := range []string{"1", "2", "j"} {
		if _, err := s.images.Resolve(ctx, "x:"+tag); err != nil {
			t.Error(err)
		}
	}
}

func TestPullRefusesWrongBytes(t *testing.T) {
	i := simple()
	i.Pack = imagetest.Gzip
	blob := digest.FromBytes(imagetest.Gzip(i.Layers[1]))
	verify := "filesystem layer verification failed for digest " + blob.String()
	for name, serve := range map[string]func(b []byte) []byte{
		"changed": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"longer":  func(b []byte) []byte { return append(b, 0) },
		"another": func(b []byte) []byte { return imagetest.Gzip(i.Layers[0])[:len(b)] },
	} {
		t.Run(name, func(t *testing.T) {
			s, r := openSite(t, t.TempDir()), newRemote()
			r.tags["latest"] = r.image(i)
			r.serve = func(d digest.Digest, rest io.Reader) io.Reader {
				b, _ := io.ReadAll(rest)
				if d == blob {
					b = serve(bytes.Clone(b))
				}
				return bytes.NewReader(b)
			}
			if _, _, err := s.pull(ctx, t, "x", r, image.PullOptions{}); err == nil || !strings.Contains(err.Error(), verify) {
				t.Errorf("%v", err)
			}
			for _, left := range s.store(t) {
				if !strings.Contains(left, "partial") || strings.Contains(left, blob.Encoded()) {
					t.Errorf("left: %q", left)
				}
			}
		})
	}
}

// TestPullBesideALie pulls, while a pull is between its verified layer and its
// end, an image that says something else of the same layer.
func TestPullBesideALie(t *testing.T) {
	s, r := openSite(t, t.TempDir()), newRemote()
	i := simple()
	i.Layers = append(i.Layers, imagetest.Layer(map[string]string{"c": "c"}))
	r.tags["good"] = r.image(i)
	shared, last := i.Layers[0], digest.FromBytes(i.Layers[2])
	liar := i
	liar.Layers = i.Layers[:1]
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: r.put(ocispec.MediaTypeImageConfig, liar.Config())}
	var lies []string
	for _, size := range []int64{int64(len(shared)) + 7, 3} {
		lies = append(lies, fmt.Sprint("lie", size))
		m.Layers = []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(shared), Size: size}}
		r.tags[fmt.Sprint("lie", size)] = r.put(m.MediaType, imagetest.JSON(m))
	}
	var once sync.Once
	r.before = func(d digest.Digest) {
		if d != last {
			return
		}
		once.Do(func() {
			partial := filepath.Join(s.root, "content/partial", digest.FromBytes(shared).Encoded())
			for b, err := os.ReadFile(partial); err != nil || !bytes.Equal(b, shared); b, err = os.ReadFile(partial) {
				time.Sleep(time.Millisecond)
			}
			for _, tag := range lies {
				if _, err := s.images.Pull(ctx, named(t, "x:"+tag), r, image.PullOptions{}); err == nil {
					t.Errorf("%s was believed", tag)
				}
			}
		})
	}
	if p, _, err := s.pull(ctx, t, "x:good", r, image.PullOptions{}); err != nil || p.ID != i.ID() {
		t.Fatalf("%+v, %v", p, err)
	}
	if b, err := os.ReadFile(filepath.Join(s.root, "content/blobs/sha256", digest.FromBytes(shared).Encoded())); err != nil || !bytes.Equal(b, shared) {
		t.Errorf("the stored layer has %d bytes of %d, %v", len(b), len(shared), err)
	}
}

func TestPullOfMoreThanFits(t *testing.T) {
	s, r := openSite(t, t.TempDir()), newRemote()
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: r.put(ocispec.MediaTypeImageConfig, simple().Config())}
	for _, size := range []int64{-1, math.MaxInt64} {
		m.Layers = nil
		for _, l := range simple().Layers {
			m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(l), Size: size})
		}
		r.tags["latest"] = r.put(m.MediaType, imagetest.JSON(m))
		if _, _, err := s.pull(ctx, t, "x", r, image.PullOptions{}); err == nil || size > 0 && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%d: %v", size, err)
		}
		if left := s.store(t); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	}
}

// TestPullBesideAWrongMirror gets from the registry what its mirror has wrong.
func TestPullBesideAWrongMirror(t *testing.T) {
	s, r := openSite(t, t.TempDir()), newRemote()
	i := simple()
	r.tags["latest"] = r.image(i)
	r.mirror = true
	wrong := digest.FromBytes(i.Layers[0])
	r.serve = func(d digest.Digest, rest io.Reader) io.Reader {
		if d == wrong {
			return bytes.NewReader(make([]byte, len(i.Layers[0])))
		}
		return rest
	}
	if p, _, err := s.pull(ctx, t, "x", r, image.PullOptions{}); err != nil || p.ID != i.ID() {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestPullOfWhatIsNoImage(t *testing.T) {
	layers := func(media string) func(*remote) ocispec.Descriptor {
		return func(r *remote) ocispec.Descriptor {
			i := simple()
			m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: r.put(ocispec.MediaTypeImageConfig, i.Config())}
			for _, l := range i.Layers {
				m.Layers = append(m.Layers, r.put(media, l))
			}
			return r.put(m.MediaType, imagetest.JSON(m))
		}
	}
	for name, tt := range map[string]struct {
		put  func(*remote) ocispec.Descriptor
		want string
	}{
		"foreign layer": {layers("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), "must not be distributed"},
		"chart":         {layers("application/vnd.cncf.helm.chart.content.v1.tar+gzip"), "unsupported media type"},
		"artifact": {func(r *remote) ocispec.Descriptor {
			return r.put(ocispec.MediaTypeImageManifest, imagetest.JSON(ocispec.Manifest{Config: r.put("application/vnd.oci.empty.v1+json", []byte("{}"))}))
		}, "is no image"},
		"index in index": {func(r *remote) ocispec.Descriptor {
			d := r.image(simple())
			for range 6 {
				d = r.index(d)
			}
			return d
		}, "nested"},
		"too few layers": {func(r *remote) ocispec.Descriptor {
			m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: r.put(ocispec.MediaTypeImageConfig, simple().Config())}
			return r.put(m.MediaType, imagetest.JSON(m))
		}, "0 layers"},
		"both": {func(r *remote) ocispec.Descriptor {
			return r.put(ocispec.MediaTypeImageManifest, []byte(`{"manifests":[],"layers":[],"config":{}}`))
		}, "at once"},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := openSite(t, t.TempDir()), newRemote()
			r.tags["latest"] = tt.put(r)
			if _, _, err := s.pull(ctx, t, "x", r, image.PullOptions{}); err == nil || !strings.Contains(err.Error(), tt.want) || errdefs.KindOf(err) == errdefs.Internal {
				t.Errorf("%v", err)
			}
			if left := s.store(t); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

// TestPullBesideARemoval takes away, in the middle of a pull, the image whose
// layer did not have to be fetched.
func TestPullBesideARemoval(t *testing.T) {
	s, r := openSite(t, t.TempDir()), newRemote()
	i := simple()
	base := i
	base.Layers = i.Layers[:1]
	r.tags["base"], r.tags["all"] = r.image(base), r.image(i)
	if _, _, err := s.pull(ctx, t, "x:base", r, image.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	top := digest.FromBytes(i.Layers[1])
	r.before = func(d digest.Digest) {
		if d == top {
			if _, err := s.images.Remove(ctx, "x:base", image.RemoveOptions{}); err != nil {
				t.Error(err)
			}
		}
	}
	p, _, err := s.pull(ctx, t, "x:all", r, image.PullOptions{})
	if err != nil || p.ID != i.ID() {
		t.Fatalf("%+v, %v", p, err)
	}
	img, err := s.images.Resolve(ctx, "x:all")
	if err != nil || !s.layers.Has(img.Chain) {
		t.Errorf("%+v, %v", img, err)
	}
}

// TestPullKeepsTheRegistrysBytes pulls an image whose layers are there, but not
// as the registry has them.
func TestPullKeepsTheRegistrysBytes(t *testing.T) {
	s, r := openSite(t, t.TempDir()), newRemote()
	i := simple("x:plain")
	s.load(t, imagetest.Reader(imagetest.Docker(i)))
	i.Pack = imagetest.Gzip
	r.tags["latest"] = r.image(i)
	if p, _, err := s.pull(ctx, t, "x", r, image.PullOptions{}); err != nil || p.ID != i.ID() {
		t.Fatalf("%+v, %v", p, err)
	}
	for _, l := range i.Layers {
		if _, err := os.Stat(filepath.Join(s.root, "content/blobs/sha256", digest.FromBytes(imagetest.Gzip(l)).Encoded())); err != nil {
			t.Error(err)
		}
	}
}

// TestPullOfLayersThatNeedTheOnesBelow: neither an image of more layers than may
// come at a time nor one with a layer twice waits for itself.
func TestPullOfLayersThatNeedTheOnesBelow(t *testing.T) {
	for name, makeDriver := range drivers {
		t.Run(name, func(t *testing.T) {
			root, r := t.TempDir(), newRemote()
			s := openOn(t, root, makeDriver(t, root))
			var i imagetest.Image
			for n := range 40 {
				i.Layers = append(i.Layers, imagetest.Layer(map[string]string{fmt.Sprint(n % 25): "x"}))
			}
			r.tags["latest"] = r.image(i)
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			if p, _, err := s.pull(ctx, t, "x", r, image.PullOptions{}); err != nil || p.ID != i.ID() {
				t.Fatalf("%+v, %v", p, err)
			}
		})
	}
}

// TestPullBoundsAttestations: what an index says of an image does not fill the
// engine's memory; what has room comes, once.
func TestPullBoundsAttestations(t *testing.T) {
	s, r := openSite(t, t.TempDir()), newRemote()
	m := r.image(simple())
	m.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	list := []ocispec.Descriptor{m}
	for a := range 3 {
		var doc ocispec.Manifest
		doc.MediaType, doc.Config = ocispec.MediaTypeImageManifest, r.put(ocispec.MediaTypeImageConfig, []byte("{}"))
		for n := range 10 {
			statement := bytes.Repeat([]byte{byte(a), byte(n)}, 3<<19)
			doc.Layers = append(doc.Layers, r.put("application/vnd.in-toto+json", statement))
		}
		d := r.put(doc.MediaType, imagetest.JSON(doc))
		d.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": m.Digest.String()}
		list = append(list, d, d)
	}
	r.tags["latest"] = r.index(list...)
	if _, _, err := s.pull(ctx, t, "x", r, image.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	statements := len(r.asked) - 1 - len(simple().Layers) - 2 // but for the image, and the attestations' configurations
	if statements != 20 {
		t.Errorf("%d statements were fetched, not 20: %q", statements, r.asked)
	}
}

// thousandfold puts indexes, each of which lists the next so many times; the last
// lists the manifest.
func (r *remote) thousandfold(depth, times int, m ocispec.Descriptor) (top ocispec.Descriptor) {
	for top = m; depth > 0; depth-- {
		top = r.index(slices.Repeat([]ocispec.Descriptor{top}, times)...)
	}
	return top
}

// TestRemovalBesideIndexesOfIndexes: an image is removed, also if the ways
// through the indexes beside it are without number.
func TestRemovalBesideIndexesOfIndexes(t *testing.T) {
	s, r := openSite(t, t.TempDir()), newRemote()
	other := imagetest.Image{Layers: [][]byte{imagetest.Layer(map[string]string{"other": "x"})}}
	m, way := r.image(simple()), r.thousandfold(3, 1000, r.image(other))
	r.tags["way"] = way
	amd := &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	last := r.index(m)
	last.Platform = amd
	r.tags["1"] = r.index(append(slices.Repeat([]ocispec.Descriptor{way}, 999), last)...)
	for _, tag := range []string{"way", "1"} {
		if _, _, err := s.pull(ctx, t, "host:5000/x:"+tag, r, image.PullOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() {
		_, err := s.images.Remove(ctx, "host:5000/x:way", image.RemoveOptions{Force: true})
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the removal does not end")
	}
}

// TestPullBesideAClientThatDoesNotRead: it holds up neither who wants the same
// nor who wants something else.
func TestPullBesideAClientThatDoesNotRead(t *testing.T) {
	s, r := openSite(t, t.TempDir()), newRemote()
	other := imagetest.Image{Layers: [][]byte{imagetest.Layer(map[string]string{"other": "x"})}}
	r.tags["1"], r.tags["2"] = r.image(large()), r.image(other)
	stopped, reads := make(chan struct{}), make(chan struct{})
	stop := sync.OnceFunc(func() { close(stopped) })
	first := make(chan error, 1)
	var heard []string
	go func() {
		_, err := s.images.Pull(ctx, named(t, "x:1"), r, image.PullOptions{Out: func(m jsonstream.Message) {
			if m.Status == "Waiting" || m.Status == "Downloading" {
				stop()
				<-reads
			}
			heard = append(heard, m.Status)
		}})
		first <- err
	}()
	<-stopped
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, tag := range []string{"1", "2"} {
		if _, _, err := s.pull(limited, t, "x:"+tag, r, image.PullOptions{}); err != nil {
			t.Errorf("%s: %v", tag, err)
		}
	}
	close(reads)
	if err := <-first; err != nil || !strings.HasPrefix(heard[len(heard)-1], "Status: ") || !slices.Contains(heard, "Pull complete") {
		t.Errorf("the first: %v, heard %q", err, heard)
	}
}
