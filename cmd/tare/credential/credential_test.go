//go:build !windows

package credential

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/registry"
)

// store makes a file of a text, "" for none, and opens it.
func store(t *testing.T, text string) *Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	if text != "" {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return open(t, path)
}

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func get(t *testing.T, s *Store, server string) registry.AuthConfig {
	t.Helper()
	a, err := s.Get(server)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func contents(t *testing.T, s *Store) (doc map[string]any) {
	t.Helper()
	text, err := os.ReadFile(s.path)
	if err == nil {
		err = json.Unmarshal(text, &doc)
	}
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// noHelpers takes the programs of this machine out of the way.
func noHelpers(t *testing.T) { t.Setenv("PATH", t.TempDir()) }

func TestServers(t *testing.T) {
	for name, want := range map[string]string{
		"": Hub, "docker.io": Hub, "index.docker.io": Hub, Hub: Hub, "https://registry-1.docker.io/v2/": Hub,
		"h:5000": "h:5000", "https://h:5000/v2/": "h:5000", "http://h": "h", "h/path": "h",
		"https://index.docker.io/v1/access-token": "https://index.docker.io/v1/access-token",
		"https://index.docker.io.evil/v1/":        "index.docker.io.evil",
	} {
		if got := ServerOf(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestGetFindsAllForms(t *testing.T) {
	s := store(t, `{"auths":{
		"new:1": {"auth":"YTpiOmM="},
		"https://old:2/v1/": {"username":"a","password":"b:c"},
		"https://index.docker.io/v1/": {"auth":"YTo=","identitytoken":"T"},
		"https://index.docker.io/v1/access-token": {"auth":"eDp5"},
		"tok": {"registrytoken":"R"}, "empty": {}
	}}`)
	for server, want := range map[string]registry.AuthConfig{
		"new:1": {Username: "a", Password: "b:c"}, "old:2": {Username: "a", Password: "b:c"},
		Hub: {Username: "a", IdentityToken: "T"}, "tok": {RegistryToken: "R"}, "empty": {}, "none": {},
		"new": {}, "1": {}, // another port is another server
	} {
		want.ServerAddress = server
		if got := get(t, s, server); got != want {
			t.Errorf("%s: got %+v, want %+v", server, got, want)
		}
	}
}

func TestErrorsHaveNoSecret(t *testing.T) {
	const secret = "c2VjcmV0" // no colon therein
	if _, err := store(t, `{"auths":{"h":{"auth":"`+secret+`"}}}`).Get("h"); err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), secret) {
		t.Errorf("got %v", err)
	}
	t.Setenv(Environment, `{"auths":"`+secret+`"}`)
	if _, err := Open(filepath.Join(t.TempDir(), "config.json")); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("got %v", err)
	}
}

func TestSetAndErase(t *testing.T) {
	noHelpers(t)
	s := store(t, `{"psFormat":"x","auths":{"other":{"auth":"YTpi","email":"e"},"https://h:5000":{"auth":"b2xkOm9sZA=="}}}`)
	a := registry.AuthConfig{ServerAddress: "h:5000", Username: "alice", Password: "pw"}
	if plain, err := s.Set(a); err != nil || !plain {
		t.Errorf("plain %v, %v; a password in the file is to be told", plain, err)
	}
	s = open(t, s.path)
	if got := get(t, s, "h:5000"); got != a {
		t.Errorf("got %+v", got)
	}
	if plain, err := s.Set(a); err != nil || plain {
		t.Errorf("plain %v, %v; the same again is no news", plain, err)
	}
	if err := s.Erase("h:5000"); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"psFormat": "x", "auths": map[string]any{"other": map[string]any{"auth": "YTpi", "email": "e"}}}
	if diff := cmp.Diff(want, contents(t, s)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if info, err := os.Stat(s.path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestAnIdentityTokenIsNoPassword(t *testing.T) {
	noHelpers(t)
	s := store(t, "")
	plain, err := s.Set(registry.AuthConfig{ServerAddress: "h", Username: "alice", IdentityToken: "T"})
	if err != nil || plain {
		t.Errorf("plain %v, %v", plain, err)
	}
	want := map[string]any{"auths": map[string]any{"h": map[string]any{"auth": "YWxpY2U6", "identitytoken": "T"}}}
	if diff := cmp.Diff(want, contents(t, s)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestEraseOfNothingWritesNothing(t *testing.T) {
	s := store(t, "")
	if err := s.Erase("h"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.path); !os.IsNotExist(err) {
		t.Errorf("a file was made: %v", err)
	}
}

func TestHubIsForgottenWhole(t *testing.T) {
	s := store(t, `{"auths":{"https://index.docker.io/v1/":{},"https://index.docker.io/v1/access-token":{},"https://index.docker.io/v1/refresh-token":{},"docker.io":{},"h":{}}}`)
	if err := s.Erase(Hub); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"auths": map[string]any{"h": map[string]any{}}}, contents(t, s)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestTheEnvironmentGoesFirst(t *testing.T) {
	t.Setenv(Environment, `{"auths":{"h":{"auth":"ZW52OnB3"}}}`)
	s := store(t, `{"auths":{"h":{"auth":"YTpi"},"other":{"auth":"YTpi"}}}`)
	if got := get(t, s, "h"); got.Username != "env" || got.Password != "pw" {
		t.Errorf("got %+v", got)
	}
	if got := get(t, s, "other"); got.Username != "a" {
		t.Errorf("got %+v", got)
	}
}

// install puts a helper into PATH that keeps what it is given in files beside
// it, and notes how it is called.
func install(t *testing.T, name string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	script := `#!/bin/sh
cd ` + dir + `; in=$(cat); echo "$@" >> calls
key() { echo "$1" | tr -c 'A-Za-z0-9\n' _; }
case $1 in
store) server=$(echo "$in" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/'); echo "$in" > "kept-$(key "$server")";;
get) cat "kept-$(key "$in")" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; };;
erase) rm "kept-$(key "$in")" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; };;
esac
`
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-"+name), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	return dir
}

func TestHelperKeepsTheSecret(t *testing.T) {
	dir := install(t, "test")
	s := store(t, `{"credsStore":"nosuch","credHelpers":{"h:5000":"test"}}`)
	a := registry.AuthConfig{ServerAddress: "h:5000", Username: "alice", Password: "topsecret"}
	if plain, err := s.Set(a); err != nil || plain {
		t.Errorf("plain %v, %v", plain, err)
	}
	s = open(t, s.path)
	if got := get(t, s, "h:5000"); got != a {
		t.Errorf("got %+v", got)
	}
	text, _ := os.ReadFile(s.path)
	calls, _ := os.ReadFile(filepath.Join(dir, "calls"))
	if strings.Contains(string(text)+string(calls), "secret") || string(calls) != "store\nget\n" {
		t.Errorf("file %s, calls %q", text, calls)
	}
	if diff := cmp.Diff(map[string]any{"h:5000": map[string]any{}}, contents(t, s)["auths"]); diff != "" {
		t.Errorf("the file lists what the helper has: -want +got:\n%s", diff)
	}
	token := registry.AuthConfig{ServerAddress: "h:5000", Username: "alice", IdentityToken: "T"}
	if _, err := s.Set(token); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, "h:5000"); got.IdentityToken != "T" || got.Password != "" || got.Username != "" {
		t.Errorf("got %+v", got)
	}
	if err := s.Erase("h:5000"); err != nil {
		t.Fatal(err)
	}
	s = open(t, s.path)
	if got := get(t, s, "h:5000"); got.IdentityToken != "" {
		t.Errorf("got %+v", got)
	}
	if err := s.Erase("h:5000"); err == nil {
		t.Error("a helper that fails for every name is not told of")
	}
}

func TestHelpersThatFail(t *testing.T) {
	dir := install(t, "test")
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-leaky"), []byte("#!/bin/sh\necho '{\"Secret\":\"topsecret\"}'; exit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"nosuch":  `exec: "docker-credential-nosuch": executable file not found`,
		"leaky":   "exit status 1",
		"../test": "invalid name",
	} {
		s := store(t, `{"credsStore":"`+name+`"}`)
		_, err := s.Get("h")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNewUsersGetAHelper: the first log-in takes the one that is installed.
func TestNewUsersGetAHelper(t *testing.T) {
	dir := install(t, "pass")
	if err := os.WriteFile(filepath.Join(dir, "pass"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := store(t, "")
	if plain, err := s.Set(registry.AuthConfig{ServerAddress: "h", Username: "a", Password: "b"}); err != nil || plain {
		t.Errorf("plain %v, %v", plain, err)
	}
	want := map[string]any{"credsStore": "pass", "auths": map[string]any{"h": map[string]any{}}}
	if diff := cmp.Diff(want, contents(t, s)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
