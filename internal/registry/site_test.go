package registry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/registry/registrytest"
)

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0600); err != nil {
		t.Fatal(err)
	}
}

func TestCertificates(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{TLS: true})
	put := r.Put("app", "v1", registrytest.Image{})
	proxy := registrytest.NewProxy(t, map[string]string{"registry.example.com:443": r.Host, "registry.example.com:5000": r.Host, "registry.elsewhere.test:443": r.Host})
	root := t.TempDir()
	c := newClient(t, Config{Proxy: proxy.Use, CertsDirs: []string{filepath.Join(root, "none"), root}})
	resolve := func(host string) error {
		d, err := c.Repository(named(t, host+"/app"), nil).Resolve(t.Context(), "v1")
		if err == nil && d.Digest != put.Top.Digest {
			t.Errorf("%s: %s", host, d.Digest)
		}
		return err
	}
	err := resolve("registry.example.com")
	if err == nil || !strings.Contains(err.Error(), `Get "https://registry.example.com/v2/": tls: failed to verify certificate: x509: certificate signed by unknown authority`) {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "registry.example.com", "x"), "")
	registrytest.WriteCertificate(t, filepath.Join(root, "registry.example.com", "ca.crt"), r.Certificate())
	if err := resolve("registry.example.com"); err != nil {
		t.Fatalf("after the file came: %v", err)
	}
	if err := resolve("registry.example.com:5000"); err == nil {
		t.Fatal("a certificate of another port is trusted")
	}
	write(t, filepath.Join(root, "registry.example.com:5000", "hosts.toml"), "server = \"https://registry.example.com:5000\"\nca = \"../registry.example.com/ca.crt\"\n")
	if err := resolve("registry.example.com:5000"); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "registry.elsewhere.test", "hosts.toml"), "server = \"https://registry.elsewhere.test\"\nskip_verify = true\n")
	if err := resolve("registry.elsewhere.test"); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "registry.elsewhere.test", "hosts.toml"), "server = [\n")
	if err := resolve("registry.elsewhere.test"); !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), "hosts.toml") {
		t.Fatal(err)
	}
}

func TestHostsFileMirror(t *testing.T) {
	mirror := registrytest.New(t, registrytest.Options{TLS: true})
	r := registrytest.New(t, registrytest.Options{TLS: true, Auth: registrytest.Basic})
	put := r.Put("app", "v1", registrytest.Image{})
	mirror.Put("app", "v1", registrytest.Image{})
	root := t.TempDir()
	write(t, filepath.Join(root, r.Host, "hosts.toml"), fmt.Sprintf("server = \"https://%s\"\n[host.\"https://%s\"]\ncapabilities = [\"pull\", \"resolve\"]\n[host.\"https://%s\".header]\nX-Who = \"us\"\n", r.Host, mirror.Host, mirror.Host))
	repo := newClient(t, Config{CertsDirs: []string{root}}).Repository(named(t, r.Host+"/app"), alice)
	if err := fetch(t.Context(), repo, put.Layers[0]); err != nil {
		t.Fatal(err)
	}
	all := mirror.Requests(http.MethodGet, "/blobs/")
	if len(all) != 1 || all[0].Header.Get("X-Who") != "us" || all[0].Header.Get("Authorization") != "" {
		t.Fatalf("%+v", all)
	}
	if n := len(r.Requests(http.MethodGet, "")); n != 0 {
		t.Fatalf("the registry had %d requests", n)
	}
}

func TestMirrorsFallBack(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fault registrytest.Fault
	}{
		{"500", registrytest.Status(500)},
		{"404", registrytest.Status(404)},
		{"hang", registrytest.Hang},
		{"cut", registrytest.Cut(0)},
		{"denied", registrytest.Status(403)},
		{"html", registrytest.As("text/html")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mirror := registrytest.New(t, registrytest.Options{})
			r := registrytest.New(t, registrytest.Options{})
			for _, x := range []*registrytest.Registry{mirror, r} {
				x.Put("app", "v1", registrytest.Image{})
			}
			mirror.Fault(http.MethodGet, "/app/", registrytest.Always, tc.fault)
			mirror.Fault(http.MethodHead, "/app/", registrytest.Always, tc.fault)
			c := newClient(t, Config{Stall: patience(tc.name), Mirrors: map[string][]string{r.Host: {"http://127.0.0.1:1", mirror.URL}}})
			repo := c.Repository(named(t, r.Host+"/app"), nil)
			d, err := repo.Resolve(t.Context(), "v1")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := repo.Manifest(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			if _, err := repo.Tags(t.Context()); err != nil && tc.name != "html" {
				t.Fatal(err)
			}
			if tc.name != "html" { // which is a blob like any other
				if err := fetch(t.Context(), repo, r.Put("app", "v1", registrytest.Image{}).Layers[0]); err != nil {
					t.Fatal(err)
				}
			}
			n := len(mirror.Requests(http.MethodGet, "/app/")) + len(mirror.Requests(http.MethodHead, "/app/"))
			if broken := tc.name == "500" || tc.name == "hang"; n == 0 || broken && n != 1 {
				t.Fatalf("the mirror was asked %d times", n)
			}
		})
	}
}

