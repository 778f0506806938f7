package main

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// stream makes a route answer with documents, and tells the query and the
// credentials of each request to see.
func (e *fakeEngine) stream(route string, see func(query, auth string), documents ...string) {
	e.on(route, func(w http.ResponseWriter, r *http.Request) {
		auth, err := base64.URLEncoding.DecodeString(r.Header.Get("X-Registry-Auth"))
		if err != nil {
			auth = []byte(err.Error())
		}
		e.mu.Lock()
		see(r.URL.RawQuery, string(auth))
		e.mu.Unlock()
		io.WriteString(w, strings.Join(documents, "\r\n"))
	})
}

// withConfig is tare with a configuration file, which it returns as it is
// afterwards.
func withConfig(t *testing.T, host, config, stdin string, args ...string) (r result, after string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	if config != "" {
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r = tare(t, host, stdin, append([]string{"--config", filepath.Dir(path)}, args...)...)
	r.err = strings.ReplaceAll(r.err, path, "FILE")
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return r, string(text)
}

var pulled = []string{
	`{"status":"Pulling from x","id":"1"}`,
	`{"status":"Pulling fs layer","progressDetail":{},"id":"aaa"}`,
	`{"status":"Downloading","progressDetail":{"current":1,"total":2},"id":"aaa"}`,
	`{"status":"Pull complete","progressDetail":{},"id":"aaa"}`,
	`{"status":"Digest: sha256:d"}`,
}

const pulledLines = "1: Pulling from x\naaa: Pulling fs layer\naaa: Pull complete\nDigest: sha256:d\n"

func TestPull(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	escaped := strings.Replace(digest, ":", "%3A", 1)
	for line, want := range map[string]struct{ query, out string }{
		"x":                                    {"fromImage=x&tag=latest", "Using default tag: latest\n" + pulledLines + "docker.io/library/x:latest\n"},
		"-q x":                                 {"fromImage=x&tag=latest", "docker.io/library/x:latest\n"},
		"u/x:1":                                {"fromImage=u%2Fx&tag=1", pulledLines + "docker.io/u/x:1\n"},
		"h:5000/x":                             {"fromImage=h%3A5000%2Fx&tag=latest", "Using default tag: latest\n" + pulledLines + "h:5000/x:latest\n"},
		"x:1@" + digest:                        {"fromImage=x&tag=" + escaped, pulledLines + "docker.io/library/x:1@" + digest + "\n"},
		"-a x":                                 {"fromImage=x", pulledLines + "docker.io/library/x\n"},
		"--platform linux/arm64 localhost/x:1": {"fromImage=localhost%2Fx&platform=linux%2Farm64&tag=1", pulledLines + "localhost/x:1\n"},
	} {
		e := newFakeEngine(t)
		var query string
		e.stream("POST /images/create", func(q, _ string) { query = q }, pulled...)
		got := tare(t, e.host, "", append([]string{"pull"}, strings.Fields(line)...)...)
		if got != (result{want.out, "", 0}) || query != want.query {
			t.Errorf("%s: asked for %s; got %+v", line, query, got)
		}
	}
}

func TestPullFails(t *testing.T) {
	e := newFakeEngine(t)
	e.stream("POST /images/create", func(string, string) {}, pulled[0], pulled[1], `{"errorDetail":{"message":"it broke\u001b[2J"}}`)
	want := result{"1: Pulling from x\naaa: Pulling fs layer\n", "it broke\\x1b[2J\n", 1}
	if got := tare(t, e.host, "", "pull", "x:1"); got != want {
		t.Errorf("got %+v", got)
	}
	e.handle["POST /images/create"] = func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusBadRequest, "invalid reference format: repository name (library/X) must be lowercase")
	}
	if got := tare(t, e.host, "", "pull", "X"); got != (result{"", "invalid reference format: repository name (library/X) must be lowercase\n", 1}) {
		t.Errorf("got %+v", got)
	}
	if got := tare(t, e.host, "", "pull", "-a", "x:1"); got != (result{"", "tag can't be used with --all-tags/-a\n", 1}) {
		t.Errorf("got %+v", got)
	}
}

