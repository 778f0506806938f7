//go:build root

package image_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/registry"
	"github.com/tare-engine/tare/internal/registry/registrytest"
)

// hasty is for registries that do not answer. A client of those that do must not
// have it: this machine may be slow.
const hasty = 300 * time.Millisecond

// waiting is a client that waits so long for a registry to go on.
func waiting(t testing.TB, stall time.Duration) *registry.Client {
	t.Helper()
	c, err := registry.New(registry.Config{Stall: stall, Attempts: 3, Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// afterPull pulls and returns the error and what is kept beside partial blobs.
func afterPull(t testing.TB, c *registry.Client, r *registrytest.Registry, tag string) (err error, kept []string) {
	t.Helper()
	s, ref := openSite(t, t.TempDir()), named(t, r.Host+"/app:"+tag)
	_, err = s.images.Pull(ctx, ref, c.Repository(ref, nil), image.PullOptions{})
	for _, k := range s.store(t) {
		if !strings.Contains(k, "/partial/") {
			kept = append(kept, k)
		}
	}
	return err, kept
}

// TestPullFromSickRegistries has each fault end as it should: what passes is
// taken up again, what is wrong is refused, and nothing of it is visible.
func TestPullFromSickRegistries(t *testing.T) {
	const wrong = "filesystem layer verification failed"
	for name, f := range map[string]struct {
		times int
		do    registrytest.Fault
		want  string // of the error; empty: the image comes
	}{
		"stall":          {1, registrytest.Stall(5000), ""},
		"hang":           {1, registrytest.Hang, ""},
		"cut":            {2, registrytest.Cut(5000), ""},
		"cut at once":    {2, registrytest.Cut(0), ""},
		"500":            {2, registrytest.Status(500), ""},
		"429":            {2, registrytest.TooMany("0"), ""},
		"500 for ever":   {registrytest.Always, registrytest.Status(500), "500"},
		"flipped byte":   {registrytest.Always, registrytest.Flip, wrong},
		"longer":         {registrytest.Always, registrytest.Lengthen(3), "bytes"},
		"shorter":        {registrytest.Always, registrytest.Shorten(3), "bytes"},
		"stall for ever": {registrytest.Always, registrytest.Stall(0), "sends no more data"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := registrytest.New(t, registrytest.Options{})
			put := r.Put("app", "1", registrytest.Image{Layers: 2})
			r.Fault(http.MethodGet, "/blobs/"+put.Layers[1].Digest.String(), f.times, f.do)
			stall := time.Minute
			if name == "hang" || strings.HasPrefix(name, "stall") {
				stall = hasty
			}
			err, kept := afterPull(t, waiting(t, stall), r, "1")
			switch {
			case f.want == "" && (err != nil || len(kept) == 0):
				t.Errorf("%v, kept %q", err, kept)
			case f.want != "" && (err == nil || !strings.Contains(err.Error(), f.want) || len(kept) > 0):
				t.Errorf("%v, not %q; kept %q", err, f.want, kept)
			}
		})
	}
}

// TestPullOfHostileImages pulls documents and layers that are made to do harm.
func TestPullOfHostileImages(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	put := r.Put("app", "good", registrytest.Image{})
	manifest := func(layer ocispec.Descriptor, diff digest.Digest) any {
		config := r.PutBlob("app", ocispec.MediaTypeImageConfig, []byte(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["`+string(diff)+`"]}}`))
		return ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{layer}}
	}
	r.PutRaw("app", "both", ocispec.MediaTypeImageManifest, registrytest.Both(put, ocispec.MediaTypeImageManifest))
	r.PutRaw("app", "deep", ocispec.MediaTypeImageManifest, registrytest.Deep(put, 100_000))
	r.PutRaw("app", "many", ocispec.MediaTypeImageManifest, registrytest.ManyLayers(put, 20_000))
	r.PutManifest("app", "bomb", manifest(r.PutBomb("app", 1<<30), digest.FromString("zeros")))
	r.PutManifest("app", "lie", manifest(put.Layers[0], digest.FromString("another layer")))
	r.PutManifest("app", "no-archive", manifest(r.PutBlob("app", ocispec.MediaTypeImageLayer, []byte("no archive")), digest.FromString("no archive")))
	for tag, want := range map[string]string{
		"both": "at once", "deep": "levels", "many": "max depth exceeded", "bomb": "200 times larger", "lie": "invalid diffID", "no-archive": "unpack layer",
	} {
		t.Run(tag, func(t *testing.T) {
			t.Parallel()
			if err, kept := afterPull(t, waiting(t, time.Minute), r, tag); err == nil || !strings.Contains(err.Error(), want) || len(kept) > 0 {
				t.Errorf("%.300v, not %q; kept %q", err, want, kept)
			}
		})
	}
}
