// Package imagetest builds small image archives in memory, sound ones and, by
// changing what was built, hostile ones.
package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var made = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// Layer makes a layer: files by name; a name that ends in a slash is a directory.
func Layer(files map[string]string) []byte {
	var members []Member
	for n, data := range files {
		members = append(members, Member{Name: n, Data: []byte(data)})
	}
	slices.SortFunc(members, func(a, b Member) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	return Tar(members)
}

// Member is a member of an archive: a file, or a link if Link is set.
type Member struct {
	Name string
	Data []byte
	Link string
}

// Tar makes a tar stream.
func Tar(members []Member) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.Name, Mode: 0644, Size: int64(len(m.Data)), ModTime: made, Typeflag: tar.TypeReg}
		switch {
		case m.Link != "":
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, m.Link, 0
		case m.Name[len(m.Name)-1] == '/':
			h.Typeflag, h.Mode, h.Size = tar.TypeDir, 0755, 0
		}
		must(w.WriteHeader(h))
		if h.Size > 0 {
			_, err := w.Write(m.Data)
			must(err)
		}
	}
	must(w.Close())
	return b.Bytes()
}

// Gzip packs b.
func Gzip(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(b)
	must(err)
	must(w.Close())
	return out.Bytes()
}

// Zstd packs b.
func Zstd(b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	must(err)
	return w.EncodeAll(b, nil)
}

// Xz packs b with the host's program, which is given args.
func Xz(b []byte, args ...string) []byte { return program(b, "xz", args...) }

// Bzip2 packs b with the host's program.
func Bzip2(b []byte) []byte { return program(b, "bzip2") }

func program(b []byte, name string, args ...string) []byte {
	c := exec.Command(name, args...)
	c.Stdin = bytes.NewReader(b)
	out, err := c.Output()
	must(err)
	return out
}

// Image is what an archive is made of. Layers go base first.
type Image struct {
	Names  []string
	Layers [][]byte              // plain tar streams
	Pack   func(b []byte) []byte // of each layer; nil for none
	Change func(config map[string]any)
}

func (i Image) packed() [][]byte {
	var list [][]byte
	for _, l := range i.Layers {
		if i.Pack != nil {
			l = i.Pack(l)
		}
		list = append(list, l)
	}
	return list
}

// Config returns the image's configuration.
func (i Image) Config() []byte {
	diffs, history := []digest.Digest{}, []map[string]any{}
	for _, l := range i.Layers {
		diffs = append(diffs, digest.FromBytes(l))
		history = append(history, map[string]any{"created": made, "created_by": "test"})
	}
	c := map[string]any{
		"architecture": "amd64", "os": "linux", "created": made, "config": map[string]any{"Cmd": []string{"sh"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs}, "history": history,
	}
	if i.Change != nil {
		i.Change(c)
	}
	return JSON(c)
}

// ID returns the image's ID.
func (i Image) ID() digest.Digest { return digest.FromBytes(i.Config()) }

// JSON marshals v.
func JSON(v any) []byte {
	b, err := json.Marshal(v)
	must(err)
	return b
}

// Docker returns the members of a docker-archive of images.
func Docker(images ...Image) []Member {
	var members []Member
	manifest := []map[string]any{}
	for _, i := range images {
		config := i.Config()
		id := digest.FromBytes(config).Encoded()
		var layers []string
		for _, l := range i.packed() {
			name := digest.FromBytes(l).Encoded() + "/layer.tar"
			layers = append(layers, name)
			members = append(members, Member{Name: name, Data: l})
		}
		members = append(members, Member{Name: id + ".json", Data: config})
		manifest = append(manifest, map[string]any{"Config": id + ".json", "RepoTags": i.Names, "Layers": layers})
	}
	return append(members, Member{Name: "manifest.json", Data: JSON(manifest)})
}

// OCI returns the members of an OCI layout of images.
func OCI(images ...Image) []Member {
	members := []Member{{Name: "oci-layout", Data: []byte(`{"imageLayoutVersion":"1.0.0"}`)}}
	blob := func(media string, b []byte) ocispec.Descriptor {
		d := digest.FromBytes(b)
		members = append(members, Member{Name: "blobs/sha256/" + d.Encoded(), Data: b})
		return ocispec.Descriptor{MediaType: media, Digest: d, Size: int64(len(b))}
	}
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	index.SchemaVersion = 2
	for _, i := range images {
		m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest}
		m.SchemaVersion = 2
		m.Config = blob(ocispec.MediaTypeImageConfig, i.Config())
		for _, l := range i.packed() {
			m.Layers = append(m.Layers, blob(ocispec.MediaTypeImageLayer, l))
		}
		d := blob(ocispec.MediaTypeImageManifest, JSON(m))
		for _, n := range i.Names {
			d.Annotations = map[string]string{"io.containerd.image.name": n}
			index.Manifests = append(index.Manifests, d)
		}
		if len(i.Names) == 0 {
			index.Manifests = append(index.Manifests, d)
		}
	}
	return append(members, Member{Name: "index.json", Data: JSON(index)})
}

// Reader returns an archive as a stream.
func Reader(members []Member) io.Reader { return bytes.NewReader(Tar(members)) }

func must(err error) {
	if err != nil {
		panic(err)
	}
}