func TestPush(t *testing.T) {
	notes := []string{
		`{"aux":{"manifestPushedInsteadOfIndex":true,"originalIndex":{"digest":"sha256:a\u001b"},"selectedManifest":{"digest":"sha256:b"}}}`,
		`{"status":"aaa: digest: sha256:d size: 3"}`,
		`{"progressDetail":{},"aux":{"Tag":"1","Digest":"sha256:d","Size":3}}`,
	}
	for line, want := range map[string]struct{ query, out string }{
		"h/x":       {"tag=latest", "Using default tag: latest\naaa: digest: sha256:d size: 3\n\n Info -> Not all of the platforms are here, so that only this one was pushed:\n         sha256:a\\x1b -> sha256:b\n"},
		"-q -a h/x": {"", "\n Info -> Not all of the platforms are here, so that only this one was pushed:\n         sha256:a\\x1b -> sha256:b\ndocker.io/h/x\n"},
	} {
		e := newFakeEngine(t)
		query := "none"
		e.stream("POST /images/h/x/push", func(q, _ string) { query = q }, notes...)
		got := tare(t, e.host, "", append([]string{"push"}, strings.Fields(line)...)...)
		if got != (result{want.out, "", 0}) || query != want.query {
			t.Errorf("%s: asked for %q; got %+v", line, query, got)
		}
	}
	for line, text := range map[string]string{
		"-a x:1": "tag can't be used with --all-tags/-a\n", "x@sha256:a": "cannot push a digest reference\n",
	} {
		if got := tare(t, "unix:///nonexistent", "", append([]string{"push"}, strings.Fields(line)...)...); got != (result{"", text, 1}) {
			t.Errorf("%s: %+v", line, got)
		}
	}
}

// TestOldEnginesPushNoPlatform: they would push all of them.
func TestOldEnginesPushNoPlatform(t *testing.T) {
	e := newFakeEngine(t)
	t.Setenv("DOCKER_API_VERSION", "1.45")
	got := tare(t, e.host, "", "push", "-q", "--platform", "linux/arm64", "x:1")
	if got.code != 1 || !strings.Contains(got.err, `"platform" requires API version 1.46, but the engine's is 1.45`) || len(e.requests) != 0 {
		t.Errorf("got %+v, requests %q", got, e.requests)
	}
}

