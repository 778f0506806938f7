//go:build root

package script

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	godigest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/registry/registrytest"
)

// attackPatience is how long an engine may be kept busy by an attack.
const attackPatience = time.Minute

// TestHostileRegistries pulls through a running engine from registries that mean
// harm: each attack has the right end in time, leaves nothing, and the engine goes
// on.
func TestHostileRegistries(t *testing.T) {
	e := startTared(t)
	e.docker = filepath.Join(e.bin, "tare")
	e.load(t, "busybox.tar")
	for name, attack := range map[string]func(*testing.T, *engine){
		"credentials": testCredentialsGoNowhere, "foreign layers": testForeignLayers, "two documents at once": testTwoDocumentsAtOnce,
		"digests as paths": testDigestsAsPaths, "wrong bytes": testWrongBytes, "bombs": testPackedBombs, "huge documents": testHugeDocuments,
		"documents for a manifest list": testManifestsThatDeceive,
	} {
		t.Run(name, func(t *testing.T) { attack(t, e) })
	}
}

// repels pulls an image that must be refused in such words.
func (e *engine) repels(t *testing.T, image, want string) {
	t.Helper()
	before := e.files(t)
	out, err := e.pull(t, image)
	if err == nil || !regexp.MustCompile(want).MatchString(out) {
		t.Errorf("%s: %v: %.2000s, not %q", image, err, out, want)
	}
	e.goesOn(t)
	if diff := cmp.Diff(before, e.files(t)); diff != "" {
		t.Errorf("%s: -before +after:\n%s", image, diff)
	}
}

// pull pulls as a user with a password for all registries of the tests.
func (e *engine) pull(t *testing.T, image string) (string, error) {
	t.Helper()
	return e.asUser(t, t.TempDir(), image, "pull", image)
}

// asUser runs a command line with that password, for the registry of an image.
func (e *engine) asUser(t *testing.T, dir, image string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), attackPatience)
	defer cancel()
	host, _, _ := strings.Cut(image, "/")
	auth := base64.StdEncoding.EncodeToString([]byte(registrytest.Username + ":" + registrytest.Password))
	if err := os.WriteFile(dir+"/config.json", fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, host, auth), 0600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, e.docker, append([]string{"-H", "unix://" + e.socket}, args...)...)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+dir)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Errorf("%q: not done in %s", args, attackPatience)
	}
	return string(out), err
}

func (e *engine) goesOn(t *testing.T) {
	t.Helper()
	if got := e.output(t, "run", "--rm", "busybox", "echo", "goes on"); got != "goes on" {
		t.Errorf("the engine: %q", got)
	}
}

