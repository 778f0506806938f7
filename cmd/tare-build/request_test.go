package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bkclient "github.com/moby/buildkit/client"
	"github.com/spf13/pflag"
)

// parsed is the request of a command line.
func parsed(t *testing.T, args ...string) *request {
	t.Helper()
	var o request
	f := pflag.NewFlagSet("build", pflag.ContinueOnError)
	o.Add(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	if f.NArg() > 0 {
		o.Context = f.Arg(0)
	}
	return &o
}

func TestAttrs(t *testing.T) {
	t.Setenv("FROM_HERE", "here")
	t.Setenv("HTTP_PROXY", "http://not.passed.on")
	const always = "image-resolve-mode=local "
	for line, want := range map[string]string{
		"": always,
		"--build-arg SOURCE_DATE_EPOCH=8 --build-arg FROM_HERE --build-arg NOT_HERE --build-arg A=b=c": always + "build-arg:A=b=c build-arg:FROM_HERE=here build-arg:SOURCE_DATE_EPOCH=8",
		"--pull --no-cache --network none --target t --label l":                                        "image-resolve-mode=pull  force-network-mode=none label:l= no-cache= target=t",
		"--add-host a:1.2.3.4 --add-host b=[::1] --ulimit nofile=1:2 --shm-size 1k":                    always + "add-hosts=a=1.2.3.4,b=::1  shm-size=1024 ulimit=nofile=1:2",
		"--sbom true --provenance mode=max --platform a --platform b":                                  always + "attest:provenance=mode=max attest:sbom=  platform=a,b",
		"--sbom=false": always,
	} {
		a, err := parsed(t, strings.Fields(line)...).attrs()
		var got []string
		for _, k := range slices.Sorted(maps.Keys(a)) {
			got = append(got, k+"="+a[k])
		}
		words := strings.Fields(want)
		slices.Sort(words)
		slices.Sort(got)
		if err != nil || !slices.Equal(got, words) {
			t.Errorf("%s: %q, %v, want %q", line, got, err, words)
		}
	}
	for line, want := range map[string]string{
		"--network mine":                         `network mode "mine" not supported`,
		"--no-cache --no-cache-filter a":         "cannot be used together",
		"--add-host a":                           `bad format for add-host: "a"`,
		"--attest type=other":                    `invalid attestation "type=other"`,
		"--sbom true --attest type=sbom,scan=no": "duplicate attestation field sbom",
	} {
		if _, err := parsed(t, strings.Fields(line)...).attrs(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
}

func TestEpochGiven(t *testing.T) {
	for _, c := range []struct{ argument, environment, want string }{
		{"8", "7", "8"}, {"", "7", ""}, {"none", "7", "7"}, {"none", "", "none"},
	} {
		t.Setenv(epochName, c.environment)
		a := map[string]string{}
		if c.argument != "none" {
			a[epochAttr] = c.argument
		}
		given := epochGiven(a)
		if v, ok := a[epochAttr]; !given || ok && v != c.want || !ok && c.want != "none" {
			t.Errorf("%+v: %v %q", c, given, a)
		}
	}
	os.Unsetenv(epochName)
	if epochGiven(map[string]string{}) {
		t.Error("a time is given by nobody")
	}
}

func TestProxiesAreArgumentsUnlessTheBuildHasIts(t *testing.T) {
	o := parsed(t, "--build-arg", "http_proxy=")
	o.proxies = []string{"HTTP_PROXY=http://p", "http_proxy=http://p"}
	a, err := o.attrs()
	if own, given := a["build-arg:http_proxy"]; err != nil || !given || own != "" || a["build-arg:HTTP_PROXY"] != "http://p" {
		t.Errorf("%q, %v", a, err)
	}
}

func TestInputs(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		dir:                                    "filename=Dockerfile; context dockerfile",
		"-f " + dir + "/Dockerfile " + dir:     "filename=Dockerfile; context dockerfile",
		"--build-context a=" + dir + " " + dir: "context:a=local:a filename=Dockerfile; a context dockerfile",
		"--build-context context=" + dir + " " + dir:         "context:context=local:_context filename=Dockerfile; _context context dockerfile",
		"--build-context a=docker-image://b https://c/d.git": "context:a=docker-image://b context=https://c/d.git; ",
		"-f sub/Dockerfile git@c:d.git":                      "context=git@c:d.git filename=sub/Dockerfile; ",
	} {
		s := &bkclient.SolveOpt{FrontendAttrs: map[string]string{}}
		o := parsed(t, strings.Fields(line)...)
		if err := o.inputs(s); err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		var attrs []string
		for k, v := range s.FrontendAttrs {
			attrs = append(attrs, k+"="+v)
		}
		slices.Sort(attrs)
		if got := strings.Join(attrs, " ") + "; " + strings.Join(slices.Sorted(maps.Keys(s.LocalMounts)), " "); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
	for line, want := range map[string]string{
		dir + "/none":                    `unable to prepare context: path "` + dir + `/none" not found`,
		"-f " + dir + "/other " + dir:    "failed to read dockerfile: open " + dir + "/other: no such file or directory",
		"-f - -":                         "can't use stdin for both",
		"--build-context a " + dir:       "invalid context value: a, expected key=value",
		"--build-context a=/none " + dir: `failed to get build context a: path "/none" is not a directory`,
	} {
		s := &bkclient.SolveOpt{FrontendAttrs: map[string]string{}}
		if err := parsed(t, strings.Fields(line)...).inputs(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
}

func TestExports(t *testing.T) {
	for line, want := range map[string]string{
		"":                                "moby",
		"-t a":                            "moby name=docker.io/library/a:latest",
		"--push -t h/a:1":                 "image name=docker.io/h/a:1 push=true",
		"--push --load -t h/a":            "image name=docker.io/h/a:latest push=true, moby name=docker.io/h/a:latest",
		"-o type=docker --annotation k=v": "moby annotation.k=v",
		"--annotation index:k=v -t localhost:5000/a": "moby annotation-index.k=v name=localhost:5000/a:latest",
	} {
		list, err := parsed(t, strings.Fields(line)...).exports()
		var got []string
		for _, e := range list {
			words := []string{e.Type}
			for _, k := range slices.Sorted(maps.Keys(e.Attrs)) {
				words = append(words, k+"="+e.Attrs[k])
			}
			got = append(got, strings.Join(words, " "))
		}
		if strings.Join(got, ", ") != want || err != nil {
			t.Errorf("%s: %q, %v, want %s", line, got, err, want)
		}
	}
	if _, err := parsed(t, "--push").exports(); err == nil || err.Error() != "tag is needed when pushing to registry" {
		t.Error(err)
	}
}