func TestCredentialsGoWithTheReference(t *testing.T) {
	config := `{"auths":{"h:5000":{"auth":"YTpi"},"https://index.docker.io/v1/":{"auth":"aHViOng=","identitytoken":"T"}}}`
	hub := map[string]string{"username": "hub", "password": "x", "identitytoken": "T", "serveraddress": "https://index.docker.io/v1/"}
	here := map[string]string{"username": "a", "password": "b", "serveraddress": "h:5000"}
	for line, want := range map[string]map[string]string{
		"pull h:5000/x": here, "push h:5000/x": here, "create h:5000/x": here, "create --pull always h:5000/x": here, "search h:5000/x": here,
		"pull x": hub, "pull u/x": hub, "pull docker.io/x": hub, "pull index.docker.io/u/x:1": hub, "search x": hub,
		"pull h/x": hub, "pull h:5001/x": nil, "pull h.example/x": nil, "push localhost/x": {}, // older engines want the header
	} {
		e := newFakeEngine(t)
		auth := "none"
		see := func(_, a string) { auth = a }
		for _, route := range []string{"POST /images/create", "POST /images/h:5000/x/push", "POST /images/localhost/x/push"} {
			e.stream(route, see, pulled...)
		}
		e.stream("GET /images/search", see, "[]")
		e.handle["POST /containers/create"] = func(w http.ResponseWriter, r *http.Request) {
			refuse(w, http.StatusNotFound, "No such image: h:5000/x:latest")
		}
		r, after := withConfig(t, e.host, config, "", strings.Fields(line)...)
		var got map[string]string
		if auth != "" {
			if err := json.Unmarshal([]byte(auth), &got); err != nil {
				t.Errorf("%s: %v: %+v", line, err, r)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" || after != config {
			t.Errorf("%s: -want +got:\n%s", line, diff)
		}
	}
}

// TestAHelperThatFailsIsToldOf: the registry may do without credentials.
func TestAHelperThatFailsIsToldOf(t *testing.T) {
	e := newFakeEngine(t)
	e.stream("POST /images/create", func(string, string) {}, pulled...)
	got, _ := withConfig(t, e.host, `{"credHelpers":{"h:5000":"of-nobody"}}`, "", "pull", "-q", "h:5000/x")
	if got.code != 0 || got.out != "h:5000/x:latest\n" || !strings.HasPrefix(got.err, "WARNING: no credentials for h:5000: error getting credentials") {
		t.Errorf("got %+v", got)
	}
}

func TestReferences(t *testing.T) {
	for ref, want := range map[string]string{
		"x": "docker.io/library/x", "u/x:1": "docker.io/u/x:1", "docker.io/x": "docker.io/library/x", "index.docker.io/x": "docker.io/library/x",
		"h.example/x": "h.example/x", "localhost/x": "localhost/x", "h:1/u/x@d": "h:1/u/x@d", "UPPER/x": "UPPER/x",
	} {
		if got := canonical(ref); got != want {
			t.Errorf("%s: got %s, want %s", ref, got, want)
		}
	}
	for ref, want := range map[string][2]string{
		"x": {"x", ""}, "x:1": {"x", "1"}, "h:5/x": {"h:5/x", ""}, "x:1@sha256:a": {"x", "sha256:a"}, "x:": {"x:", ""}, "x@": {"x@", ""},
	} {
		if repo, tag := repositoryOf(ref); repo != want[0] || tag != want[1] {
			t.Errorf("%s: got %q and %q", ref, repo, tag)
		}
	}
}

func TestSearch(t *testing.T) {
	e := newFakeEngine(t)
	var query string
	e.stream("GET /images/search", func(q, _ string) { query = q }, `[
		{"name":"busybox","description":"A base image with a description\nthat is to be cut off","star_count":30,"is_official":true},
		{"name":"u/\u001b[2J","description":"","star_count":1}]`)
	for line, want := range map[string]string{
		"--limit 5 -f stars=3 x": "NAME        DESCRIPTION                                     STARS     OFFICIAL\n" +
			"busybox     A base image with a description that is to b…   30        [OK]\n" +
			"u/\\x1b[2J                                                   1         \n",
		"--format json x": `{"Description":"A base image with a description that is to b…","IsOfficial":"true","Name":"busybox","StarCount":"30"}` + "\n" +
			`{"Description":"","IsOfficial":"false","Name":"u/\u001b[2J","StarCount":"1"}` + "\n",
		"--no-trunc --format {{.Description}}|{{.IsOfficial}} x": "A base image with a description that is to be cut off|[OK]\n|\n",
	} {
		if got := tare(t, e.host, "", append([]string{"search"}, strings.Fields(line)...)...); got != (result{want, "", 0}) {
			t.Errorf("%s: got %+v", line, got)
		}
	}
	tare(t, e.host, "", "search", "--limit", "5", "-f", "stars=3", "x")
	if want := "filters=%7B%22stars%22%3A%7B%223%22%3Atrue%7D%7D&limit=5&term=x"; query != want {
		t.Errorf("asked for %s", query)
	}
}

func TestLoadAsksForNoCountsWithoutATerminal(t *testing.T) {
	e := newFakeEngine(t)
	var query string
	e.stream("POST /images/load", func(q, _ string) { query = q }, `{"stream":"Loaded image: x\n"}`)
	if got := tare(t, e.host, "tar", "load"); got != (result{"Loaded image: x\n", "", 0}) || query != "quiet=1" {
		t.Errorf("asked for %q, got %+v", query, got)
	}
}

func TestCreateIsQuietAboutTheImage(t *testing.T) {
	for flag, want := range map[string]string{"-q": "", "--name=x": "Unable to find image 'x:1' locally\n" + pulledLines} {
		e := newFakeEngine(t)
		there := false
		e.stream("POST /images/create", func(string, string) { there = true }, pulled...)
		e.handle["POST /containers/create"] = func(w http.ResponseWriter, r *http.Request) {
			if there {
				e.create(w, r)
				return
			}
			refuse(w, http.StatusNotFound, "No such image: x:1")
		}
		if got := tare(t, e.host, "", "create", flag, "docker.io/library/x:1"); got != (result{"0123456789abcdef\n", want, 0}) {
			t.Errorf("%s: got %+v", flag, got)
		}
	}
}
