package registry

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/registry/registrytest"
)

var alice = &Credentials{Username: registrytest.Username, Password: registrytest.Password}

// spotless fails if a request has anything of the user in it.
func spotless(t *testing.T, who string, all []registrytest.Request) {
	t.Helper()
	password := registrytest.Password
	encoded := base64.StdEncoding.EncodeToString([]byte(registrytest.Username + ":" + password))
	for _, r := range all {
		text := fmt.Sprint(r)
		for _, secret := range []string{password, url.QueryEscape(password), encoded, "Basic", "Bearer"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s was told %q: %+v", who, secret, r)
			}
		}
		if r.ClientCert {
			t.Errorf("%s saw a client certificate", who)
		}
		for k := range r.Header {
			if !slices.Contains([]string{"Accept", "Accept-Encoding", "Range", "User-Agent", "Content-Length", "Content-Type", "X-Forwarded-For"}, k) {
				t.Errorf("%s saw header %s: %s", who, k, r.Header.Get(k))
			}
		}
	}
}

func TestRedirectsBearNoCredentials(t *testing.T) {
	for _, kind := range []registrytest.Auth{registrytest.Basic, registrytest.Token} {
		for _, address := range []string{"127.0.0.2:0", "127.0.0.1:0"} {
			r := registrytest.New(t, registrytest.Options{TLS: true, Auth: kind, ClientCert: true})
			l := r.Put("app", "v1", registrytest.Image{Size: 100_000}).Layers[0]
			b, _ := r.Blob("app", l.Digest)
			w := registrytest.NewWitness(t, address, true, b)
			r.Fault(http.MethodGet, "/blobs/", registrytest.Always, registrytest.Redirect("https://user:secret@"+w.Listener.Addr().String()+"/store?sig=1"))
			c := newClient(t, Config{CertsDirs: []string{clientCerts(t, r)}})
			if err := fetch(t.Context(), c.Repository(named(t, r.Host+"/app"), alice), l); err != nil {
				t.Fatal(err)
			}
			if all := r.Requests(http.MethodGet, "/blobs/"); !all[len(all)-1].ClientCert {
				t.Error("the registry saw no client certificate")
			}
			all := w.Requests()
			if len(all) != 1 || all[0].Path != "/store" {
				t.Fatalf("%+v", all)
			}
			spotless(t, "the other host", all)
		}
	}
}

// clientCerts makes a directory with a client certificate for a registry, and
// a header that is not for others.
func clientCerts(t *testing.T, r *registrytest.Registry) string {
	t.Helper()
	root := registrytest.CertsDir(t, r)
	dir := filepath.Join(root, r.Host)
	cert := r.Server.TLS.Certificates[0]
	key, err := keyPEM(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	registrytest.WriteCertificate(t, filepath.Join(dir, "client.cert"), r.Certificate())
	if err := os.WriteFile(filepath.Join(dir, "client.key"), key, 0600); err != nil {
		t.Fatal(err)
	}
	toml := "server = \"https://" + r.Host + "\"\nca = \"ca.crt\"\nclient = [[\"client.cert\", \"client.key\"]]\n[header]\nX-Secret = \"for the registry\"\n"
	if err := os.WriteFile(filepath.Join(dir, "hosts.toml"), []byte(toml), 0600); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestRedirectsThatAreRefused(t *testing.T) {
	w := registrytest.NewWitness(t, "", false, []byte("x"))
	encrypted := registrytest.NewWitness(t, "", true, []byte("x"))
	port := encrypted.Listener.Addr().(interface{ AddrPort() netip.AddrPort }).AddrPort().Port()
	for _, tc := range []struct{ to, want string }{
		{w.URL + "/x", "not encrypted"},
		{encrypted.URL + "/x", "local address"},
		{fmt.Sprintf("https://localhost:%d/x", port), "local address"},
		{fmt.Sprintf("https://a.localhost.:%d/x", port), "local address"},
		{fmt.Sprintf("https://[::ffff:127.0.0.1]:%d/x", port), "local address"},
		{"https://0.0.0.0/x", "local address"},
		{"https://169.254.169.254/latest/meta-data", "local address"},
		{"https://[fe80::1]/x", "local address"},
	} {
		t.Run(tc.to, func(t *testing.T) {
			r, c, proxy := public(t, registrytest.Options{Auth: registrytest.Basic}, nil)
			l := r.Put("app", "v1", registrytest.Image{}).Layers[0]
			r.Fault(http.MethodGet, "/blobs/", registrytest.Always, registrytest.Redirect(tc.to))
			err := fetch(t.Context(), c.Repository(named(t, "registry.example.com/app"), alice), l)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "registry.example.com") {
				t.Fatal(err)
			}
			if asked := proxy.Asked(); slices.ContainsFunc(asked, func(s string) bool { return s != "registry.example.com:443" }) {
				t.Fatalf("asked %q", asked)
			}
		})
	}
	if len(w.Requests())+len(encrypted.Requests()) != 0 {
		t.Fatal("a local address was asked")
	}
}

// public makes a registry with the name registry.example.com, that is reached
// by a proxy, as more names can be.
func public(t *testing.T, opts registrytest.Options, more map[string]string) (*registrytest.Registry, *Client, *registrytest.Proxy) {
	t.Helper()
	opts.TLS = true
	r := registrytest.New(t, opts)
	names := map[string]string{"registry.example.com:443": r.Host}
	for k, v := range more {
		names[k] = v
	}
	if r.Tokens != nil {
		names["auth.example.com:443"] = r.Tokens.Listener.Addr().String()
	}
	proxy := registrytest.NewProxy(t, names)
	root := t.TempDir()
	for _, name := range []string{"registry.example.com", "docker.io"} {
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0700); err != nil {
			t.Fatal(err)
		}
		registrytest.WriteCertificate(t, filepath.Join(dir, "ca.crt"), r.Certificate())
	}
	return r, newClient(t, Config{Proxy: proxy.Use, CertsDirs: []string{root}}), proxy
}

