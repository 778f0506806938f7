package content

import (
	"bytes"
	"context"
	_ "crypto/sha512" // as in the engine: a digest of it is valid, and not ours
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/errdefs"
)

var ctx = context.Background()

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// add publishes blobs and returns their digests.
func add(t *testing.T, s *Store, blobs ...string) (ds []digest.Digest) {
	t.Helper()
	st, err := s.NewStage()
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for _, b := range blobs {
		d, err := st.AddBytes([]byte(b))
		if err != nil {
			t.Fatal(err)
		}
		ds = append(ds, d)
	}
	if err := st.Publish(); err != nil {
		t.Fatal(err)
	}
	return ds
}

func TestBlobs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "content")
	ds := add(t, open(t, dir), "one", "three")
	s := open(t, dir)
	if ds[0] != digest.FromString("one") || !s.Has(ds[0]) || s.Has(digest.FromString("two")) {
		t.Errorf("%v", ds)
	}
	if n, err := s.Size(ds[1]); n != 5 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if !s.HasWhole(ds[1], 5) || s.HasWhole(ds[1], 4) || s.HasWhole(digest.FromString("two"), 0) {
		t.Error("a blob has a size")
	}
	if b, err := s.Read(ctx, ds[1], 5); string(b) != "three" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := s.Read(ctx, ds[1], 4); errdefs.KindOf(err) != errdefs.InvalidArgument {
		t.Errorf("a blob above the limit: %v", err)
	}
	f, err := s.Open(ds[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, _ := io.ReadAll(f); string(b) != "one" {
		t.Errorf("%q", b)
	}
	if st, err := f.Stat(); err != nil || st.Mode().Perm() != 0o400 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	var seen []string
	if err := s.Walk(ctx, func(d digest.Digest, n int64) error { seen = append(seen, d.Encoded()); return nil }); err != nil || len(seen) != 2 {
		t.Errorf("%v, %v", seen, err)
	}
	if err := s.Remove(ctx, ds[0], digest.FromString("two")); err != nil || s.Has(ds[0]) || !s.Has(ds[1]) {
		t.Error(err)
	}
	if _, err := s.Size(ds[0]); errdefs.KindOf(err) != errdefs.NotFound {
		t.Error(err)
	}
}

func TestDamagedBlobIsNotRead(t *testing.T) {
	s := open(t, t.TempDir())
	d := add(t, s, "manifest")[0]
	path := filepath.Join(s.blobs(), d.Encoded())
	for _, text := range []string{"Manifest", "manifes", ""} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o400); err != nil {
			t.Fatal(err)
		}
		if b, err := s.Read(ctx, d, 100); err == nil {
			t.Errorf("read %q", b)
		}
	}
}

// TestDigestsAreNoPaths: CVE-2024-3727, CVE-2026-33747.
func TestDigestsAreNoPaths(t *testing.T) {
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "content"))
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	st, err := s.NewStage()
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for _, d := range []digest.Digest{
		"", "sha256:", "secret", "sha256:../../../secret", "sha256:" + digest.Digest(strings.Repeat("../", 21)+"x"),
		"../:" + digest.Digest(strings.Repeat("0", 64)), digest.Digest("sha256:" + strings.Repeat("A", 64)),
		digest.Digest("sha512:" + strings.Repeat("0", 128)), digest.Digest("md5:" + strings.Repeat("0", 32)),
	} {
		f, err := s.Open(d)
		if err == nil {
			f.Close()
		}
		_, size := s.Size(d)
		_, read := s.Read(ctx, d, 100)
		for what, err := range map[string]error{"open": err, "size": size, "read": read, "add": st.Add(d, "x")} {
			if errdefs.KindOf(err) != errdefs.InvalidArgument {
				t.Errorf("%s %q: %v", what, d, err)
			}
		}
		if s.Has(d) {
			t.Errorf("has %q", d)
		}
	}
}

func TestStageIsSeenWholeOrNotAtAll(t *testing.T) {
	s := open(t, t.TempDir())
	st, err := s.NewStage()
	if err != nil {
		t.Fatal(err)
	}
	f, err := st.Create()
	if err != nil {
		t.Fatal(err)
	}
	if g, err := st.Create(); err != nil || g.Name() == f.Name() {
		t.Errorf("%v", err)
	} else {
		g.Close()
	}
	if _, err := f.WriteString("large"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	large := digest.FromString("large")
	if err := st.Add(large, f.Name()); err != nil {
		t.Fatal(err)
	}
	small, err := st.AddBytes([]byte("small"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Has(large) || s.Has(small) {
		t.Error("seen before it is published")
	}
	if err := st.Publish(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // published twice is published
		if err := st.Publish(); err != nil || !s.Has(large) || !s.Has(small) {
			t.Error(err)
		}
	}
	if err := st.Close(); err != nil || !s.Has(large) {
		t.Error(err)
	}
	thrown, err := s.NewStage()
	if err != nil {
		t.Fatal(err)
	}
	d, err := thrown.AddBytes([]byte("thrown away"))
	if err != nil {
		t.Fatal(err)
	}
	if err := thrown.Close(); err != nil || s.Has(d) {
		t.Error(err)
	}
	if left, err := os.ReadDir(s.staging()); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

// TestOpenTakesWhatWasBeingReceived away, and nothing else.
func TestOpenTakesWhatWasBeingReceived(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	d := add(t, s, "kept")[0]
	st, err := s.NewStage()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.AddBytes(bytes.Repeat([]byte("x"), 1000)); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "ingest", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	var left []string
	for _, sub := range []string{"staging", "ingest"} {
		es, _ := os.ReadDir(filepath.Join(dir, sub))
		for _, e := range es {
			left = append(left, e.Name())
		}
	}
	if !slices.Equal(left, nil) || !s.Has(d) {
		t.Errorf("left %v, kept %v", left, s.Has(d))
	}
}