// files lists what the engine has of images.
func (e *engine) files(t *testing.T) []string {
	t.Helper()
	data := filepath.Dir(e.socket) + "/data"
	if err := waitEmpty(data + "/trash"); err != nil {
		t.Error(err)
	}
	all := []string{e.output(t, "images", "-a")}
	for _, dir := range []string{"/content", "/layers"} {
		err := filepath.WalkDir(data+dir, func(path string, _ fs.DirEntry, err error) error {
			all = append(all, path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// testCredentialsGoNowhere: a password is for the registry and the token server of
// its domain.
func testCredentialsGoNowhere(t *testing.T, e *engine) {
	evil := registrytest.NewWitness(t, "127.0.0.2:0", false, []byte(`{"token":"x"}`))
	r := registrytest.New(t, registrytest.Options{Auth: registrytest.Token, Realm: evil.URL + "/token"})
	r.Put("app", "1", registrytest.Image{})
	e.repels(t, r.Host+"/app:1", "not of its domain")
	if all := evil.Requests(); len(all) != 0 {
		t.Errorf("the token server elsewhere saw %+v", all)
	}

	for _, auth := range []registrytest.Auth{registrytest.Basic, registrytest.Token} {
		r := registrytest.New(t, registrytest.Options{Auth: auth})
		put := r.Put("app", "1", registrytest.Image{Seed: uint64(auth)})
		b, _ := r.Blob("app", put.Layers[0].Digest)
		storage := registrytest.NewWitness(t, "127.0.0.2:0", false, b)
		r.Fault(http.MethodGet, "/blobs/"+put.Layers[0].Digest.String(), registrytest.Always, registrytest.Redirect(storage.URL+"/store"))
		if out, err := e.pull(t, r.Host+"/app:1"); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		seen := storage.Requests()
		if len(seen) == 0 {
			t.Error("the redirect was not followed")
		}
		for _, q := range seen {
			if q.Header.Get("Authorization") != "" || strings.Contains(fmt.Sprintf("%+v", q), registrytest.Password) {
				t.Errorf("the storage of a redirect saw %+v", q)
			}
		}
		e.output(t, "rmi", r.Host+"/app:1")
	}
}

// testForeignLayers: addresses in a manifest are not asked.
func testForeignLayers(t *testing.T, e *engine) {
	inside := registrytest.NewWitness(t, "", false, []byte("secret"))
	r := registrytest.New(t, registrytest.Options{})
	put := r.Put("app", "1", registrytest.Image{Foreign: []string{inside.URL + "/layer"}})
	r.Fault(http.MethodGet, "/blobs/"+put.Layers[0].Digest.String(), registrytest.Always, registrytest.Status(http.StatusNotFound))
	e.repels(t, r.Host+"/app:1", "not found|404|unknown")
	if all := inside.Requests(); len(all) != 0 {
		t.Errorf("the address in the manifest saw %+v", all)
	}
}

func testTwoDocumentsAtOnce(t *testing.T, e *engine) {
	r := registrytest.New(t, registrytest.Options{})
	put := r.Put("app", "good", registrytest.Image{})
	for tag, media := range map[string]string{"manifest": ocispec.MediaTypeImageManifest, "index": ocispec.MediaTypeImageIndex} {
		r.PutRaw("app", tag, media, registrytest.Both(put, media))
		e.repels(t, r.Host+"/app:"+tag, "a manifest and an index at once")
	}
}

// testDigestsAsPaths: a digest that leads out of the store is none.
func testDigestsAsPaths(t *testing.T, e *engine) {
	r := registrytest.New(t, registrytest.Options{})
	put := r.Put("app", "good", registrytest.Image{})
	for i, bad := range []string{"sha256:../../../../../../tmp/canary", "sha256:" + strings.Repeat("../", 21) + "x", "../canary", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:"} {
		for where, doc := range map[string]string{
			"layer":  fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[{"mediaType":%q,"digest":%q,"size":10}]}`, ocispec.MediaTypeImageConfig, put.Config.Digest, put.Config.Size, ocispec.MediaTypeImageLayer, bad),
			"config": fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":%q,"digest":%q,"size":10},"layers":[]}`, ocispec.MediaTypeImageConfig, bad),
		} {
			tag := fmt.Sprint(where, i)
			r.PutRaw("app", tag, ocispec.MediaTypeImageManifest, []byte(doc))
			e.repels(t, r.Host+"/app:"+tag, "digest")
		}
		tag := fmt.Sprint("index", i)
		r.PutRaw("app", tag, ocispec.MediaTypeImageIndex, fmt.Appendf(nil, `{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":10,"platform":{"os":"linux","architecture":"amd64"}}]}`, ocispec.MediaTypeImageManifest, bad))
		e.repels(t, r.Host+"/app:"+tag, "digest")
	}
	if all := r.Requests(http.MethodGet, "canary"); len(all) != 0 {
		t.Errorf("the registry was asked for %+v", all)
	}
}

// testWrongBytes: what is not what its digest says is not kept.
func testWrongBytes(t *testing.T, e *engine) {
	for i, fault := range []registrytest.Fault{registrytest.Flip, registrytest.Lengthen(10), registrytest.Shorten(10)} {
		r := registrytest.New(t, registrytest.Options{})
		put := r.Put("app", "1", registrytest.Image{Seed: 100 + uint64(i)})
		r.Fault(http.MethodGet, "/blobs/"+put.Layers[0].Digest.String(), registrytest.Always, fault)
		e.repels(t, r.Host+"/app:1", "filesystem layer verification failed for digest|bytes")
	}
	r := registrytest.New(t, registrytest.Options{})
	put := r.Put("app", "good", registrytest.Image{})
	r.PutManifest("app", "diff", imageOf(r, put.Layers[0], godigest.FromString("another layer")))
	e.repels(t, r.Host+"/app:diff", "invalid diffID")
	other := put.Layers[0]
	other.Size++
	r.PutRaw("app", "size", ocispec.MediaTypeImageManifest, marshal(t, imageOf(r, other, put.DiffIDs[0])))
	e.repels(t, r.Host+"/app:size", "bytes|size|EOF|range")
}

// testPackedBombs: what grows without end is stopped.
func testPackedBombs(t *testing.T, e *engine) {
	r := registrytest.New(t, registrytest.Options{})
	zeros := godigest.FromString("zeros")
	r.PutManifest("app", "zeros", imageOf(r, r.PutBlob("app", ocispec.MediaTypeImageLayerGzip, bomb(t, nil, 2<<30)), zeros))
	var head bytes.Buffer
	if err := tar.NewWriter(&head).WriteHeader(&tar.Header{Name: "file", Mode: 0600, Size: 2 << 30}); err != nil {
		t.Fatal(err)
	}
	r.PutManifest("app", "file", imageOf(r, r.PutBlob("app", ocispec.MediaTypeImageLayerGzip, bomb(t, head.Bytes(), 2<<30)), zeros))
	for _, tag := range []string{"zeros", "file"} {
		e.repels(t, r.Host+"/app:"+tag, "more than 200 times larger than packed")
	}
}

// bomb packs so many zeros behind a beginning.
func bomb(t *testing.T, head []byte, n int64) []byte {
	t.Helper()
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(head); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(w, zeroReader{}, n); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

type zeroReader struct{}

func (zeroReader) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// testHugeDocuments: many layers, lists in lists, and more bytes than a document
// may have.
func testHugeDocuments(t *testing.T, e *engine) {
	r := registrytest.New(t, registrytest.Options{})
	put := r.Put("app", "good", registrytest.Image{})
	r.PutRaw("app", "layers", ocispec.MediaTypeImageManifest, registrytest.ManyLayers(put, 20_000))
	r.PutRaw("app", "more", ocispec.MediaTypeImageManifest, registrytest.ManyLayers(put, 60_000))
	r.PutRaw("app", "deep", ocispec.MediaTypeImageManifest, registrytest.Deep(put, 1_000_000))
	r.PutRaw("app", "null", ocispec.MediaTypeImageManifest, []byte("null"))
	r.PutRaw("app", "nulls", ocispec.MediaTypeImageManifest, []byte(`{"schemaVersion":2,"config":null,"layers":null}`))
	for tag, want := range map[string]string{"layers": "max depth exceeded", "more": "bytes", "deep": "levels", "null": "no object", "nulls": "."} {
		e.repels(t, r.Host+"/app:"+tag, want)
	}
}

// testManifestsThatDeceive: what a registry says of a manifest gets into no manifest
// list unless it is true, and its users' password not to others, with --insecure
// either.
func testManifestsThatDeceive(t *testing.T, e *engine) {
	r := registrytest.New(t, registrytest.Options{})
	put := r.Put("app", "good", registrytest.Image{})
	refused := func(ref, want string) {
		t.Helper()
		before := e.files(t)
		for _, args := range [][]string{{"inspect"}, {"inspect", "-v"}, {"create", r.Host + "/app:list"}} {
			dir := t.TempDir()
			out, err := e.asUser(t, dir, ref, append(append([]string{"manifest"}, args...), "--insecure", ref)...)
			if err == nil || !regexp.MustCompile(want).MatchString(out) {
				t.Errorf("manifest %s %s: %v: %.2000s, not %q", args[0], ref, err, out, want)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
				t.Errorf("manifest %s %s: left behind: %v, %v", args[0], ref, left, err)
			}
		}
		e.goesOn(t)
		if diff := cmp.Diff(before, e.files(t)); diff != "" {
			t.Errorf("%s: -before +after:\n%s", ref, diff)
		}
	}
	for want, fault := range map[string]registrytest.Fault{
		"manifest verification failed for digest": registrytest.Flip,
		"its media type is":                       registrytest.As(ocispec.MediaTypeImageIndex),
		"unsupported manifest media type":         registrytest.As("application/octet-stream"),
		"at most [0-9]+ are possible":             registrytest.Lengthen(8 << 20),
		"more (bytes )?than":                      registrytest.Unsized(64 << 20),
	} {
		r.Fault(http.MethodGet, "/manifests/", registrytest.Always, fault)
		refused(r.Host+"/app@"+put.Manifest.Digest.String(), want)
		r.Heal()
	}
	for tag, media := range map[string]string{"manifest": ocispec.MediaTypeImageManifest, "index": ocispec.MediaTypeImageIndex} {
		r.PutRaw("app", tag, media, registrytest.Both(put, media))
		refused(r.Host+"/app:"+tag, "a manifest and an index at once")
	}
	r.PutRaw("app", "deep", ocispec.MediaTypeImageManifest, registrytest.Deep(put, 1_000_000))
	refused(r.Host+"/app:deep", "levels")

	evil := registrytest.NewWitness(t, "127.0.0.2:0", false, []byte(`{"token":"x"}`))
	r = registrytest.New(t, registrytest.Options{Auth: registrytest.Token, Realm: evil.URL + "/token"})
	refused(r.Host+"/app:1", "not of its domain")
	if all := evil.Requests(); len(all) != 0 {
		t.Errorf("the token server elsewhere saw %+v", all)
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// imageOf is the manifest of an image of one layer.
func imageOf(r *registrytest.Registry, layer ocispec.Descriptor, diff godigest.Digest) ocispec.Manifest {
	config := fmt.Appendf(nil, `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[%q]}}`, diff)
	return ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: r.PutBlob("app", ocispec.MediaTypeImageConfig, config), Layers: []ocispec.Descriptor{layer},
	}
}
