package registry

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tare-engine/tare/internal/registry/registrytest"
)

func TestConnectionsAreUsedAgain(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{TLS: true, Auth: registrytest.Basic})
	put := r.Put("app", "v1", registrytest.Image{Layers: 5})
	repo := newClient(t, Config{}).Repository(named(t, r.Host+"/app"), alice)
	d, err := repo.Resolve(t.Context(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Manifest(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	for _, l := range put.Layers {
		if err := fetch(t.Context(), repo, l); err != nil {
			t.Fatal(err)
		}
	}
	b := []byte("pushed")
	if err := repo.PushBlob(t.Context(), blobOf(b), opener(b), nil); err != nil {
		t.Fatal(err)
	}
	if n := r.Connections(); n != 1 {
		t.Fatalf("%d connections", n)
	}
	if n := len(r.Requests(http.MethodGet, "")) + len(r.Requests(http.MethodHead, "")); n != 1+1+1+5 {
		t.Fatalf("%d requests", n)
	}
}

// TestNothingStays: transfers that were finished, broken off and abandoned leave
// no goroutine.
func TestNothingStays(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	l := r.Put("app", "v1", registrytest.Image{Size: 1_000_000}).Layers[0]
	before := runtime.NumGoroutine()
	c, err := New(Config{Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	repo := c.Repository(named(t, r.Host+"/app"), nil)
	for range 20 {
		if err := fetch(t.Context(), repo, l); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		rc, err := repo.Blob(ctx, l, 0)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		rc.Close()
		rc, err = repo.Blob(t.Context(), l, 10)
		if err != nil {
			t.Fatal(err)
		}
		io.CopyN(io.Discard, rc, 100_000)
		rc.Close()
		if _, err := rc.Read(make([]byte, 1)); err == nil {
			t.Fatal("read of what is closed")
		}
	}
	c.Close()
	var now int
	for end := time.Now().Add(time.Minute); time.Now().Before(end); runtime.Gosched() {
		if now = runtime.NumGoroutine(); now <= before {
			return
		}
	}
	t.Fatalf("%d goroutines, %d before", now, before)
}

func TestRateLimit(t *testing.T) {
	const size = 3_000_000
	for _, limit := range []int64{0, 1_000_000} {
		synctest.Test(t, func(t *testing.T) {
			c, err := New(Config{RateLimit: limit})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			a := &answer{rc: io.NopCloser(strings.NewReader(strings.Repeat("x", size))), outer: ctx, ctx: ctx, cancel: cancel, c: c, left: time.Minute, limit: size + 1, limited: true}
			start := time.Now()
			n, err := io.Copy(io.Discard, a)
			if n != size || err != nil {
				t.Fatal(n, err)
			}
			d := time.Since(start)
			if limit == 0 && d != 0 || limit != 0 && (d < 2800*time.Millisecond || d > 3*time.Second) {
				t.Fatalf("with a limit of %d it took %s", limit, d)
			}
		})
	}
}

func TestProxyOfTheEnvironment(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	r.Put("app", "v1", registrytest.Image{})
	proxy := registrytest.NewProxy(t, map[string]string{"registry.example.com:443": r.Host, "registry.example.com": r.Host})
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("HTTPS_PROXY", proxy.URL)
	t.Setenv("NO_PROXY", "direct.invalid")
	c := newClient(t, Config{Insecure: []string{"registry.example.com"}})
	if _, err := c.Repository(named(t, "registry.example.com/app"), nil).Resolve(t.Context(), "v1"); err != nil {
		t.Fatal(err)
	}
	if len(proxy.Asked()) == 0 {
		t.Fatal("the proxy was not asked")
	}
	u, err := c.cfg.Proxy(&url.URL{Scheme: "https", Host: "direct.invalid"})
	if u != nil || err != nil {
		t.Fatal(u, err)
	}
}
