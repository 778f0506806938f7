package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// registry is an engine that lets alice in, with the password "right".
func (e *fakeEngine) registry(t *testing.T, token string) (seen *[]map[string]string) {
	t.Helper()
	seen = new([]map[string]string)
	e.on("POST /auth", func(w http.ResponseWriter, r *http.Request) {
		var a map[string]string
		if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
			t.Error(err)
		}
		e.mu.Lock()
		*seen = append(*seen, a)
		e.mu.Unlock()
		if a["username"] != "alice" || a["password"] != "right" {
			refuse(w, http.StatusUnauthorized, "unauthorized: incorrect username or password\x1b[2J")
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"Status": "Login Succeeded", "IdentityToken": token})
	})
	return seen
}

const (
	insecure  = "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n"
	plaintext = "\nWARNING! Your credentials are stored unencrypted in 'FILE'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n\n"
	existing  = "Authenticating with existing credentials... [Username: alice]\n\n Info -> To login with a different account, run 'tare logout' followed by 'tare login'\n\n\n"
	noTTY     = "Error: Cannot perform an interactive login from a non TTY device\n"
	entry     = `"auth": "YWxpY2U6cmlnaHQ="` // alice:right
)

func TestLogin(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // no helpers
	for _, c := range []struct {
		line, stdin, config string
		want                result
		file                string // a part of the file afterwards; "" is what it was
	}{
		{"-u alice --password-stdin h:5000", "right\r\n", "", result{"Login Succeeded\n", plaintext, 0}, "\"h:5000\": {\n\t\t\t" + entry},
		{"-u alice --password-stdin https://h:5000/v2/", "right", `{"x":1}`, result{"Login Succeeded\n", plaintext, 0}, "\"h:5000\": {\n\t\t\t" + entry},
		{"-u alice -p right", "", "", result{"Login Succeeded\n", insecure + plaintext, 0}, "\"https://index.docker.io/v1/\": {\n\t\t\t" + entry},
		{"-u alice -p right docker.io", "", "", result{"Login Succeeded\n", insecure + plaintext, 0}, "\"https://index.docker.io/v1/\": {\n\t\t\t" + entry},
		{"-u alice -p wrong h", "", "", result{"", insecure + "Error response from daemon: unauthorized: incorrect username or password\\x1b[2J\n", 1}, ""},
		{"-u alice -p right --password-stdin h", "", "", result{"", "conflicting options: cannot specify both --password and --password-stdin\n", 1}, ""},
		{"--password-stdin h", "right", "", result{"", "the --password-stdin option requires --username to be set\n", 1}, ""},
		{"-u alice --password-stdin h", "\n", "", result{"", "password is empty\n", 1}, ""},
		{"-u alice h", "right\n", "", result{"", noTTY, 1}, ""},
		{"h", "alice\nright\n", "", result{"", noTTY, 1}, ""},
		{"h", "", `{"auths":{"h":{"auth":"YWxpY2U6cmlnaHQ="}}}`, result{"Login Succeeded\n", existing, 0}, ""},
		{"h", "", `{"auths":{"h":{"auth":"YWxpY2U6d3Jvbmc="}}}`, result{"", existing + "Stored credentials invalid or expired\n" + noTTY, 1}, ""},
		{"h", "", `{"auths":{"h":{"auth":"YWxpY2U6","identitytoken":"T"}}}`, result{"", noTTY, 1}, ""},
	} {
		e := newFakeEngine(t)
		e.registry(t, "")
		got, file := withConfig(t, e.host, c.config, c.stdin, append([]string{"login"}, strings.Fields(c.line)...)...)
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(result{})); diff != "" {
			t.Errorf("%s: -want +got:\n%s", c.line, diff)
		}
		if c.file == "" && file != c.config || !strings.Contains(file, c.file) {
			t.Errorf("%s: the file is %s", c.line, file)
		}
		if strings.Contains(got.out+got.err, "right") {
			t.Errorf("%s: shows the password", c.line)
		}
	}
}

// TestLoginKeepsTheTokenInPlaceOfThePassword, which is nothing to warn of.
func TestLoginKeepsTheTokenInPlaceOfThePassword(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	e := newFakeEngine(t)
	seen := e.registry(t, "TOKEN")
	got, file := withConfig(t, e.host, "", "right", "login", "-u", "alice", "--password-stdin", "h")
	if got != (result{"Login Succeeded\n", "", 0}) || !strings.Contains(file, `"identitytoken": "TOKEN"`) || strings.Contains(file, "cmlnaHQ") {
		t.Errorf("got %+v, file %s", got, file)
	}
	want := []map[string]string{{"username": "alice", "password": "right", "serveraddress": "h"}}
	if diff := cmp.Diff(want, *seen); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLogout(t *testing.T) {
	config := `{"auths":{"https://h:5000":{"auth":"YTpi"},"https://index.docker.io/v1/":{"auth":"YTpi"}}}`
	for line, want := range map[string]struct{ out, left string }{
		"":       {"Removing login credentials for https://index.docker.io/v1/\n", "h:5000"},
		"h:5000": {"Removing login credentials for h:5000\n", "index.docker.io"},
		"none":   {"Removing login credentials for none\n", "YTpi"},
	} {
		got, file := withConfig(t, "unix:///nonexistent", config, "", append([]string{"logout"}, strings.Fields(line)...)...)
		if got != (result{want.out, "", 0}) || !strings.Contains(file, want.left) || line != "none" && strings.Count(file, "YTpi") != 1 {
			t.Errorf("%q: got %+v, file %s", line, got, file)
		}
	}
	got, _ := withConfig(t, "unix:///nonexistent", `{"credsStore":"of-nobody"}`, "", "logout", "h")
	if got.code != 0 || !strings.HasPrefix(got.err, "WARNING: could not erase credentials:\nh: error erasing credentials") {
		t.Errorf("got %+v", got)
	}
}
