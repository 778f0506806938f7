package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// writeContext makes a context as docker's command line does.
func writeContext(t *testing.T, dir, name, host string) {
	t.Helper()
	meta := contextDir(dir, "meta", name)
	if err := os.MkdirAll(meta, 0o700); err != nil {
		t.Fatal(err)
	}
	text := `{"Name":"` + name + `","Metadata":{"Description":"d"},"Endpoints":{"docker":{"Host":"` + host + `","SkipTLSVerify":false}}}`
	if err := os.WriteFile(filepath.Join(meta, "meta.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestEndpoint(t *testing.T) {
	dir := t.TempDir()
	writeContext(t, dir, "remote", "tcp://1.2.3.4:5")
	writeContext(t, dir, "other", "unix:///other")
	for _, c := range []struct {
		name, tareHost, dockerHost, dockerContext, current, flagHost, flagContext, want string
	}{
		{name: "flag wins", tareHost: "unix:///t", flagHost: "/f", want: "unix:///f"},
		{name: "context flag wins", tareHost: "unix:///t", flagContext: "remote", want: "tcp://1.2.3.4:5"},
		{name: "ours before docker's", tareHost: "unix:///t", dockerHost: "unix:///d", want: "unix:///t"},
		{name: "host before context", dockerHost: "1.1.1.1:1", dockerContext: "remote", want: "tcp://1.1.1.1:1"},
		{name: "variable before file", dockerContext: "remote", current: "other", want: "tcp://1.2.3.4:5"},
		{name: "file", current: "other", want: "unix:///other"},
	} {
		t.Setenv("TARE_HOST", c.tareHost)
		t.Setenv("DOCKER_HOST", c.dockerHost)
		t.Setenv("DOCKER_CONTEXT", c.dockerContext)
		cl := &cli{}
		cl.global.context = c.flagContext
		if c.flagHost != "" {
			cl.global.hosts = []string{c.flagHost}
		}
		e, err := cl.endpoint(&configFile{dir: dir, CurrentContext: c.current})
		if err != nil || e.host != c.want {
			t.Errorf("%s: got %s, %v", c.name, e.host, err)
		}
	}
	t.Setenv("DOCKER_CONTEXT", "")
	if _, err := (&cli{}).endpoint(&configFile{dir: dir, CurrentContext: "nosuch"}); err == nil || !strings.Contains(err.Error(), `context "nosuch": context not found`) {
		t.Errorf("missing context: %v", err)
	}
}

// TestContextUseKeepsTheRest changes one key of a file whose others belong to
// docker's command line.
func TestContextUseKeepsTheRest(t *testing.T) {
	dir := t.TempDir()
	writeContext(t, dir, "remote", "tcp://1.2.3.4:5")
	c := &configFile{dir: dir}
	if err := os.WriteFile(c.path(), []byte(`{"auths":{"x":{}},"currentContext":"old"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.setCurrentContext("remote"); err != nil {
		t.Fatal(err)
	}
	read, err := readConfig(dir)
	text, _ := os.ReadFile(c.path())
	if err != nil || read.CurrentContext != "remote" || !strings.Contains(string(text), `"auths"`) {
		t.Errorf("%v: %s", err, text)
	}
}
