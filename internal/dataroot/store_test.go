package dataroot_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/dataroot"
	"github.com/tare-engine/tare/internal/dataroot/dataroottest"
	"github.com/tare-engine/tare/internal/errdefs"
)

const metaFile = "io.containerd.metadata.v1.bolt/meta.db"

func blob(s string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(s), Size: int64(len(s))}
}

func openStore(t *testing.T, dir string) *dataroot.Store {
	t.Helper()
	root, err := dataroot.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	if len(root.Stores()) != 1 {
		t.Fatal(root.Stores())
	}
	return root.Stores()[0]
}

// TestNamesOfContainerd, also below Docker's data root, while it holds its lock.
func TestNamesOfContainerd(t *testing.T) {
	for _, home := range []string{".", "containerd/daemon"} {
		dir := t.TempDir()
		dataroottest.Containerd(t, filepath.Join(dir, home), nil,
			dataroottest.Name{Namespace: "k8s.io", Name: "b:1", Target: blob("k8s")}, dataroottest.Name{Namespace: "default", Name: "b:1", Target: blob("default")},
			dataroottest.Name{Namespace: "moby", Name: "a:1", Target: blob("moby")}, dataroottest.Name{Namespace: "mine", Name: "c:1", Target: blob("mine")})
		s := openStore(t, dir)
		for _, c := range []struct {
			namespaces []string
			want       string
		}{
			{nil, fmt.Sprint([]dataroot.StoreImage{{Name: "a:1", Target: blob("moby")}, {Name: "b:1", Target: blob("default")}})},
			{[]string{"mine"}, fmt.Sprint([]dataroot.StoreImage{{Name: "c:1", Target: blob("mine")}})},
		} {
			if got, err := s.Images(c.namespaces); err != nil || fmt.Sprint(got) != c.want {
				t.Errorf("%s %v: %v, %v", home, c.namespaces, got, err)
			}
		}
		if got, err := s.Images([]string{"mine", "nosuch"}); !errdefs.Is(err, errdefs.NotFound) || !strings.Contains(err.Error(), `"nosuch"`) {
			t.Error(got, err)
		}
	}
}

func TestHostileMetadata(t *testing.T) {
	for what, c := range map[string]struct {
		change func(name string) error
		want   string
	}{
		"zeros":      {func(n string) error { return os.WriteFile(n, make([]byte, 1<<20), 0600) }, "the database is damaged"},
		"nothing":    {func(n string) error { return os.Truncate(n, 0) }, "the database is damaged"},
		"a FIFO":     {func(n string) error { os.Remove(n); return syscall.Mkfifo(n, 0600) }, "not a regular file"},
		"a link":     {func(n string) error { os.Rename(n, n+"2"); return os.Symlink("meta.db2", n) }, "not a regular file"},
		"a digest":   {nil, `image "a:1": digest`},
		"long names": {nil, "names of more than 1024 bytes"},
	} {
		dir := t.TempDir()
		name := dataroottest.Name{Namespace: "default", Name: "a:1", Target: blob("x")}
		switch what {
		case "a digest":
			name.Target.Digest = "sha512:" + digest.Digest(strings.Repeat("0", 128))
		case "long names":
			name.Name = strings.Repeat("n", 2000)
		}
		dataroottest.Containerd(t, dir, nil, name)
		if c.change != nil {
			if err := c.change(filepath.Join(dir, metaFile)); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := openStore(t, dir).Images(nil); err == nil || !strings.Contains(err.Error(), c.want) || !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
}

func TestBlobsOfContainerd(t *testing.T) {
	dir := t.TempDir()
	d := blob("0123456789")
	dataroottest.Containerd(t, dir, map[digest.Digest][]byte{d.Digest: []byte("0123456789"), blob("else").Digest: []byte("????")})
	s := openStore(t, dir).Source(dataroot.StoreImage{Name: "a:1", Target: d})
	if got, err := s.Resolve(t.Context(), "1"); err != nil || fmt.Sprint(got) != fmt.Sprint(d) {
		t.Error(got, err)
	}
	r, err := s.Blob(t.Context(), d, 4)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != "456789" || r.Close() != nil {
		t.Error(string(b), err)
	}
	if b, err := s.Manifest(t.Context(), d); err != nil || string(b) != "0123456789" {
		t.Error(string(b), err)
	}
	longer, traversal, huge := d, d, d
	longer.Size++
	traversal.Digest = "sha256:../../../io.containerd.metadata.v1.bolt/meta.db"
	huge.Size = 1 << 40
	for what, c := range map[string]struct {
		d    ocispec.Descriptor
		kind errdefs.Kind
		want string
	}{
		"missing": {blob("missing"), errdefs.NotFound, "is not in containerd's store"}, "another size": {longer, errdefs.InvalidArgument, "has 10 bytes, not 11"},
		"a path": {traversal, errdefs.InvalidArgument, "digest"}, "huge": {huge, errdefs.InvalidArgument, "at most"},
		"other bytes": {blob("else"), errdefs.InvalidArgument, "has the digest"},
	} {
		if _, err := s.Manifest(t.Context(), c.d); errdefs.KindOf(err) != c.kind || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	if r, err = s.Blob(ctx, d, 0); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cancel()
	if _, err := r.Read(make([]byte, 1)); err == nil {
		t.Error("reading goes on after the end of the request")
	}
}
