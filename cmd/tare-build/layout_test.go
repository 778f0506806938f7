package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
)

// putLayout makes a layout whose images have these tags.
func putLayout(t *testing.T, tags ...string) (dir string, digests []digest.Digest) {
	t.Helper()
	dir = t.TempDir()
	var list []string
	for n, tag := range tags {
		text := fmt.Sprint("manifest ", n)
		d := digest.FromString(text)
		digests = append(digests, d)
		path := filepath.Join(dir, "blobs", "sha256", d.Encoded())
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprintf(`{"digest": %q, "size": %d, "annotations": {"org.opencontainers.image.ref.name": %q}}`, d, len(text), tag))
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte(`{"manifests": [`+strings.Join(list, ",")+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, digests
}

func TestLayout(t *testing.T) {
	one, d1 := putLayout(t, "odd")
	two, d2 := putLayout(t, "a", "latest")
	for where, want := range map[string]digest.Digest{
		one:                         d1[0],
		one + ":odd":                d1[0],
		one + "@" + d1[0].String():  d1[0],
		two:                         d2[1],
		two + ":a":                  d2[0],
		two + ":b@" + string(d2[0]): d2[0],
	} {
		s := &bkclient.SolveOpt{FrontendAttrs: map[string]string{}}
		if err := layout(s, "n", layoutPrefix+where); err != nil {
			t.Errorf("%s: %v", where, err)
			continue
		}
		if got := s.FrontendAttrs["context:n"]; got != "oci-layout://layout-0@"+want.String() || s.OCIStores["layout-0"] == nil {
			t.Errorf("%s: %s", where, got)
		}
	}
	several, _ := putLayout(t, "a", "b")
	for where, want := range map[string]string{
		filepath.Join(one, "none"):         "no such file or directory",
		one + ":other":                     `it has no image with the tag "other", but odd`,
		one + "@sha256:12":                 `digest "sha256:12"`,
		one + "@sha256:" + zeros:           "it has no sha256:" + zeros,
		several:                            "it has 2 images: name one by its tag (a, b) or digest",
		several + "/index.json:a":          "not a directory",
		several + "@../../etc/passwd:0000": "digest",
	} {
		s := &bkclient.SolveOpt{FrontendAttrs: map[string]string{}}
		if err := layout(s, "n", layoutPrefix+where); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "build context n: OCI layout") {
			t.Errorf("%s: %v", where, err)
		}
	}
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"
