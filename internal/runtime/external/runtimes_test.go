package external

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tare-engine/tare/internal/errdefs"
)

// fakeHost makes a PATH with the named programs.
func fakeHost(t *testing.T, programs ...string) {
	dir := t.TempDir()
	for _, p := range programs {
		if err := os.WriteFile(filepath.Join(dir, p), []byte("#!/bin/sh\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
}

func names(r *Runtimes) string {
	var all []string
	for _, x := range r.All() {
		all = append(all, x.Name)
	}
	return strings.Join(all, " ")
}

func TestTheHostsRuntimesAreRegistered(t *testing.T) {
	for _, tc := range []struct {
		programs []string
		want     string
	}{
		{nil, "tare"},
		{[]string{"runc"}, "runc tare"},
		{[]string{"runc", "crun"}, "crun runc tare"},
	} {
		fakeHost(t, tc.programs...)
		r, err := NewRuntimes(nil, "")
		if err != nil || names(r) != tc.want || r.Default() != Own {
			t.Errorf("with %v: %q, default %q, %v; want %q", tc.programs, names(r), r.Default(), err, tc.want)
		}
	}
}

func TestRegisteredRuntimesReplace(t *testing.T) {
	fakeHost(t, "runc")
	mine := Runtime{Name: "runc", Path: "/opt/runc", Args: []string{"--debug"}}
	r, err := NewRuntimes([]Runtime{mine, {Name: "runsc", Path: "/opt/runsc"}}, "runsc")
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := r.Get("runc"); !ok || got.Path != mine.Path || len(got.Args) != 1 {
		t.Errorf("runc is %+v, %v", got, ok)
	}
	if got, err := r.Resolve(""); got != "runsc" || err != nil {
		t.Errorf("the default is %q, %v", got, err)
	}
	if _, ok := r.Get(Own); ok {
		t.Error("the engine's own runtime is said to be a program")
	}
}

func TestNamesThatAreRefused(t *testing.T) {
	fakeHost(t)
	for name, want := range map[string]string{
		"tare":                              "reserved",
		"a/b":                               "invalid runtime name",
		"..":                                "invalid runtime name",
		"":                                  "invalid runtime name",
		"io.containerd.runc.v2":             "use --runtime runc",
		"io.containerd.kata.v2":             "register the runtime's OCI command line",
		"/usr/bin/containerd-shim-runsc-v1": "use --runtime runsc",
	} {
		if _, err := NewRuntimes([]Runtime{{Name: name, Path: "/x"}}, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
	if _, err := NewRuntimes(nil, "nosuch"); err == nil || err.Error() != "specified default runtime 'nosuch' does not exist" {
		t.Errorf("default-runtime: %v", err)
	}
}

func TestAskedForRuntimes(t *testing.T) {
	fakeHost(t, "runc")
	r, err := NewRuntimes(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"": "tare", "tare": "tare", "runc": "runc",
		"foo":                    "unknown or invalid runtime name: foo",
		"crun":                   "unknown or invalid runtime name: crun",
		"io.containerd.runc.v2":  `runtime "io.containerd.runc.v2" is a shim of containerd, which this engine does not run; use --runtime runc, registered by --add-runtime runc=PATH unless "info" lists it`,
		strings.Repeat("x", 300): "unknown or invalid runtime name: " + strings.Repeat("x", 64) + "...",
	} {
		got, err := r.Resolve(name)
		if err != nil {
			got = err.Error()
			if !errdefs.Is(err, errdefs.InvalidArgument) {
				t.Errorf("%q: %v is of kind %v", name, err, errdefs.KindOf(err))
			}
		}
		if got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

func TestReplacedRuntimes(t *testing.T) {
	r, err := NewRuntimes(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	by, err := NewRuntimes([]Runtime{{Name: "mine", Path: "/x"}}, "mine")
	if err != nil {
		t.Fatal(err)
	}
	r.Replace(by)
	if _, ok := r.Get("mine"); !ok || r.Default() != "mine" {
		t.Error("the old ones are in use")
	}
}
