package cliplugin

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const sound = `{"SchemaVersion":"0.1.0","Vendor":"Tests","Version":"v1","ShortDescription":"x"}`

// put makes a plugin that says this of itself.
func put(t *testing.T, dir, name, metadata string) {
	t.Helper()
	script := "#!/bin/sh\n[ \"$1\" = docker-cli-plugin-metadata ] && cat <<'END'\n" + metadata + "\nEND\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-"+name), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestPluginsThatCannotBeUsedSayWhy(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]struct{ metadata, problem string }{
		"good":     {sound, ""},
		"future":   {`{"SchemaVersion":"1.9.0","Vendor":"v"}`, ""},
		"too":      {`{"SchemaVersion":"2.0.0","Vendor":"v"}`, "must be lower than 2.0.0"},
		"vendor":   {`{"SchemaVersion":"0.1.0"}`, "vendor"},
		"none":     {`{}`, "cannot be empty"},
		"text":     {`hello`, "invalid metadata"},
		"builtin":  {sound, "duplicates builtin command"},
		"Capital":  {sound, "is no name of a plugin"},
		"endless":  {strings.Repeat("x", metadataLimit+1), "failed to fetch metadata"},
		"schema":   {`{"SchemaVersion":"1","Vendor":"v"}`, "wrong format"},
		"shadowed": {sound, ""},
	} {
		put(t, dir, name, want.metadata)
		set := Set{Dirs: []string{"/nosuch", dir}, Builtin: func(name string) bool { return name == "builtin" }}
		i := slices.IndexFunc(set.List(context.Background()), func(p *Plugin) bool { return p.Name == name })
		p := set.List(context.Background())[i]
		if (want.problem == "") != (p.Err == nil) || !strings.Contains(p.Problem, want.problem) {
			t.Errorf("%s: %v, want %q", name, p.Err, want.problem)
		}
	}
}

func TestTheFirstDirectoryWins(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	put(t, first, "twice", sound)
	put(t, second, "twice", sound)
	set := Set{Dirs: []string{first, second}}
	list := set.List(context.Background())
	if len(list) != 1 || list[0].Path != filepath.Join(first, "docker-twice") || len(list[0].ShadowedPaths) != 1 {
		t.Errorf("%+v", list)
	}
	for _, name := range []string{"../twice", "nosuch", "", "TWICE"} {
		if p := set.Get(context.Background(), name); p != nil {
			t.Errorf("%q is %+v", name, p)
		}
	}
}

// TestPluginsOfOthersAreNotRun: a program that somebody else may have put there is not
// even asked what it is.
func TestPluginsOfOthersAreNotRun(t *testing.T) {
	for _, spoiled := range []string{"docker-mine", "."} {
		dir := t.TempDir()
		ran := filepath.Join(t.TempDir(), "ran")
		put(t, dir, "mine", sound+"\nEND\ntouch "+ran+"\ncat <<'END'")
		if err := os.Chmod(filepath.Join(dir, spoiled), 0o777); err != nil {
			t.Fatal(err)
		}
		p := Set{Dirs: []string{dir}}.Get(context.Background(), "mine")
		if p == nil || p.Err == nil || !strings.Contains(p.Problem, "can be changed by every user") {
			t.Errorf("%s: %+v", spoiled, p)
		}
		if _, err := os.Stat(ran); err == nil {
			t.Errorf("%s: it was run", spoiled)
		}
	}
}
