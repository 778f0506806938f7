package engine

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/registry"
	"github.com/tare-engine/tare/internal/registry/registrytest"
)

func newDistribution(t *testing.T) *Distribution {
	t.Helper()
	c, err := registry.New(registry.Config{Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &Distribution{registries: c}
}

// guestOf is a manifest as a client has read it.
func guestOf(t *testing.T, d *Distribution, ref string) api.RegistryManifest {
	t.Helper()
	m, err := d.RegistryManifest(t.Context(), api.ManifestOptions{Ref: ref, Platform: true})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// indexOf makes a push of manifests.
func indexOf(ref string, list ...api.RegistryManifest) api.ManifestPush {
	doc := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	doc.SchemaVersion = 2
	for _, m := range list {
		doc.Manifests = append(doc.Manifests, m.Descriptor)
	}
	raw, _ := json.Marshal(doc)
	return api.ManifestPush{Index: api.RegistryManifest{Ref: ref, Raw: raw, Manifests: list,
		Descriptor: ocispec.Descriptor{MediaType: doc.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}}}
}

func push(t *testing.T, d *Distribution, p api.ManifestPush) (lines []string, err error) {
	t.Helper()
	err = d.ManifestPush(t.Context(), p, nil, func(m jsonstream.Message) { lines = append(lines, m.Status) })
	return lines, err
}

func TestManifestPushMountsWhatIsElsewhere(t *testing.T) {
	for _, docker := range []bool{false, true} {
		r := registrytest.New(t, registrytest.Options{})
		r.Put("a", "1", registrytest.Image{Docker: docker, Seed: 1, Layers: 2})
		r.Put("team/b", "1", registrytest.Image{Docker: docker, Seed: 2})
		r.Put("to", "old", registrytest.Image{Docker: docker, Seed: 3})
		d := newDistribution(t)
		a, b, c := guestOf(t, d, r.Host+"/a:1"), guestOf(t, d, r.Host+"/team/b:1"), guestOf(t, d, r.Host+"/to:old")
		p := indexOf(r.Host+"/to:new", a, b, c)
		r.Forget()
		lines, err := push(t, d, p)
		want := []string{
			fmt.Sprintf("Pushed ref %s/to@%s with digest: %[2]s", r.Host, a.Descriptor.Digest),
			fmt.Sprintf("Pushed ref %s/to@%s with digest: %[2]s", r.Host, b.Descriptor.Digest),
			p.Index.Descriptor.Digest.String(),
		}
		if err != nil || !slices.Equal(lines, want) {
			t.Errorf("%v: %q, want %q", err, lines, want)
		}
		if n := len(r.Requests(http.MethodPatch, "")); n != 0 {
			t.Errorf("%d blobs were sent", n)
		}
		puts := r.Requests(http.MethodPut, "/manifests/")
		if len(puts) != 3 || !strings.HasSuffix(puts[2].Path, "/to/manifests/new") {
			t.Errorf("the index is not the last of %+v", puts)
		}
		got, err := d.RegistryManifest(t.Context(), api.ManifestOptions{Ref: r.Host + "/to:new", Members: true})
		if err != nil || got.Descriptor.Digest != p.Index.Descriptor.Digest || len(got.Manifests) != 3 {
			t.Errorf("%+v, %v", got, err)
		}
		for i, m := range got.Manifests {
			if string(m.Raw) != string(p.Index.Manifests[i].Raw) || m.Descriptor.Platform == nil || m.Ref != r.Host+"/to:new@"+m.Descriptor.Digest.String() {
				t.Errorf("%+v", m)
			}
		}
	}
}

// TestManifestPushIsWhole: what cannot be done to its end has no index.
func TestManifestPushIsWhole(t *testing.T) {
	for _, tc := range []struct {
		method, path string
		fault        registrytest.Fault
		want         string
	}{
		{http.MethodPost, "/blobs/uploads/", registrytest.Status(http.StatusAccepted), "error mounting a@sha256:"},
		{http.MethodPost, "/blobs/uploads/", registrytest.Deny(http.StatusForbidden, "DENIED", "no"), "error mounting a@sha256:"},
		{http.MethodHead, "/blobs/", registrytest.Deny(http.StatusForbidden, "DENIED", "no"), ""}, // it was mounted
		{http.MethodPut, "/manifests/sha256:", registrytest.Deny(http.StatusBadRequest, "MANIFEST_INVALID", "odd"), "failed to put manifest HOST/to@sha256:"},
		{http.MethodPut, "/manifests/new", registrytest.Deny(http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", "lost"), "failed to put manifest HOST/to:new: manifest blob unknown: lost"},
	} {
		r := registrytest.New(t, registrytest.Options{})
		r.Put("a", "1", registrytest.Image{})
		d := newDistribution(t)
		p := indexOf(r.Host+"/to:new", guestOf(t, d, r.Host+"/a:1"))
		r.Fault(tc.method, tc.path, registrytest.Always, tc.fault)
		_, err := push(t, d, p)
		want := strings.ReplaceAll(tc.want, "HOST", r.Host)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s %s: %v, want %q", tc.method, tc.path, err, want)
		}
		if err == nil {
			continue
		}
		r.Heal()
		if _, err := d.RegistryManifest(t.Context(), api.ManifestOptions{Ref: r.Host + "/to:new"}); !errdefs.Is(err, errdefs.NotFound) || err.Error() != "no such manifest: "+r.Host+"/to:new" {
			t.Errorf("%s %s: the index is there: %v", tc.method, tc.path, err)
		}
	}
}

// TestManifestPushRefuses what does not fit, before it asks anybody.
func TestManifestPushRefuses(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	put := r.Put("a", "1", registrytest.Image{})
	d := newDistribution(t)
	m := guestOf(t, d, r.Host+"/a:1")
	good := func() api.ManifestPush { return indexOf(r.Host+"/to:new", m) }
	raw := func(p *api.ManifestPush, mediaType string, b []byte) {
		p.Index.Raw = b
		p.Index.Descriptor = ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	}
	entries := func(n int, e string) []byte {
		return []byte(`{"schemaVersion":2,"manifests":[` + strings.TrimSuffix(strings.Repeat(e+",", n), ",") + `]}`)
	}
	for name, tc := range map[string]struct {
		change func(p *api.ManifestPush)
		want   string
	}{
		"reference":          {func(p *api.ManifestPush) { p.Index.Ref = "A" }, "invalid reference format"},
		"source":             {func(p *api.ManifestPush) { p.Index.Manifests[0].Ref = "../x" }, "invalid reference format"},
		"registry":           {func(p *api.ManifestPush) { p.Index.Manifests[0].Ref = "x" }, "cannot use source images from a different registry than the target image: docker.io != " + r.Host},
		"media type":         {func(p *api.ManifestPush) { p.Index.Descriptor.MediaType = ocispec.MediaTypeImageManifest }, "which is none of an index"},
		"digest":             {func(p *api.ManifestPush) { p.Index.Raw = append(p.Index.Raw, ' ') }, "internal digest mismatch for " + r.Host + "/to:new: expected sha256:"},
		"no digest":          {func(p *api.ManifestPush) { p.Index.Descriptor.Digest = "sha256:../x" }, "digest parse of image"},
		"digest of a member": {func(p *api.ManifestPush) { p.Index.Manifests[0].Raw = []byte("{}") }, "internal digest mismatch for " + r.Host + "/a:1"},
		"not in the index":   {func(p *api.ManifestPush) { p.Index.Manifests[0].Descriptor.Digest = digest.FromString("x") }, "is not in the index"},
		"two documents": {func(p *api.ManifestPush) {
			raw(p, ocispec.MediaTypeImageIndex, registrytest.Both(put, ocispec.MediaTypeImageIndex))
		}, "a manifest and an index at once"},
		"deep":  {func(p *api.ManifestPush) { raw(p, ocispec.MediaTypeImageIndex, registrytest.Deep(put, 100)) }, "levels"},
		"large": {func(p *api.ManifestPush) { raw(p, ocispec.MediaTypeImageIndex, make([]byte, registry.MaxManifest+1)) }, "at most"},
		"empty": {func(p *api.ManifestPush) { raw(p, ocispec.MediaTypeImageIndex, entries(0, "")) }, "has no manifests"},
		"many":  {func(p *api.ManifestPush) { raw(p, ocispec.MediaTypeImageIndex, entries(maxMembers+1, "{}")) }, "at most 1000"},
		"nested": {func(p *api.ManifestPush) {
			raw(p, ocispec.MediaTypeImageIndex, entries(1, entry(ocispec.MediaTypeImageIndex, m.Descriptor.Digest, 1)))
		}, "no manifest of an image"},
		"path": {func(p *api.ManifestPush) {
			raw(p, ocispec.MediaTypeImageIndex, entries(1, entry(ocispec.MediaTypeImageManifest, "sha256:../../x", 1)))
		}, "invalid checksum digest"},
		"negative": {func(p *api.ManifestPush) {
			raw(p, ocispec.MediaTypeImageIndex, entries(1, entry(ocispec.MediaTypeImageManifest, m.Descriptor.Digest, -1)))
		}, "below zero"},
		"blob's digest": {func(p *api.ManifestPush) { *p = indexOf(r.Host+"/to:new", memberWith(r.Host+"/a:1", "sha256:../x")) }, "has a blob with the digest"},
	} {
		p := good()
		tc.change(&p)
		r.Forget()
		_, err := push(t, d, p)
		if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodPost} {
			if all := r.Requests(method, ""); len(all) != 0 {
				t.Errorf("%s: the registry was asked: %+v", name, all)
			}
		}
	}
}

func entry(mediaType string, d digest.Digest, size int) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, d, size)
}

// memberWith is a manifest with a layer.
func memberWith(ref, layer string) api.RegistryManifest {
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"config":{"digest":%q},"layers":[{"digest":%q}]}`, digest.FromString("c"), layer)
	return api.RegistryManifest{Ref: ref, Raw: raw, Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw))}}
}

// TestMembersOfAHostileIndex: an index may say what it wants of its manifests.
func TestMembersOfAHostileIndex(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	put := r.Put("a", "good", registrytest.Image{})
	d := newDistribution(t)
	m := put.Manifest
	for name, tc := range map[string]struct{ entries, want string }{
		"digest":     {entry(m.MediaType, digest.FromString("x"), int(m.Size)), "no such manifest: " + r.Host + "/a:digest@sha256:"},
		"size":       {entry(m.MediaType, m.Digest, int(m.Size)+1), "bytes"},
		"media type": {entry(registrytest.DockerManifest, m.Digest, int(m.Size)), "no such manifest: "}, // of that type
		"list":       {entry(ocispec.MediaTypeImageIndex, m.Digest, int(m.Size)), "no manifest of an image"},
		"total":      {strings.TrimSuffix(strings.Repeat(entry(m.MediaType, m.Digest, registry.MaxManifest)+",", 5), ","), "bytes"},
		"path":       {entry(m.MediaType, "sha256:../../x", int(m.Size)), "digest"},
		"many":       {strings.Repeat(entry(m.MediaType, m.Digest, 1)+",", maxMembers) + entry(m.MediaType, m.Digest, 1), "at most 1000"},
	} {
		tag := strings.ReplaceAll(name, " ", "-")
		r.PutRaw("a", tag, ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[`+tc.entries+`]}`))
		got, err := d.RegistryManifest(t.Context(), api.ManifestOptions{Ref: r.Host + "/a:" + tag, Members: true})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %d manifests, %v; want %q", name, len(got.Manifests), err, tc.want)
		}
	}
	r.Fault(http.MethodGet, "/blobs/"+put.Config.Digest.String(), registrytest.Always, registrytest.Flip)
	if _, err := d.RegistryManifest(t.Context(), api.ManifestOptions{Ref: r.Host + "/a:good", Platform: true}); err == nil || !strings.Contains(err.Error(), "verification failed") {
		t.Error(err)
	}
}
