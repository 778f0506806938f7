package registry

import (
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/registry/registrytest"
)

func TestDocument(t *testing.T) {
	for _, auth := range []registrytest.Auth{registrytest.None, registrytest.Basic, registrytest.Token} {
		for _, img := range []registrytest.Image{{}, {Docker: true}, {Index: true}, {Docker: true, Index: true}} {
			r := registrytest.New(t, registrytest.Options{Auth: auth})
			put := r.Put("app", "v1", img)
			repo := newClient(t, Config{}).Repository(named(t, r.Host+"/app"), alice)
			for _, what := range []string{"v1", put.Top.Digest.String()} {
				d, b, err := repo.Document(t.Context(), what)
				if err != nil || d.Digest != put.Top.Digest || d.MediaType != put.Top.MediaType || d.Size != put.Top.Size || digest.FromBytes(b) != d.Digest {
					t.Errorf("%+v: %s: %+v, %v", img, what, d, err)
				}
				if n := len(r.Requests(http.MethodHead, "/manifests/")); n != 0 {
					t.Errorf("%s: %d further requests", what, n)
				}
			}
		}
	}
}

// TestDocumentOfAHostileRegistry: what is returned has its digest, and is one thing.
func TestDocumentOfAHostileRegistry(t *testing.T) {
	for _, tc := range []struct {
		name  string
		times int
		fault registrytest.Fault
		want  string // in the error; empty for success
	}{
		{"other bytes", registrytest.Always, registrytest.Flip, "manifest verification failed for digest sha256:"},
		{"fewer bytes", registrytest.Always, registrytest.Shorten(1), "manifest verification failed for digest sha256:"},
		{"more bytes", registrytest.Always, registrytest.Lengthen(1), "manifest verification failed for digest sha256:"},
		{"too many bytes", registrytest.Always, registrytest.Lengthen(MaxManifest), "at most"},
		{"too many bytes that nobody counted", registrytest.Always, registrytest.Unsized(MaxManifest), "more than"},
		{"an index by its media type", registrytest.Always, registrytest.As(ocispec.MediaTypeImageIndex), "its media type is"},
		{"another media type", registrytest.Always, registrytest.As("text/html"), `unsupported manifest media type "text/html"`},
		{"Docker's old media type", registrytest.Always, registrytest.As("application/vnd.docker.distribution.manifest.v1+prettyjws"), "before 1.10"},
		{"the digest of something else in a header", registrytest.Always, registrytest.With("Docker-Content-Digest", digest.FromString("x").String()), ""},
		{"the connection is cut", 2, registrytest.Cut(50), ""},
		{"the connection is cut for ever", registrytest.Always, registrytest.Cut(50), "EOF"},
		{"overloaded", 2, registrytest.Status(http.StatusServiceUnavailable), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := registrytest.New(t, registrytest.Options{})
			put := r.Put("app", "v1", registrytest.Image{})
			r.Fault(http.MethodGet, "/manifests/", tc.times, tc.fault)
			d, b, err := newClient(t, Config{}).Repository(named(t, r.Host+"/app"), nil).Document(t.Context(), put.Manifest.Digest.String())
			switch {
			case tc.want == "" && (err != nil || d.Digest != put.Manifest.Digest || digest.FromBytes(b) != d.Digest):
				t.Errorf("%+v, %v", d, err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || b != nil):
				t.Errorf("%d bytes, %v; want %q", len(b), err, tc.want)
			}
		})
	}
	r := registrytest.New(t, registrytest.Options{})
	put := r.Put("app", "v1", registrytest.Image{})
	repo := newClient(t, Config{}).Repository(named(t, r.Host+"/app"), nil)
	for _, mediaType := range []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex} {
		r.PutRaw("app", "both", mediaType, registrytest.Both(put, mediaType))
		if _, b, err := repo.Document(t.Context(), "both"); err == nil || !strings.Contains(err.Error(), "a manifest and an index at once") || b != nil {
			t.Errorf("%s: %v", mediaType, err)
		}
	}
	r.PutRaw("app", "deep", ocispec.MediaTypeImageManifest, registrytest.Deep(put, 100_000))
	if _, _, err := repo.Document(t.Context(), "deep"); err == nil || !strings.Contains(err.Error(), "levels") {
		t.Error(err)
	}
}

