//go:build root

package runtime

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// TestOverlays: a mount may be an overlay of directories of the host, however long their
// names are, as the results of a build's stages are.
func TestOverlays(t *testing.T) {
	l, dir := newLab(t), t.TempDir()
	long := filepath.Join(dir, strings.Repeat("long/", 60), "a:b")
	lower, upper, work := []string{long, filepath.Join(dir, "b")}, filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	for _, d := range append([]string{upper, work}, lower...) {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if d != work && d != upper {
			if err := os.WriteFile(filepath.Join(d, "of-"+filepath.Base(d)[:1]), []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	dirs := "lowerdir=" + strings.ReplaceAll(long, ":", `\:`) + ":" + lower[1]
	for _, c := range []struct {
		name, script, want string
		options            []string
	}{
		{"read-only", "ls /deep/in/x; touch /deep/in/x/y 2>/dev/null || echo refused", "of-a\nof-b\nrefused\n", []string{dirs}},
		{"writable", "touch /deep/in/x/y; ls /deep/in/x", "of-a\nof-b\ny\n", []string{"index=off", "redirect_dir=off", dirs, "upperdir=" + upper, "workdir=" + work}},
		{"writable, but ro", "touch /deep/in/x/z 2>/dev/null || echo refused", "refused\n", []string{"ro", dirs, "upperdir=" + upper, "workdir=" + work}},
	} {
		s := dockerSpec(t, "sh", "-c", c.script)
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/deep/in/x", Type: "overlay", Source: "overlay", Options: c.options})
		if got := l.run(rootDir(t), s); got.err != nil || got.out != c.want {
			t.Errorf("%s: %q, %v", c.name, got.out, got.err)
		}
	}
	if _, err := os.Stat(filepath.Join(upper, "y")); err != nil {
		t.Error("what was written is not in the upper directory:", err)
	}
	for want, options := range map[string][]string{
		"an overlay needs lowerdir": {"upperdir=" + upper, "workdir=" + work},
		"upperdir and workdir":      {dirs, "upperdir=" + upper},
		"no such file":              {"lowerdir=/no/such:/tmp"},
		"invalid argument":          {dirs, "no_such_option=1"},
	} {
		s := dockerSpec(t, "true")
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "overlay", Source: "overlay", Options: options})
		if got := l.run(rootDir(t), s); got.err == nil || !strings.Contains(got.err.Error(), want) {
			t.Errorf("%q: %v, want %s", options, got.err, want)
		}
	}
}

func TestSplitDirs(t *testing.T) {
	for s, want := range map[string][]string{
		"/a": {"/a"}, "/a:/b": {"/a", "/b"}, `/a\:b:/c`: {"/a:b", "/c"}, `/a\\:/b`: {`/a\`, "/b"}, "": {""}, "/a::/b": {"/a", "", "/b"}, `/a\`: {`/a\`},
	} {
		if got := splitDirs(s); !slices.Equal(got, want) {
			t.Errorf("%q: %q", s, got)
		}
	}
}
