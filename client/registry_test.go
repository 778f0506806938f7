package client

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	"github.com/tare-engine/tare/api"
)

// TestCredentialsAreInTheHeader and nowhere else of a request.
func TestCredentialsAreInTheHeader(t *testing.T) {
	var seen *http.Request
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r
		if strings.HasSuffix(r.URL.Path, "/search") {
			io.WriteString(w, "[]")
			return
		}
		io.WriteString(w, "{}")
	}))
	defer s.Close()
	c, err := New(Options{Host: strings.Replace(s.URL, "http:", "tcp:", 1), Version: "1.50"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ignore := func(jsonstream.Message) error { return nil }
	ctx, auth := context.Background(), &registry.AuthConfig{Username: "alice", Password: "~~~???"} // - and _ in base64url
	for target, do := range map[string]func() error{
		"/v1.50/images/create?fromImage=h%2Fx&tag=1": func() error {
			return c.ImagePull(ctx, ImagePullOptions{Repo: "h/x", Tag: "1", Auth: auth}, ignore)
		},
		"/v1.50/images/h:1/x/push?tag=1": func() error { return c.ImagePush(ctx, api.PushOptions{Repo: "h:1/x", Tag: "1", Auth: auth}, ignore) },
		"/v1.50/images/search?term=x": func() error {
			_, err := c.ImageSearch(ctx, api.SearchOptions{Term: "x", Auth: auth})
			return err
		},
		"/v1.50/distribution/h:1/x@sha256:a/json": func() error {
			_, err := c.DistributionInspect(ctx, "h:1/x@sha256:a", auth)
			return err
		},
		"/v1.50/tare/manifest?insecure=1&members=1&platform=1&ref=h%3A1%2Fx": func() error {
			_, err := c.RegistryManifest(ctx, api.ManifestOptions{Ref: "h:1/x", Insecure: true, Platform: true, Members: true, Auth: auth})
			return err
		},
		"/v1.50/tare/manifest": func() error { return c.ManifestPush(ctx, api.ManifestPush{}, auth, ignore) },
	} {
		if err := do(); err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		text, bad := base64.URLEncoding.DecodeString(seen.Header.Get("X-Registry-Auth"))
		if bad != nil || string(text) != `{"username":"alice","password":"~~~???"}` || seen.RequestURI != target {
			t.Errorf("%s: asked for %s with %s, %v", target, seen.RequestURI, text, bad)
		}
	}
}