// TestConnectionsNearerThanTheRegistry: a name of another host may lead here as
// well, which only shows when it is connected to.
func TestConnectionsNearerThanTheRegistry(t *testing.T) {
	c := newClient(t, Config{})
	for _, tc := range []struct {
		site    int32
		address string
		ok      bool
	}{
		{reachFar, "127.0.0.1:80", false},
		{reachFar, "[::1]:80", false},
		{reachFar, "[::ffff:127.0.0.1]:80", false},
		{reachFar, "169.254.169.254:80", false},
		{reachFar, "[fe80::1]:80", false},
		{reachFar, "0.0.0.0:80", false},
		{reachUnknown, "127.0.0.1:80", false},
		{reachFar, "10.0.0.1:80", true},
		{reachFar, "93.184.216.34:443", true},
		{reachHost, "127.0.0.2:80", true},
		{reachHost, "169.254.169.254:80", false},
		{reachLink, "169.254.1.1:80", true},
		{reachLink, "127.0.0.1:80", false},
	} {
		sites, err := c.sitesOf(t.Context(), "registry.example.com")
		if err != nil {
			t.Fatal(err)
		}
		s := sites[0]
		s.reach.Store(tc.site)
		if err := s.control(t.Context(), "tcp", tc.address, nil); (err == nil) != tc.ok {
			t.Errorf("reach %d, %s: %v", tc.site, tc.address, err)
		}
	}
}

func TestTokenServerElsewhere(t *testing.T) {
	for _, tc := range []struct {
		realm string
		cred  *Credentials
		want  []string // in the error; none for success
	}{
		{"https://auth.example.com/token", alice, nil},
		{"https://auth.example.com/token", &Credentials{IdentityToken: "abc"}, []string{"unknown identity token"}},
		{"https://evil.test/token", alice, []string{"registry.example.com", "https://evil.test", "not of its domain"}},
		{"https://evil.test/token", &Credentials{IdentityToken: "abc"}, []string{"not of its domain"}},
		{"https://example.com.evil.test/token", alice, []string{"not of its domain"}},
		{"https://registry.example.com@evil.test/token", alice, []string{"not of its domain"}},
		{"http://auth.example.com/token", alice, []string{"registry.example.com", "http://auth.example.com", "not encrypted"}},
		{"http://registry.example.com/token", alice, []string{"not encrypted"}},
		{"http://auth.example.com/token", nil, []string{"not encrypted"}},
		{"https://127.0.0.1/token", nil, []string{"local address"}},
		{"https://localhost/token", alice, []string{"local address"}},
		{"ftp://auth.example.com/token", alice, []string{"invalid token auth challenge realm"}},
		{"/token", alice, []string{"invalid token auth challenge realm"}},
	} {
		t.Run(tc.realm, func(t *testing.T) {
			evil := registrytest.NewWitness(t, "", true, []byte(`{"token":"x"}`))
			r, c, _ := public(t, registrytest.Options{Auth: registrytest.Token, Realm: tc.realm}, map[string]string{
				"evil.test:443": evil.Listener.Addr().String(), "example.com.evil.test:443": evil.Listener.Addr().String(),
				"auth.example.com": evil.Listener.Addr().String(), "registry.example.com": evil.Listener.Addr().String(),
			})
			r.Put("app", "v1", registrytest.Image{})
			_, err := c.Repository(named(t, "registry.example.com/app"), tc.cred).Resolve(t.Context(), "v1")
			if len(tc.want) == 0 != (err == nil) {
				t.Fatal(err)
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Fatalf("error %v, want %q", err, w)
				}
			}
			if err != nil && !errdefs.Is(err, errdefs.Unauthorized) {
				t.Fatalf("kind %d", errdefs.KindOf(err))
			}
			if all := evil.Requests(); len(all) != 0 {
				t.Fatalf("%+v", all)
			}
		})
	}
}