// TestHostsFileReplacesTheRegistry: the only place there is keeps being asked,
// without credentials.
func TestHostsFileReplacesTheRegistry(t *testing.T) {
	other := registrytest.New(t, registrytest.Options{})
	put := other.Put("app", "v1", registrytest.Image{})
	root := t.TempDir()
	write(t, filepath.Join(root, "registry.example.com", "hosts.toml"), fmt.Sprintf("server = \"http://%s\"\n", other.Host))
	repo := newClient(t, Config{CertsDirs: []string{root}}).Repository(named(t, "registry.example.com/app"), alice)
	other.Fault(http.MethodHead, "/manifests/", 3, registrytest.Status(500))
	if d, err := repo.Resolve(t.Context(), "v1"); err != nil || d.Digest != put.Top.Digest {
		t.Fatal(err)
	}
	other.Fault(http.MethodHead, "/manifests/", registrytest.Always, registrytest.Status(500))
	for range 2 {
		if _, err := repo.Resolve(t.Context(), "v1"); err == nil {
			t.Fatal("no error")
		}
	}
	spotless(t, "the other host", other.Requests(http.MethodHead, ""))
}

func TestMirrorSpares(t *testing.T) {
	mirror := registrytest.New(t, registrytest.Options{})
	put := mirror.Put("library/app", "v1", registrytest.Image{})
	c := newClient(t, Config{Mirrors: map[string][]string{"docker.io": {mirror.URL}}})
	repo := c.Repository(named(t, "app"), nil)
	d, err := repo.Resolve(t.Context(), "v1")
	if err != nil || d.Digest != put.Top.Digest {
		t.Fatal(err)
	}
	if err := fetch(t.Context(), repo, put.Layers[0]); err != nil {
		t.Fatal(err)
	}
}

func TestMirrorWithWrongBytes(t *testing.T) {
	mirror := registrytest.New(t, registrytest.Options{})
	r := registrytest.New(t, registrytest.Options{})
	l := r.Put("app", "v1", registrytest.Image{}).Layers[0]
	mirror.Put("app", "v1", registrytest.Image{})
	mirror.Fault(http.MethodGet, "/blobs/", registrytest.Always, registrytest.Flip)
	repo := newClient(t, Config{Mirrors: map[string][]string{r.Host: {mirror.URL}}}).Repository(named(t, r.Host+"/app"), nil)
	if err := fetch(t.Context(), repo, l); err == nil {
		t.Fatal("no error")
	}
	if !repo.WithoutMirrors() || repo.WithoutMirrors() {
		t.Fatal("there was one mirror")
	}
	if err := fetch(t.Context(), repo, l); err != nil {
		t.Fatal(err)
	}
}

func TestMirrorIsNotPushedTo(t *testing.T) {
	mirror := registrytest.New(t, registrytest.Options{})
	r := registrytest.New(t, registrytest.Options{})
	c := newClient(t, Config{Mirrors: map[string][]string{r.Host: {mirror.URL}}})
	b := []byte("x")
	if err := c.Repository(named(t, r.Host+"/app"), nil).PushBlob(t.Context(), blobOf(b), opener(b), nil); err != nil {
		t.Fatal(err)
	}
	if n := len(mirror.Requests(http.MethodPost, "")); n != 0 {
		t.Fatal(n)
	}
}

func TestPlainHTTPOnlyWhereAllowed(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{Auth: registrytest.Basic})
	r.Put("app", "v1", registrytest.Image{})
	proxy := registrytest.NewProxy(t, map[string]string{"registry.example.com:443": r.Host, "registry.example.com": r.Host})
	resolve := func(insecure ...string) error {
		c := newClient(t, Config{Proxy: proxy.Use, Insecure: insecure})
		_, err := c.Repository(named(t, "registry.example.com/app"), alice).Resolve(t.Context(), "v1")
		return err
	}
	if err := resolve(); err == nil || !strings.Contains(err.Error(), "http: server gave HTTP response to HTTPS client") {
		t.Fatal(err)
	}
	spotless(t, "the wire", r.Requests(http.MethodGet, ""))
	if err := resolve("registry.example.com"); err != nil {
		t.Fatal(err)
	}

	c := newClient(t, Config{})
	sites, err := c.sitesOf(t.Context(), r.Host)
	if err != nil {
		t.Fatal(err)
	}
	sites[0].plain = false // as if it were not on loopback
	r.Forget()
	_, err = c.Repository(named(t, r.Host+"/app"), alice).Resolve(t.Context(), "v1")
	if err == nil || err.Error() != `Get "https://`+r.Host+`/v2/": http: server gave HTTP response to HTTPS client` {
		t.Fatal(err)
	}
	if all := r.Requests(http.MethodGet, ""); len(all) != 0 {
		t.Fatalf("%+v", all)
	}
}

