package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// pictured is what of an image can differ from another's.
type pictured struct {
	config map[string]any
	layers []picturedLayer
}

type picturedLayer struct {
	digest  digest.Digest
	made    string   // what has made it
	entries []*entry // nil: the base's, which is not looked into
}

// entry is one of a layer's.
type entry struct {
	tar.Header
	sum [sha256.Size]byte // of its data
}

// largestDocument bounds the JSON of an image.
const largestDocument = 8 << 20

// pictureOf reads an OCI archive with unpacked layers, and returns its images by their
// platforms.
func pictureOf(r io.Reader) (map[string]*pictured, error) {
	documents, layers, err := readArchive(r)
	if err != nil {
		return nil, fmt.Errorf("read the image: %w", err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(documents[ocispec.ImageIndexFile], &index); err != nil {
		return nil, fmt.Errorf("read the image: %s: %w", ocispec.ImageIndexFile, err)
	}
	images := map[string]*pictured{}
	return images, gather(images, index.Manifests, documents, layers)
}

// readArchive takes the documents out of an archive, by their names, and what is in
// layers, by their digests.
func readArchive(r io.Reader) (documents map[string][]byte, layers map[digest.Digest][]*entry, err error) {
	documents, layers = map[string][]byte{}, map[digest.Digest][]*entry{}
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			_, err = io.Copy(io.Discard, r)
			return documents, layers, err
		}
		if err != nil {
			return nil, nil, err
		}
		in := bufio.NewReader(archive)
		head, err := in.Peek(512)
		switch {
		case err != nil && err != io.EOF:
			return nil, nil, err
		case isTar(head):
			if layers[digestOf(h.Name)], err = entriesOf(in); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", h.Name, err)
			}
		case h.Typeflag == tar.TypeReg && h.Size <= largestDocument:
			if documents[h.Name], err = io.ReadAll(in); err != nil {
				return nil, nil, err
			}
		}
	}
}

// digestOf is the digest that a name in an OCI archive stands for.
func digestOf(name string) digest.Digest {
	algorithm, encoded := path.Split(strings.TrimPrefix(name, ocispec.ImageBlobsDir+"/"))
	return digest.Digest(strings.TrimSuffix(algorithm, "/") + ":" + encoded)
}