// TestTokenServerRedirects: the body of a request for a token has the identity
// token, and would go along.
func TestTokenServerRedirects(t *testing.T) {
	evil := registrytest.NewWitness(t, "127.0.0.2:0", true, []byte(`{"token":"x","access_token":"x"}`))
	r := registrytest.New(t, registrytest.Options{TLS: true, Auth: registrytest.Token})
	r.Put("app", "v1", registrytest.Image{})
	r.Tokens.RedirectTo(evil.URL)
	for _, cred := range []*Credentials{alice, {IdentityToken: "abc"}} {
		_, err := newClient(t, Config{}).Repository(named(t, r.Host+"/app"), cred).Resolve(t.Context(), "v1")
		if err == nil || !strings.Contains(err.Error(), "redirects to") {
			t.Fatal(err)
		}
	}
	if all := evil.Requests(); len(all) != 0 {
		t.Fatalf("%+v", all)
	}
}

func TestUploadElsewhereBearsNoCredentials(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{TLS: true, Auth: registrytest.Basic})
	for _, encrypted := range []bool{true, false} {
		w := registrytest.NewWitness(t, "127.0.0.2:0", encrypted, nil)
		r.Heal()
		r.Fault(http.MethodPost, "/uploads/", registrytest.Always, registrytest.With("Location", w.URL+"/up"))
		b := []byte("blob")
		err := newClient(t, Config{}).Repository(named(t, r.Host+"/app"), alice).PushBlob(t.Context(), blobOf(b), opener(b), nil)
		if err == nil {
			t.Fatal("pushed to a host that is no registry")
		}
		all := w.Requests()
		if encrypted == (len(all) == 0) {
			t.Fatalf("encrypted %v: %+v", encrypted, all)
		}
		spotless(t, "the other host", all)
	}
}