func TestUnknownIsNotDenied(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	r.Put("app", "v1", registrytest.Image{})
	c := newClient(t, Config{})
	for ref, tag := range map[string]string{"app": "nosuch", "nosuch": "v1"} {
		_, _, err := c.Repository(named(t, r.Host+"/"+ref), nil).Document(t.Context(), tag)
		if !IsUnknown(err) || !errdefs.Is(err, errdefs.NotFound) {
			t.Errorf("%s:%s: %v", ref, tag, err)
		}
	}
	for status, code := range map[int]string{http.StatusForbidden: "DENIED", http.StatusUnauthorized: "UNAUTHORIZED", http.StatusTeapot: "TEAPOT"} {
		r.Heal()
		r.Fault(http.MethodGet, "/manifests/", registrytest.Always, registrytest.Deny(status, code, "no"))
		if _, _, err := c.Repository(named(t, r.Host+"/app"), nil).Document(t.Context(), "v1"); err == nil || IsUnknown(err) {
			t.Errorf("%s: %v", code, err)
		}
	}
}

// TestInsecureIsForOneRegistry: neither the client it comes from nor others that
// it speaks to do without TLS.
func TestInsecureIsForOneRegistry(t *testing.T) {
	for name, opts := range map[string]registrytest.Options{"plain": {}, "unknown certificate": {TLS: true}} {
		t.Run(name, func(t *testing.T) {
			r := registrytest.New(t, opts)
			r.Put("app", "v1", registrytest.Image{})
			addresses := map[string]string{}
			for _, host := range []string{"one.example.com", "other.example.com"} {
				addresses[host], addresses[host+":443"] = r.Host, r.Host
			}
			proxy := registrytest.NewProxy(t, addresses)
			c := newClient(t, Config{Proxy: proxy.Use})
			ask := func(c *Client, host string) error {
				_, _, err := c.Repository(named(t, host+"/app"), nil).Document(t.Context(), "v1")
				return err
			}
			before := ask(c, "one.example.com")
			i := c.Insecure("one.example.com")
			defer i.Close()
			if err := ask(i, "one.example.com"); err != nil {
				t.Error(err)
			}
			for who, err := range map[string]error{"before": before, "after": ask(c, "one.example.com"), "other": ask(i, "other.example.com")} {
				if err == nil {
					t.Errorf("%s: no error", who)
				}
			}
		})
	}
}

// TestInsecureLeavesTokenServersAlone: they see a password only by TLS.
func TestInsecureLeavesTokenServersAlone(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		witness := registrytest.NewWitness(t, "", scheme == "https", []byte(`{"token":"x"}`))
		r := registrytest.New(t, registrytest.Options{Auth: registrytest.Token, Realm: scheme + "://auth.example.com/token"})
		proxy := registrytest.NewProxy(t, map[string]string{
			"registry.example.com": r.Host, "registry.example.com:443": r.Host,
			"auth.example.com": witness.Listener.Addr().String(), "auth.example.com:443": witness.Listener.Addr().String(),
		})
		c := newClient(t, Config{Proxy: proxy.Use}).Insecure("registry.example.com")
		defer c.Close()
		if _, _, err := c.Repository(named(t, "registry.example.com/app"), alice).Document(t.Context(), "v1"); err == nil {
			t.Errorf("%s: no error", scheme)
		}
		spotless(t, scheme, witness.Requests())
		if n := len(witness.Requests()); n != 0 {
			t.Errorf("%s: %d requests", scheme, n)
		}
	}
}
