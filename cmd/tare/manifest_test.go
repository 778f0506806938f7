package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/cmd/tare/manifestlist"
)

// amd64 is what an engine answers for h:5/a:1.
func amd64() api.RegistryManifest {
	raw := []byte(`{"schemaVersion":2,"config":{},"layers":[]}`)
	return api.RegistryManifest{Ref: "h:5/a:1", Raw: raw, Descriptor: ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw)), Platform: &ocispec.Platform{OS: "linux", Architecture: "amd64"},
	}}
}

// manifestLine runs a manifest command with a configuration directory that stays.
func manifestLine(t *testing.T, e *fakeEngine, dir string, args ...string) result {
	t.Helper()
	return tare(t, e.host, "", append([]string{"--config", dir, "manifest"}, args...)...)
}

func TestManifestNeedsTared(t *testing.T) {
	r := manifestLine(t, newFakeEngine(t), t.TempDir(), "inspect", "h:5/a:1")
	if r.code != 1 || r.out != "" || r.err != "the engine is no tared: it has no /tare/manifest\n" {
		t.Errorf("%+v", r)
	}
}

// TestManifestErrorsAreBare: docker's command line, which asks registries itself,
// says nothing of an engine.
func TestManifestErrorsAreBare(t *testing.T) {
	e := newFakeEngine(t)
	e.on("GET "+api.ManifestPath, func(w http.ResponseWriter, r *http.Request) {
		if q := r.URL.Query(); q.Get("ref") != "h:5/a:latest" || q.Get("insecure") != "1" || q.Get("platform") != "" {
			t.Errorf("%v", q)
		}
		refuse(w, http.StatusNotFound, "no such manifest: h:5/a:latest")
	})
	if r := manifestLine(t, e, t.TempDir(), "inspect", "--insecure", "h:5/a"); r.code != 1 || r.err != "no such manifest: h:5/a:latest\n" {
		t.Errorf("%+v", r)
	}
}

// TestManifestThatIsNotWhatItSays: an engine is not believed more than a file.
func TestManifestThatIsNotWhatItSays(t *testing.T) {
	e, dir := newFakeEngine(t), t.TempDir()
	for want, change := range map[string]func(m *api.RegistryManifest){
		"internal digest mismatch":   func(m *api.RegistryManifest) { m.Raw = append(m.Raw, ' ') },
		"invalid checksum digest":    func(m *api.RegistryManifest) { m.Descriptor.Digest = "sha256:../x" },
		"is none of an image's":      func(m *api.RegistryManifest) { m.Descriptor.MediaType = "text/html" },
		"h:5/a:1 is a manifest list": func(m *api.RegistryManifest) { m.Descriptor.MediaType = manifestlist.DockerList },
		"invalid character": func(m *api.RegistryManifest) {
			m.Raw = []byte("x")
			m.Descriptor.Digest = digest.FromString("x")
			m.Descriptor.Size = 1
		},
		"of the descriptor's media typ": func(m *api.RegistryManifest) { m.Raw = nil },
	} {
		m := amd64()
		change(&m)
		e.answer("GET "+api.ManifestPath, m)
		if r := manifestLine(t, e, dir, "create", "h:5/x:1", "h:5/a:1"); r.code != 1 || !strings.Contains(r.err, want) {
			t.Errorf("%+v, want %q", r, want)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// TestManifestPushKeepsWhatIsNotPushed: --purge is for the end.
func TestManifestPushKeepsWhatIsNotPushed(t *testing.T) {
	e, dir := newFakeEngine(t), t.TempDir()
	e.answer("GET "+api.ManifestPath, amd64())
	if r := manifestLine(t, e, dir, "create", "h:5/x:1", "h:5/a:1"); r.code != 0 || r.out != "Created manifest list h:5/x:1\n" {
		t.Fatalf("%+v", r)
	}
	kept := filepath.Join(dir, "manifests", "h-5_x-1")
	for answer, want := range map[string]result{
		`{"status":"Pushed ref \u001b[2J"}` + "\n" + `{"error":"lost","errorDetail":{"message":"lost"}}`: {"Pushed ref \\x1b[2J\n", "lost\n", 1},
		`{"status":"Pushed ref"`: {"", "unexpected EOF\n", 1},
	} {
		e.on("POST "+api.ManifestPath, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, answer) })
		if r := manifestLine(t, e, dir, "push", "-p", "h:5/x:1"); r != want {
			t.Errorf("%s: %+v, want %+v", answer, r, want)
		}
		if _, err := os.Stat(kept); err != nil {
			t.Error(err)
		}
	}
	e.on("POST "+api.ManifestPath, func(w http.ResponseWriter, r *http.Request) {
		var p api.ManifestPush
		err := json.NewDecoder(r.Body).Decode(&p)
		i := p.Index
		if err != nil || p.Insecure || i.Ref != "h:5/x:1" || i.Descriptor.MediaType != ocispec.MediaTypeImageIndex || digest.FromBytes(i.Raw) != i.Descriptor.Digest || len(i.Manifests) != 1 || string(i.Manifests[0].Raw) != string(amd64().Raw) {
			t.Errorf("%v: %+v", err, p)
		}
		io.WriteString(w, `{"status":"sha256:1"}`)
	})
	if r := manifestLine(t, e, dir, "push", "-p", "h:5/x:1"); r != (result{"sha256:1\n", "", 0}) {
		t.Errorf("%+v", r)
	}
	if _, err := os.Stat(kept); !os.IsNotExist(err) {
		t.Error(err)
	}
}