func TestMirrorsSeeNoCredentials(t *testing.T) {
	mirror := registrytest.New(t, registrytest.Options{TLS: true, Auth: registrytest.Basic})
	tokens := registrytest.New(t, registrytest.Options{TLS: true, Auth: registrytest.Token})
	r := registrytest.New(t, registrytest.Options{TLS: true, Auth: registrytest.Basic})
	put := r.Put("app", "v1", registrytest.Image{})
	c := newClient(t, Config{Mirrors: map[string][]string{r.Host: {mirror.URL, tokens.URL}}})
	repo := c.Repository(named(t, r.Host+"/app"), alice)
	d, err := repo.Resolve(t.Context(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Manifest(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if err := fetch(t.Context(), repo, put.Layers[0]); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*registrytest.Registry{mirror, tokens} {
		all := append(m.Requests(http.MethodGet, ""), m.Requests(http.MethodHead, "")...)
		if len(all) == 0 {
			t.Fatal("the mirror was not asked")
		}
		if m == mirror {
			spotless(t, "the mirror", all)
		}
	}
	spotless(t, "the mirror's token server", tokens.Tokens.Requests())
}

func TestWrongCredentials(t *testing.T) {
	bob := &Credentials{Username: "bob", Password: "hunter2-secret"}
	for _, tc := range []struct {
		name string
		auth registrytest.Auth
		cred *Credentials
		want string
	}{
		{"basic, none", registrytest.Basic, nil, `Head "https://HOST/v2/app/manifests/v1": no basic auth credentials`},
		{"basic, wrong", registrytest.Basic, bob, "unauthorized: authentication required"},
		{"token, none", registrytest.Token, nil, "pull access denied for HOST/app, repository does not exist or may require 'docker login': denied: requested access to the resource is denied"},
		{"token, wrong", registrytest.Token, bob, `Head "https://HOST/v2/app/manifests/v1": unauthorized: incorrect username or password`},
		{"identity token, wrong", registrytest.Token, &Credentials{IdentityToken: "hunter2-secret"}, "unauthorized: unknown identity token"},
		{"registry token, wrong", registrytest.Token, &Credentials{RegistryToken: "hunter2-secret"}, "unauthorized: authentication required"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := registrytest.New(t, registrytest.Options{TLS: true, Auth: tc.auth})
			r.Put("app", "v1", registrytest.Image{})
			repo := newClient(t, Config{}).Repository(named(t, r.Host+"/app"), tc.cred)
			_, err := repo.Resolve(t.Context(), "v1")
			if err == nil || !strings.Contains(err.Error(), strings.ReplaceAll(tc.want, "HOST", r.Host)) {
				t.Fatal(err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Fatalf("the error has the secret: %v", err)
			}
			if k := errdefs.KindOf(err); k != errdefs.Unauthorized && k != errdefs.NotFound {
				t.Fatalf("kind %d", k)
			}
			if n := len(r.Requests(http.MethodHead, "")) + len(r.Requests(http.MethodGet, "")); n > 6 {
				t.Fatalf("%d requests", n)
			}
		})
	}
}

func TestErrorsHaveNoSignatures(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{})
	l := r.Put("app", "v1", registrytest.Image{}).Layers[0]
	other := registrytest.New(t, registrytest.Options{})
	other.Fault(http.MethodGet, "/store", registrytest.Always, registrytest.Hang)
	r.Fault(http.MethodGet, "/blobs/", registrytest.Always, registrytest.Redirect(other.URL+"/store?signature=s3cret"))
	c := newClient(t, Config{Stall: 100 * time.Millisecond, Attempts: 2})
	err := fetch(t.Context(), c.Repository(named(t, r.Host+"/app"), nil), l)
	if err == nil || !strings.Contains(err.Error(), "/store") || strings.Contains(err.Error(), "s3cret") {
		t.Fatal(err)
	}
}

func TestLogin(t *testing.T) {
	for _, kind := range []registrytest.Auth{registrytest.None, registrytest.Basic, registrytest.Token} {
		r := registrytest.New(t, registrytest.Options{TLS: true, Auth: kind})
		put := r.Put("app", "v1", registrytest.Image{})
		c := newClient(t, Config{})
		for _, name := range []string{r.Host, "https://" + r.Host, "https://" + r.Host + "/v1/"} {
			identity, err := c.Login(t.Context(), name, *alice)
			if err != nil || (identity != "") != (kind == registrytest.Token) {
				t.Fatalf("%q, %v", identity, err)
			}
			if kind != registrytest.Token {
				continue
			}
			before := len(r.Tokens.Requests())
			d, err := c.Repository(named(t, r.Host+"/app"), &Credentials{IdentityToken: identity}).Resolve(t.Context(), "v1")
			if err != nil || d.Digest != put.Top.Digest {
				t.Fatal(err)
			}
			spotless(t, "the token server", r.Tokens.Requests()[before:])
		}
		if kind == registrytest.None {
			continue
		}
		_, err := c.Login(t.Context(), r.Host, Credentials{Username: "bob", Password: "hunter2"})
		want := "login attempt to https://" + r.Host + "/v2/ failed with status: 401 Unauthorized"
		if kind == registrytest.Token {
			want = `Get "https://` + r.Host + `/v2/": unauthorized: incorrect username or password`
		}
		if !errdefs.Is(err, errdefs.Unauthorized) || err.Error() != want {
			t.Fatal(err)
		}
	}
}

func TestOneTokenForManyLayers(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{TLS: true, Auth: registrytest.Token})
	put := r.Put("app", "v1", registrytest.Image{Layers: 10})
	repo := newClient(t, Config{}).Repository(named(t, r.Host+"/app"), alice)
	var all sync.WaitGroup
	for _, l := range put.Layers {
		all.Go(func() {
			if err := fetch(t.Context(), repo, l); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := len(r.Tokens.Requests()); n != 1 {
		t.Fatalf("%d tokens were asked for", n)
	}
	r.Tokens.Revoke()
	if err := fetch(t.Context(), repo, put.Layers[0]); err != nil {
		t.Fatalf("after the tokens' end: %v", err)
	}
}

// TestCancelledWaiterDoesNotSpoilTheToken: whoever asked for it first may leave.
func TestCancelledWaiterDoesNotSpoilTheToken(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{TLS: true, Auth: registrytest.Token})
	r.Put("app", "v1", registrytest.Image{})
	repo := newClient(t, Config{}).Repository(named(t, r.Host+"/app"), alice)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := repo.Resolve(ctx, "v1"); err != context.Canceled {
		t.Fatal(err)
	}
	if _, err := repo.Resolve(t.Context(), "v1"); err != nil {
		t.Fatal(err)
	}
}

// TestTransportKeepsCredentialsBack: the guard below all others.
func TestTransportKeepsCredentialsBack(t *testing.T) {
	r := registrytest.New(t, registrytest.Options{TLS: true})
	w := registrytest.NewWitness(t, "", true, nil)
	e, err := newClient(t, Config{}).Repository(named(t, r.Host+"/app"), alice).registry(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{r.URL + "/v2/", w.URL} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, to, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", basic(*alice))
		resp, err := e.client.Transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		discard(resp)
	}
	spotless(t, "the other host", w.Requests())
	if all := r.Requests(http.MethodGet, ""); len(all) != 1 || all[0].Header.Get("Authorization") == "" {
		t.Fatalf("%+v", all)
	}
	tr := &transport{s: e.s, home: "registry.example.com"}
	if e.s.plain = false; tr.mayKnow(&url.URL{Scheme: "http", Host: "registry.example.com"}) {
		t.Fatal("credentials go by plain HTTP")
	}
}

func TestSameDomain(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		same bool
	}{
		{"auth.docker.io", "registry-1.docker.io", true},
		{"gitlab.example.com", "registry.example.com", true},
		{"example.com", "registry.EXAMPLE.com", true},
		{"evil-example.com", "registry.example.com", false},
		{"a.co.uk", "b.co.uk", false},
		{"a.github.io", "b.github.io", false},
		{"10.0.0.1", "10.0.0.1", true},
		{"10.0.0.2", "10.0.0.1", false},
		{"1.0.0.1", "2.0.0.1", false},
		{"localhost", "localhost", true},
		{"com", "com", true},
		{"com", "example.com", false},
		{"", "example.com", false},
	} {
		if sameDomain(tc.a, tc.b) != tc.same {
			t.Errorf("%s, %s: not %v", tc.a, tc.b, tc.same)
		}
	}
}

func FuzzAuthChallenge(f *testing.F) {
	for _, s := range []string{"https://auth.example.com/token", "https://u:p@auth.example.com/token", "http://registry.example.com", "https://registry.example.com@evil.test", "//x", "https://[::1]/", "https://example.com.", "HTTPS://AUTH.EXAMPLE.COM"} {
		f.Add(s)
	}
	c, err := New(Config{})
	if err != nil {
		f.Fatal(err)
	}
	sites, err := c.sitesOf(f.Context(), "registry.example.com")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := sites[0].realm(t.Context(), text, true)
		if err != nil {
			return
		}
		host := strings.ToLower(u.Hostname())
		if u.Scheme != "https" || u.User != nil || host != "example.com" && !strings.HasSuffix(host, ".example.com") {
			t.Fatalf("%q is believed: %s", text, u)
		}
	})
}