func blobName(d digest.Digest) string {
	return path.Join(ocispec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// entriesOf reads a layer.
func entriesOf(r io.Reader) ([]*entry, error) {
	list := []*entry{}
	layer := tar.NewReader(r)
	for {
		h, err := layer.Next()
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, layer); err != nil {
			return nil, err
		}
		h.Name = "/" + strings.Trim(strings.TrimPrefix(h.Name, "."), "/")
		list = append(list, &entry{*h, [sha256.Size]byte(sum.Sum(nil))})
	}
}

// gather finds the images that descriptors lead to.
func gather(images map[string]*pictured, from []ocispec.Descriptor, documents map[string][]byte, layers map[digest.Digest][]*entry) error {
	for _, d := range from {
		var doc struct {
			ocispec.Manifest
			Manifests []ocispec.Descriptor
		}
		if err := json.Unmarshal(documents[blobName(d.Digest)], &doc); err != nil {
			return fmt.Errorf("read the image: %s: %w", d.Digest, err)
		}
		if len(doc.Manifests) > 0 {
			if err := gather(images, doc.Manifests, documents, layers); err != nil {
				return err
			}
			continue
		}
		p, platform, err := pictureOne(doc.Manifest, documents, layers)
		if err != nil {
			return fmt.Errorf("read the image: %s: %w", d.Digest, err)
		}
		images[platform] = p
	}
	return nil
}

func pictureOne(m ocispec.Manifest, documents map[string][]byte, layers map[digest.Digest][]*entry) (*pictured, string, error) {
	var config ocispec.Image
	p := &pictured{}
	doc := documents[blobName(m.Config.Digest)]
	if err := errors.Join(json.Unmarshal(doc, &config), json.Unmarshal(doc, &p.config)); err != nil {
		return nil, "", err
	}
	var made []string
	for _, h := range config.History {
		if !h.EmptyLayer {
			made = append(made, h.CreatedBy)
		}
	}
	for i, d := range m.Layers {
		l := picturedLayer{digest: d.Digest, entries: layers[d.Digest]}
		if i < len(made) {
			l.made = made[i]
		}
		p.layers = append(p.layers, l)
	}
	return p, path.Join(config.OS, config.Architecture, config.Variant), nil
}

// compare tells in what two images differ, and returns in how many things.
func compare(w io.Writer, a, b *pictured) (n int) {
	say := func(format string, args ...any) {
		n++
		fmt.Fprintf(w, format+"\n", args...)
	}
	for i := range min(len(a.layers), len(b.layers)) {
		compareLayers(say, i+1, a.layers[i], b.layers[i])
	}
	if len(a.layers) != len(b.layers) {
		say("%d layers, then %d", len(a.layers), len(b.layers))
	}
	maps.DeleteFunc(a.config, follows)
	maps.DeleteFunc(b.config, follows)
	compareValues(say, "configuration", a.config, b.config)
	return n
}

// follows reports what of a configuration follows from the layers.
func follows(key string, _ any) bool { return key == "rootfs" }

func compareLayers(say func(string, ...any), n int, a, b picturedLayer) {
	if a.digest == b.digest {
		return
	}
	where := fmt.Sprintf("layer %d (%s)", n, shortened(a.made))
	if a.entries == nil && b.entries == nil {
		say("%s: the base has changed meanwhile", where)
		return
	}
	first, second := byName(a.entries), byName(b.entries)
	names := maps.Clone(first)
	maps.Copy(names, second)
	same := true
	for _, name := range slices.Sorted(maps.Keys(names)) {
		x, y := first[name], second[name]
		switch {
		case x == nil:
			say("%s: %s: only in the second build", where, name)
		case y == nil:
			say("%s: %s: only in the first build", where, name)
		default:
			what := x.differs(y)
			if len(what) == 0 {
				continue
			}
			say("%s: %s: %s", where, name, strings.Join(what, ", "))
		}
		same = false
	}
	if same {
		say("%s: the order of the files in its archive", where)
	}
}

func byName(list []*entry) map[string]*entry {
	m := map[string]*entry{}
	for _, e := range list {
		m[e.Name] = e
	}
	return m
}

// shortened is the beginning of an instruction, on one line.
func shortened(made string) string {
	made = strings.Join(strings.Fields(strings.TrimSuffix(made, "# buildkit")), " ")
	if r := []rune(made); len(r) > 60 {
		return string(r[:59]) + "…"
	}
	return made
}

// differs says in what two entries of a name differ.
func (e *entry) differs(o *entry) (what []string) {
	say := func(differ bool, format string, args ...any) {
		if differ {
			what = append(what, fmt.Sprintf(format, args...))
		}
	}
	say(e.Typeflag != o.Typeflag, "kind")
	say(e.Size != o.Size, "size %d, then %d", e.Size, o.Size)
	say(e.sum != o.sum && e.Size == o.Size, "content")
	say(e.Mode != o.Mode, "mode %04o, then %04o", e.Mode, o.Mode)
	say(e.Uid != o.Uid || e.Gid != o.Gid, "owner %d:%d, then %d:%d", e.Uid, e.Gid, o.Uid, o.Gid)
	say(!e.ModTime.Equal(o.ModTime), "time %s, then %s", e.ModTime.UTC().Format("2006-01-02T15:04:05.999999999Z"), o.ModTime.UTC().Format("2006-01-02T15:04:05.999999999Z"))
	say(e.Linkname != o.Linkname, "link to %s, then %s", e.Linkname, o.Linkname)
	say(e.Devmajor != o.Devmajor || e.Devminor != o.Devminor, "device")
	say(!maps.Equal(attributes(e), attributes(o)), "extended attributes")
	return what
}

func attributes(e *entry) map[string]string {
	m := map[string]string{}
	for k, v := range e.PAXRecords {
		if strings.HasPrefix(k, "SCHILY.xattr.") {
			m[k] = v
		}
	}
	return m
}

// compareValues tells in what two values of JSON differ.
func compareValues(say func(string, ...any), where string, a, b any) {
	x, xs := a.(map[string]any)
	y, ys := b.(map[string]any)
	if !xs || !ys {
		p, _ := json.Marshal(a)
		q, _ := json.Marshal(b)
		if !bytes.Equal(p, q) {
			say("%s: %s, then %s", where, p, q)
		}
		return
	}
	keys := maps.Clone(x)
	maps.Copy(keys, y)
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		compareValues(say, where+"."+k, x[k], y[k])
	}
}
