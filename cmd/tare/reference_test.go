package main

import (
	"strings"
	"testing"

	"github.com/distribution/reference"
)

// normalized is what docker's command line makes of a reference, by the library.
func normalized(s string) (string, error) {
	ref, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return "", err
	}
	if _, ok := ref.(reference.Canonical); !ok {
		ref = reference.TagNameOnly(ref)
	}
	return ref.String(), nil
}

var someReferences = []string{
	"x", "x:1", "x:", ":x", "", "/", "x/", "/x", "x//y", "a/b/c:1", "docker.io/x", "docker.io/x/y", "index.docker.io/x", "localhost/x", "LOCAL/x", "Local/X", "X", "x:X", "x:1:2", "h:5000/x", "h:5000/x:1", "h:/x", "h:x/y", "h:5000",
	"a_b.c/x", "a__b", "a___b", "a._b", "a..b", "a--b", "a---b", "-a", "a-", "a.b", "_a", "a_", "x:.1", "x:-1", "x:_1", "x:" + strings.Repeat("1", 128), "x:" + strings.Repeat("1", 129),
	"[::1]:5000/x", "[::1]/x", "[]/x", "[::1]x/y", "[::1/x", "[g]/x", "h-/x.y/z", "-h.x/y", "a.-b/x", "a..b/x", "h.:1/x", "127.0.0.1/x", "h.x/" + strings.Repeat("a", 255), "h.x/" + strings.Repeat("a", 256), strings.Repeat("a", 248), strings.Repeat("a", 247),
	strings.Repeat("a", 64), strings.Repeat("a", 64) + ":1", strings.Repeat("A", 64), strings.Repeat("a", 63),
	"x@sha256:" + strings.Repeat("0", 64), "x:1@sha256:" + strings.Repeat("0", 64), "x@sha256:" + strings.Repeat("0", 63), "x@sha256:" + strings.Repeat("A", 64), "x@sha256:" + strings.Repeat("0", 31),
	"x@sha512:" + strings.Repeat("0", 128), "x@md5:" + strings.Repeat("0", 32), "x@SHA256:" + strings.Repeat("0", 64), "x:1@SHA256:" + strings.Repeat("0", 64), "x@", "x@y@sha256:" + strings.Repeat("0", 64), "x@a+b.c:" + strings.Repeat("0", 32), "x@a++b:" + strings.Repeat("0", 32), "x@1:" + strings.Repeat("0", 32),
	"x:K", "x:\u212a", "\u212a/x", "x y", "x\n", "x:1\n", "../x", "x/../y", "./x", "x/.", "h.x/y@sha256:" + strings.Repeat("0", 64) + "/z",
}

func sameAsDocker(t *testing.T, s string) {
	t.Helper()
	want, werr := normalized(s)
	got, gerr := normalize(s)
	if got != want || (gerr == nil) != (werr == nil) || gerr != nil && gerr.Error() != werr.Error() {
		t.Errorf("%q: got %q, %v; docker has %q, %v", s, got, gerr, want, werr)
	}
}

func TestNormalizeIsDockers(t *testing.T) {
	for _, s := range someReferences {
		sameAsDocker(t, s)
	}
}

func FuzzNormalize(f *testing.F) {
	for _, s := range someReferences {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { sameAsDocker(t, s) })
}