func FuzzRedirect(f *testing.F) {
	for _, s := range []string{"https://evil.test/x", "https://registry.example.com/y", "https://registry.example.com:444/", "http://registry.example.com/", "https://u:p@cdn.registry.example.com/", "/relative"} {
		f.Add(s)
	}
	c, err := New(Config{})
	if err != nil {
		f.Fatal(err)
	}
	sites, err := c.sitesOf(f.Context(), "registry.example.com")
	if err != nil {
		f.Fatal(err)
	}
	first, _ := http.NewRequest(http.MethodGet, "https://registry.example.com/v2/a/blobs/b", nil)
	f.Fuzz(func(t *testing.T, location string) {
		u, err := first.URL.Parse(location)
		if err != nil {
			return
		}
		req := &http.Request{Method: http.MethodGet, URL: u, Header: http.Header{
			"Authorization": {"Bearer x"}, "Cookie": {"a=b"}, "X-Secret": {"x"}, "Referer": {"y"}, "Range": {"bytes=1-"},
		}}
		if sites[0].redirect(req, []*http.Request{first}) != nil {
			return
		}
		if req.URL.Scheme != "https" || req.URL.User != nil || req.Header.Get("Referer") != "" {
			t.Fatalf("%s: %v", req.URL, req.Header)
		}
		if !strings.EqualFold(req.URL.Host, "registry.example.com") && len(req.Header) != 1 {
			t.Fatalf("%s is told %v", req.URL, req.Header)
		}
	})
}

func keyPEM(key any) ([]byte, error) {
	b, err := marshalKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b}), err
}
