package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestArchivesAreWrittenWhole: a file is replaced by a whole archive or not at
// all, and nothing stays beside it.
func TestArchivesAreWrittenWhole(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "a.tar"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(file, []byte("before"), 0o644), os.Symlink("a.tar", link)); err != nil {
		t.Fatal(err)
	}
	from := func(r io.Reader, err error) func() (io.ReadCloser, error) {
		return func() (io.ReadCloser, error) { return io.NopCloser(r), err }
	}
	cut := errors.New("cut off")
	for name, open := range map[string]func() (io.ReadCloser, error){
		"refused": from(nil, cut),
		"broken":  from(io.MultiReader(strings.NewReader("some"), brokenReader{cut}), nil),
	} {
		if err := writeArchive(nil, file, open); !errors.Is(err, cut) {
			t.Errorf("%s: %v", name, err)
		}
		if b, err := os.ReadFile(file); string(b) != "before" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if err := writeArchive(nil, link, from(strings.NewReader("after"), nil)); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); string(b) != "after" {
		t.Errorf("%q, %v", b, err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 2 {
		t.Errorf("left: %v, %v", list, err)
	}
	asked := false
	for path, want := range map[string]string{dir: "cannot write to a directory", filepath.Join(dir, "no/x"): "invalid output path: stat "} {
		err := writeArchive(nil, path, func() (io.ReadCloser, error) { asked = true; return nil, cut })
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if asked {
		t.Error("the engine was asked for what cannot be written")
	}
}

type brokenReader struct{ err error }

func (b brokenReader) Read([]byte) (int, error) { return 0, b.err }
