package dataroottest

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
)

// Name is a name in containerd's store.
type Name struct {
	Namespace, Name string
	Target          ocispec.Descriptor
}

// Containerd makes dir a data root of containerd, by its own library. The
// database stays open, as that of a running one does, until the test ends.
func Containerd(t testing.TB, dir string, blobs map[digest.Digest][]byte, names ...Name) {
	t.Helper()
	content := filepath.Join(dir, "io.containerd.content.v1.content")
	for d, b := range blobs {
		write(t, filepath.Join(content, "blobs/sha256", d.Encoded()), b)
	}
	file := filepath.Join(dir, "io.containerd.metadata.v1.bolt/meta.db")
	write(t, file, nil)
	db, err := bolt.Open(file, 0600, &bolt.Options{NoSync: true})
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	store, err := local.NewStore(content)
	must(t, err)
	m := metadata.NewDB(db, store, nil)
	must(t, m.Init(context.Background()))
	list := metadata.NewImageStore(m)
	for _, n := range names {
		_, err := list.Create(namespaces.WithNamespace(context.Background(), n.Namespace), images.Image{Name: n.Name, Target: n.Target, Labels: map[string]string{"l": "v"}})
		must(t, err)
	}
}
