// Package dataroottest builds data roots of other engines, as far as images
// need them: sound ones and, by changing what was built, hostile ones.
package dataroottest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"
)

// Image is an image in a data root.
type Image struct {
	Config []byte
	Tags   []string
	Layers [][]byte      // plain tar streams
	Parent digest.Digest // that it was built on, of Docker's builder of old; may be ""
}

// Docker makes dir a data root of Docker with this storage driver.
func Docker(t testing.TB, dir, driver string, images ...Image) {
	t.Helper()
	home := filepath.Join(dir, "image", driver)
	repositories := map[string]map[string]string{}
	for _, img := range images {
		id := digest.FromBytes(img.Config)
		write(t, filepath.Join(home, "imagedb/content/sha256", id.Encoded()), img.Config)
		if img.Parent != "" {
			write(t, filepath.Join(home, "imagedb/metadata/sha256", id.Encoded(), "parent"), []byte(img.Parent))
		}
		for _, ref := range img.Tags {
			repo := ref[:strings.LastIndexAny(ref, ":@")]
			if repositories[repo] == nil {
				repositories[repo] = map[string]string{}
			}
			repositories[repo][ref] = id.String()
		}
		var diffs []digest.Digest
		for _, l := range img.Layers {
			diffs = append(diffs, digest.FromBytes(l))
			dockerLayer(t, dir, driver, identity.ChainID(diffs), l)
		}
	}
	b, err := json.Marshal(map[string]any{"Repositories": repositories})
	must(t, err)
	write(t, filepath.Join(home, "repositories.json"), b)
}

// dockerLayer writes a layer: what is known of it, and the data of its files.
func dockerLayer(t testing.TB, dir, driver string, chain digest.Digest, tar []byte) {
	t.Helper()
	home := filepath.Join(dir, "image", driver, "layerdb/sha256", chain.Encoded())
	cache := digest.FromString("cache " + chain.String()).Encoded()
	files := filepath.Join(dir, "overlay2", cache, "diff")
	if driver == "vfs" {
		files = filepath.Join(dir, "vfs/dir", cache)
	}
	must(t, os.MkdirAll(files, 0755))
	var split bytes.Buffer
	z := gzip.NewWriter(&split)
	put := &putter{files: files}
	r, done, err := asm.NewInputTarStreamWithDone(bytes.NewReader(tar), storage.NewJSONPacker(z), put)
	must(t, err)
	_, err = io.Copy(io.Discard, r)
	must(t, errors.Join(err, <-done, r.Close(), z.Close()))
	write(t, filepath.Join(home, "tar-split.json.gz"), split.Bytes())
	write(t, filepath.Join(home, "diff"), []byte(digest.FromBytes(tar)))
	write(t, filepath.Join(home, "cache-id"), []byte(cache))
	write(t, filepath.Join(home, "size"), fmt.Append(nil, put.size))
}

// putter writes the data of a layer's files.
type putter struct {
	files string
	size  int64
}

func (p *putter) Put(name string, r io.Reader) (int64, []byte, error) {
	sum := storage.NewDiscardFilePutter()
	at := filepath.Join(p.files, name)
	if err := os.MkdirAll(filepath.Dir(at), 0755); err != nil {
		return 0, nil, err
	}
	f, err := os.Create(at)
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	n, crc, err := sum.Put(name, io.TeeReader(r, f))
	p.size += n
	return n, crc, err
}

func write(t testing.TB, name string, b []byte) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(name), 0755))
	must(t, os.WriteFile(name, b, 0600))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
