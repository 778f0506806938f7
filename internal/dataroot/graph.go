package dataroot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/inroot"
)

// layersOf tells for each of Docker's storage drivers where a layer's files
// are. The driver vfs has all of the chain there.
var layersOf = map[string]func(cache string) string{
	"fuse-overlayfs": func(id string) string { return path.Join("fuse-overlayfs", id, "diff") },
	"overlay2":       func(id string) string { return path.Join("overlay2", id, "diff") },
	"vfs":            func(id string) string { return path.Join("vfs", "dir", id) },
}

// Graph is where Docker keeps the images of one storage driver. Their layers are
// unpacked; the archives that they came from are assembled again.
//
//	repositories.json                    name → reference → ID
//	imagedb/content/sha256/ID            configuration
//	imagedb/metadata/sha256/ID/parent    the image that it was built on
//	layerdb/sha256/CHAINID/              diff (ID), cache-id, size, tar-split.json.gz
type Graph struct {
	root   *Root
	home   string // image/DRIVER
	layers func(cache string) string
}

// GraphImage is an image of a Graph.
type GraphImage struct {
	ID   digest.Digest
	Tags []string // references as they are there; none: it has lost them
}

// Limits of what is read at once, in bytes.
const (
	maxNames  = 8 << 20 // repositories.json
	maxConfig = 4 << 20
)

// Images lists the images that have names, and those without that no other one
// was built on, as Docker does.
func (g *Graph) Images() ([]GraphImage, error) {
	tags, err := g.tags()
	if err != nil {
		return nil, err
	}
	ids, err := names(g.root.dir, g.at("imagedb/content/sha256"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, g.root.wrong(err)
	}
	inner := map[string]bool{}
	for _, id := range ids {
		parent, err := word(g.root.dir, g.at("imagedb/metadata/sha256", id, "parent"))
		switch {
		case err == nil:
			inner[parent] = true
		case !errors.Is(err, fs.ErrNotExist):
			return nil, g.root.wrong(err)
		}
	}
	for _, hex := range ids {
		id := digest.NewDigestFromEncoded(digest.SHA256, hex)
		if check(id) == nil && tags[id] == nil && !inner[id.String()] {
			tags[id] = []string{}
		}
	}
	list := make([]GraphImage, 0, len(tags))
	for _, id := range slices.Sorted(maps.Keys(tags)) {
		slices.Sort(tags[id])
		list = append(list, GraphImage{id, tags[id]})
	}
	slices.SortStableFunc(list, func(a, b GraphImage) int { return slices.Compare(a.Tags, b.Tags) })
	return list, nil
}

// tags reads repositories.json. References with digests are left out: they name
// manifests, which Docker has not kept.
func (g *Graph) tags() (map[digest.Digest][]string, error) {
	name := g.at("repositories.json")
	b, err := read(g.root.dir, name, maxNames)
	if err != nil {
		return nil, g.root.wrong(err)
	}
	var file struct {
		Repositories map[string]map[string]digest.Digest
	}
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, g.root.wrong(fmt.Errorf("%s: %w", name, err))
	}
	tags := map[digest.Digest][]string{}
	for _, refs := range file.Repositories {
		for ref, id := range refs {
			if err := check(id); err != nil {
				return nil, g.root.wrong(fmt.Errorf("%s: %.300q: %w", name, ref, err))
			}
			if !strings.Contains(ref, "@") {
				tags[id] = append(tags[id], ref)
			}
		}
	}
	return tags, nil
}

func (g *Graph) at(name ...string) string { return path.Join(append([]string{g.home}, name...)...) }

// Config returns an image's configuration, verified.
func (g *Graph) Config(id digest.Digest) ([]byte, error) {
	if err := check(id); err != nil {
		return nil, err
	}
	name := g.at("imagedb/content/sha256", id.Encoded())
	b, err := read(g.root.dir, name, maxConfig)
	if err == nil && digest.FromBytes(b) != id {
		err = fmt.Errorf("%s has the digest %s", name, digest.FromBytes(b))
	}
	if err != nil {
		return nil, wrong("configuration", err)
	}
	return b, nil
}

// Layer is an unpacked layer of a Graph.
type Layer struct {
	g     *Graph
	shown string
	home  string // layerdb/sha256/CHAINID
	files string
	size  int64
}

// Layer finds the layer of a chain ID, whose diff ID is diff.
func (g *Graph) Layer(chain, diff digest.Digest) (*Layer, error) {
	if err := errors.Join(check(chain), check(diff)); err != nil {
		return nil, err
	}
	l := &Layer{g: g, shown: ident.Short(diff.Encoded()), home: g.at("layerdb/sha256", chain.Encoded())}
	own, err := word(g.root.dir, path.Join(l.home, "diff"))
	if err == nil && own != diff.String() {
		err = fmt.Errorf("%s/diff is %.100q", l.home, own)
	}
	if err != nil {
		return nil, l.wrong(err)
	}
	cache, err := word(g.root.dir, path.Join(l.home, "cache-id"))
	if err == nil && !isCacheID(cache) {
		err = fmt.Errorf("%s/cache-id is %.100q", l.home, cache)
	}
	if err != nil {
		return nil, l.wrong(err)
	}
	l.files = g.layers(cache)
	size, err := word(g.root.dir, path.Join(l.home, "size"))
	if err == nil {
		l.size, err = strconv.ParseInt(size, 10, 64)
	}
	if err == nil && l.size < 0 {
		err = fmt.Errorf("%s/size is negative", l.home)
	}
	if err != nil {
		return nil, l.wrong(err)
	}
	return l, nil
}

// isCacheID reports whether s is what Docker names the directory of a layer: 64
// hexadecimal digits.
func isCacheID(s string) bool {
	return check(digest.NewDigestFromEncoded(digest.SHA256, s)) == nil
}

func (l *Layer) wrong(err error) error { return wrong("layer "+l.shown, err) }

// Size is how many bytes the layer's files have, by what is written of it.
func (l *Layer) Size() int64 { return l.size }

// WriteTar writes the archive that the layer was unpacked from. Whoever takes it
// compares its digest with the diff ID.
func (l *Layer) WriteTar(ctx context.Context, out io.Writer) error {
	files, err := inroot.OpenExact(l.g.root.dir, l.files, inroot.ODirectory)
	if err != nil {
		return l.wrong(err)
	}
	defer files.Close()
	split, err := inroot.OpenRegular(l.g.root.dir, path.Join(l.home, "tar-split.json.gz"))
	if err != nil {
		return l.wrong(err)
	}
	defer split.Close()
	w := &failing{out: out}
	if err := assemble(ctx, files, split, w); err != nil && w.err == nil {
		return l.wrong(err)
	}
	return w.err
}

// failing keeps the error of a writer apart from those of what is read.
type failing struct {
	out io.Writer
	err error
}

func (f *failing) Write(b []byte) (int, error) {
	n, err := f.out.Write(b)
	if err != nil {
		f.err = err
	}
	return n, err
}