func TestInsecure(t *testing.T) {
	i, err := parseInsecure([]string{"plain.test", "port.test:5000", "10.1.0.0/16", "http://url.test", "[fd00::1]:5000"})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"plain.test": true, "plain.test:80": true, "PLAIN.test": true, "port.test:5000": true, "port.test": false, "port.test:5001": false,
		"10.1.2.3": true, "10.1.2.3:5000": true, "10.2.0.1": false, "url.test": true, "localhost:5000": true, "127.9.9.9": true,
		"[::1]:5000": true, "[fd00::1]:5000": true, "[fd00::1]": false, "other.invalid": false, "localhost.evil.invalid": false,
	} {
		if i.has(t.Context(), host) != want {
			t.Errorf("%s: not %v", host, want)
		}
	}
	for _, bad := range []string{"", "a/b", "-x", "a b", "10.0.0.0/99", "user@host"} {
		if _, err := parseInsecure([]string{bad}); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestBadMirrors(t *testing.T) {
	for _, bad := range []string{"", "mirror.test", "ftp://mirror.test", "https://", "https://m.test/?a=b", "https://m.test/#x", "https://u:p@m.test/", "://"} {
		if _, err := New(Config{Mirrors: map[string][]string{"docker.io": {bad}}}); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestUnreachable(t *testing.T) {
	c := newClient(t, Config{})
	_, err := c.Repository(named(t, "127.0.0.1:1/app"), nil).Resolve(t.Context(), "v1")
	if err == nil || err.Error() != `Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused` {
		t.Fatal(err)
	}
}

func TestNotFound(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	r.Put("app", "v1", registrytest.Image{})
	c := newClient(t, Config{})
	_, err := c.Repository(named(t, r.Host+"/app"), nil).Resolve(t.Context(), "v2")
	if !errdefs.Is(err, errdefs.NotFound) || err.Error() != "manifest for "+r.Host+"/app:v2 not found: manifest unknown: manifest unknown" {
		t.Fatal(err)
	}
	absent := blobOf([]byte("absent"))
	_, err = c.Repository(named(t, r.Host+"/app"), nil).Resolve(t.Context(), absent.Digest.String())
	if !errdefs.Is(err, errdefs.NotFound) || err.Error() != "manifest for "+r.Host+"/app@"+absent.Digest.String()+" not found: manifest unknown: manifest unknown" {
		t.Fatal(err)
	}
}

func TestTags(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	put := r.Put("app", "a", registrytest.Image{})
	want := []string{"a", "b", "c", "d", "e"}
	for _, tag := range want[1:] {
		r.Tag("app", tag, put.Top)
	}
	repo := newClient(t, Config{}).Repository(named(t, r.Host+"/app"), nil)
	tags, err := repo.Tags(t.Context())
	if err != nil || !slices.Equal(tags, want) {
		t.Fatal(tags, err)
	}
	r.Fault(http.MethodGet, "/tags/list", registrytest.Always, registrytest.PageOf(2))
	r.Forget()
	tags, err = repo.Tags(t.Context())
	if err != nil || !slices.Equal(tags, want) || len(r.Requests(http.MethodGet, "/tags/list")) != 3 {
		t.Fatal(tags, err)
	}
	r.Heal()
	r.Fault(http.MethodGet, "/tags/list", registrytest.Always, registrytest.With("Link", `</v2/app/tags/list?n=1>; rel="next"`))
	if _, err := repo.Tags(t.Context()); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Fatal(err)
	}
	_, err = newClient(t, Config{}).Repository(named(t, r.Host+"/none"), nil).Tags(t.Context())
	if !errdefs.Is(err, errdefs.NotFound) {
		t.Fatal(err)
	}
}

func TestSearch(t *testing.T) {
	w := registrytest.NewWitness(t, "", false, []byte(`{"num_results":2,"results":[{"name":"a/b","star_count":3},{"name":"c"}]}`))
	got, err := newClient(t, Config{}).Search(t.Context(), w.Listener.Addr().String(), "b&n=1", 1, nil)
	if err != nil || len(got) != 1 || got[0].Name != "a/b" || got[0].StarCount != 3 {
		t.Fatal(got, err)
	}
	all := w.Requests()
	if last := all[len(all)-1]; last.Path != "/v1/search" || last.Query != "n=1&q=b%26n%3D1" {
		t.Fatalf("%+v", last)
	}
}
