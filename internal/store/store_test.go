package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

type doc struct{ A string }

func TestPutThenGet(t *testing.T) {
	s, p := New(), filepath.Join(t.TempDir(), "r.json")
	for _, want := range []string{"one", "two"} {
		if err := s.Put(p, doc{want}); err != nil {
			t.Fatal(err)
		}
		var d doc
		if err := Get(p, &d); err != nil || d.A != want {
			t.Fatal(d, err)
		}
	}
}

func TestConcurrentWritersEachSucceed(t *testing.T) {
	s, dir := New(), t.TempDir()
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if err := s.Put(filepath.Join(dir, fmt.Sprint(i)), doc{fmt.Sprint(i)}, dir); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	es, _ := os.ReadDir(dir)
	if len(es) != 100 {
		t.Fatalf("%d entries, want 100 and no temporary file", len(es))
	}
}

func TestFailedPutLeavesTheOldRecord(t *testing.T) {
	s, dir := New(), t.TempDir()
	p := filepath.Join(dir, "r")
	if err := s.Put(p, doc{"old"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(p, func() {}); err == nil {
		t.Fatal("a function was written as JSON")
	}
	if err := s.Put(filepath.Join(dir, "gone", "r"), doc{}); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var d doc
	if err := Get(p, &d); err != nil || d.A != "old" {
		t.Fatal(d, err)
	}
}

func TestDamagedRecordIsNamedAndSetAside(t *testing.T) {
	p := filepath.Join(t.TempDir(), "r.json")
	os.WriteFile(p, make([]byte, 20), 0600)
	if err := Get(p, &doc{}); err == nil || !strings.Contains(err.Error(), p) {
		t.Fatal(err)
	}
	to, err := SetAside(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(to); err != nil {
		t.Fatal(err)
	}
}

func TestPutVolatile(t *testing.T) {
	p := filepath.Join(t.TempDir(), "r")
	if err := PutVolatile(p, doc{"x"}); err != nil {
		t.Fatal(err)
	}
	var d doc
	if err := Get(p, &d); err != nil || d.A != "x" {
		t.Fatal(d, err)
	}
	fi, _ := os.Stat(p)
	if fi.Mode().Perm() != 0600 {
		t.Fatal(fi.Mode())
	}
}
