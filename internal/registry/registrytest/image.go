package registrytest

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of Docker's schema 2.
const (
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	DockerConfig   = "application/vnd.docker.container.image.v1+json"
	DockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// Image is what an image is to be like. The zero value has one gzipped layer.
type Image struct {
	Docker      bool     // Docker's schema 2 instead of OCI
	Index       bool     // an index with the image and an attestation
	Layers      int      // by default 1
	Compression []string // of the layers in turn: gzip, zstd or none
	Size        int      // bytes of the file in each layer, that do not compress; by default 20,000
	Period      int      // bytes after which that file repeats itself: it compresses; 0: never
	Seed        uint64   // images with different ones share no layer
	Foreign     []string // URLs of each layer's descriptor
}

// Put is an image in the registry.
type Put struct {
	Top      ocispec.Descriptor // what the tag means: index or manifest
	Manifest ocispec.Descriptor
	Config   ocispec.Descriptor
	Layers   []ocispec.Descriptor
	DiffIDs  []digest.Digest
}

// Put puts an image into a repository under a tag.
func (r *Registry) Put(repository, tag string, img Image) Put {
	r.t.Helper()
	var p Put
	n := max(img.Layers, 1)
	for i := range n {
		raw := layer(i, img)
		kind := "gzip"
		if len(img.Compression) > 0 {
			kind = img.Compression[i%len(img.Compression)]
		}
		b, mediaType := compress(raw, kind)
		if img.Docker {
			mediaType = DockerLayer
		}
		d := r.PutBlob(repository, mediaType, b)
		d.URLs = img.Foreign
		p.Layers = append(p.Layers, d)
		p.DiffIDs = append(p.DiffIDs, digest.FromBytes(raw))
	}
	p.Config = r.PutBlob(repository, pick(img.Docker, DockerConfig, ocispec.MediaTypeImageConfig), config(p.DiffIDs, img.Seed))
	p.Manifest = r.PutManifest(repository, "", ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: pick(img.Docker, DockerManifest, ocispec.MediaTypeImageManifest),
		Config:    p.Config, Layers: p.Layers,
	})
	p.Top = p.Manifest
	if img.Index {
		p.Top = r.putIndex(repository, p.Manifest, img)
	}
	r.Tag(repository, tag, p.Top)
	return p
}

func pick(docker bool, a, b string) string {
	if docker {
		return a
	}
	return b
}

// layer is a tar file with one file.
func layer(i int, img Image) []byte {
	size := img.Size
	if size == 0 {
		size = 20_000
	}
	b := make([]byte, size)
	random := rand.New(rand.NewPCG(img.Seed, uint64(i)))
	for j := range b {
		if img.Period > 0 && j >= img.Period {
			b[j] = b[j-img.Period]
			continue
		}
		b[j] = byte(random.Uint32())
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	must(w.WriteHeader(&tar.Header{Name: fmt.Sprintf("file%d", i), Mode: 0644, Size: int64(size)}))
	_, err := w.Write(b)
	must(err)
	must(w.Close())
	return buf.Bytes()
}

func compress(raw []byte, kind string) (b []byte, mediaType string) {
	var buf bytes.Buffer
	switch kind {
	case "gzip":
		w := gzip.NewWriter(&buf)
		_, err := w.Write(raw)
		must(err)
		must(w.Close())
		return buf.Bytes(), ocispec.MediaTypeImageLayerGzip
	case "zstd":
		w, err := zstd.NewWriter(&buf)
		must(err)
		_, err = w.Write(raw)
		must(err)
		must(w.Close())
		return buf.Bytes(), ocispec.MediaTypeImageLayerZstd
	case "none":
		return raw, ocispec.MediaTypeImageLayer
	}
	panic("registrytest: no compression " + kind)
}

func config(diffs []digest.Digest, seed uint64) []byte {
	return marshal(ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Config:   ocispec.ImageConfig{Cmd: []string{"/bin/sh"}, Labels: map[string]string{"seed": fmt.Sprint(seed)}},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: diffs},
	})
}

// putIndex puts an index with the manifest and an attestation about it, as
// BuildKit makes them.
func (r *Registry) putIndex(repository string, m ocispec.Descriptor, img Image) ocispec.Descriptor {
	m.Platform = &ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	all := []ocispec.Descriptor{m}
	if !img.Docker {
		statement := r.PutBlob(repository, "application/vnd.in-toto+json", []byte(`{"_type":"https://in-toto.io/Statement/v0.1"}`))
		a := r.PutManifest(repository, "", ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			Config: r.PutBlob(repository, ocispec.MediaTypeImageConfig, config(nil, img.Seed)),
			Layers: []ocispec.Descriptor{statement},
		})
		a.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
		a.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": m.Digest.String()}
		all = append(all, a)
	}
	return r.PutManifest(repository, "", ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: pick(img.Docker, DockerList, ocispec.MediaTypeImageIndex),
		Manifests: all,
	})
}

// PutBlob puts a blob into a repository.
func (r *Registry) PutBlob(repository, mediaType string, b []byte) ocispec.Descriptor {
	r.t.Helper()
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	w := r.do(http.MethodPost, "/v2/"+repository+"/blobs/uploads/?digest="+d.Digest.String(), nil, nil)
	if w.Code != http.StatusAccepted {
		r.t.Fatalf("start of upload: %d %s", w.Code, w.Body)
	}
	w = r.do(http.MethodPut, w.Header().Get("Location")+"&digest="+d.Digest.String(), nil, b)
	if w.Code != http.StatusCreated {
		r.t.Fatalf("upload: %d %s", w.Code, w.Body)
	}
	return d
}

// PutManifest puts a manifest or an index, under a tag if that is not empty.
func (r *Registry) PutManifest(repository, tag string, doc any) ocispec.Descriptor {
	r.t.Helper()
	b := marshal(doc)
	var head struct{ MediaType string }
	must(json.Unmarshal(b, &head))
	d := ocispec.Descriptor{MediaType: head.MediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	if tag == "" {
		tag = d.Digest.String()
	}
	w := r.do(http.MethodPut, "/v2/"+repository+"/manifests/"+tag, http.Header{"Content-Type": {d.MediaType}}, b)
	if w.Code != http.StatusCreated {
		r.t.Fatalf("manifest: %d %s", w.Code, w.Body)
	}
	return d
}

// Tag gives a manifest of the repository a tag.
func (r *Registry) Tag(repository, tag string, d ocispec.Descriptor) {
	r.t.Helper()
	w := r.do(http.MethodGet, "/v2/"+repository+"/manifests/"+d.Digest.String(), http.Header{"Accept": {d.MediaType}}, nil)
	if w.Code != http.StatusOK {
		r.t.Fatalf("manifest %s: %d", d.Digest, w.Code)
	}
	w = r.do(http.MethodPut, "/v2/"+repository+"/manifests/"+tag, http.Header{"Content-Type": {d.MediaType}}, w.Body.Bytes())
	if w.Code != http.StatusCreated {
		r.t.Fatalf("tag: %d %s", w.Code, w.Body)
	}
}

// Blob returns what the registry has under a digest.
func (r *Registry) Blob(repository string, d digest.Digest) ([]byte, bool) {
	w := r.do(http.MethodGet, "/v2/"+repository+"/blobs/"+d.String(), nil, nil)
	return w.Body.Bytes(), w.Code == http.StatusOK
}

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	must(err)
	return b
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
