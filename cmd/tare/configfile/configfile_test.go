package configfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func read(t *testing.T, path string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return m
}

func set(key string, value any) func(Fields) error {
	return func(f Fields) error { return f.Set(key, value) }
}

func TestEditKeepsWhatItDoesNotKnow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(`{"plugins":{"x":{"y":12345678901234567890123}},"a":1}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Edit(path, set("b", "two")); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(path)
	if want := "{\n\t\"a\": 1,\n\t\"b\": \"two\",\n\t\"plugins\": {\n\t\t\"x\": {\n\t\t\t\"y\": 12345678901234567890123\n\t\t}\n\t}\n}"; string(text) != want {
		t.Errorf("got %s", text)
	}
	if i, err := os.Stat(path); err != nil || i.Mode() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", i.Mode(), err)
	}
	if err := Edit(path, set("b", nil)); err != nil {
		t.Fatal(err)
	}
	if _, there := read(t, path)["b"]; there {
		t.Error("the key is still there")
	}
}

func TestEditMakesFileAndDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "config.json")
	if err := Edit(path, set("a", 1)); err != nil {
		t.Fatal(err)
	}
	if i, err := os.Stat(filepath.Dir(path)); err != nil || i.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v; want 0700", i.Mode(), err)
	}
	read(t, path)
}

func TestEditFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	link, real := filepath.Join(dir, "config.json"), filepath.Join(dir, "real.json")
	if err := os.Symlink("real.json", link); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "b"} { // the second finds a file there
		if err := Edit(link, set(key, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if len(read(t, real)) != 2 {
		t.Errorf("got %v", read(t, real))
	}
	if _, err := os.Readlink(link); err != nil {
		t.Error("the link is gone: ", err)
	}
}

func TestEditLeavesABadFileAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	os.WriteFile(path, []byte(`{"a":`), 0o600)
	if err := Edit(path, set("b", 1)); err == nil {
		t.Error("no error")
	}
	os.WriteFile(path, []byte(`{"a":1}`), 0o600)
	want := errors.New("no")
	if err := Edit(path, func(f Fields) error { f.Set("a", 2); return want }); !errors.Is(err, want) {
		t.Error(err)
	}
	if read(t, path)["a"] != 1.0 {
		t.Error("a refused change was written")
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	if len(left) != 1 {
		t.Errorf("left behind: %q", left)
	}
}

func TestEditsAtOnceLoseNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := Edit(path, set(fmt.Sprint(i), i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(read(t, path)); n != 20 {
		t.Errorf("%d keys of 20", n)
	}
}
