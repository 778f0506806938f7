package image

import (
	"archive/tar"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/layer"
)

// Saved is an image as it goes into an archive.
type Saved struct {
	*Image
	names     []string // normalized references, sorted
	blobs     []savedBlob
	manifests []*ocispec.Manifest // that of the Image first
}

// savedBlob is a blob of an archive.
type savedBlob struct {
	digest digest.Digest
	size   int64
	chain  layer.ChainID // to make it of where it is unpacked, "": it is stored
	layer  bool
}

// Choose finds the images that refs name, for Save: those for the platforms, each
// of which must be there, or all that the references have. As with Docker a
// reference without a tag stands for all tags of its repository, and an image
// that is named by its ID goes without names. What an archive needs and is
// missing is an error.
func (s *Service) Choose(ctx context.Context, refs []string, want []ocispec.Platform) ([]*Saved, error) {
	v := s.db.view.Load()
	var list []*Saved
	known := map[reached]*Saved{}
	for _, ref := range refs {
		chosen, err := v.toSave(ref)
		if err != nil {
			return nil, err
		}
		for _, f := range chosen {
			ids, err := s.only(ctx, f.all(), cmp.Or(familiar(f.ref), ref), want)
			if err != nil {
				return nil, err
			}
			for _, id := range ids {
				one := f.one(id)
				key := reached{id, v.nameOf(one).target.Digest}
				sv := known[key]
				if sv == nil {
					if sv, err = s.saved(ctx, v, one); err != nil {
						return nil, err
					}
					known[key] = sv
					list = append(list, sv)
				}
				if f.ref != "" && !slices.Contains(sv.names, f.ref) {
					sv.names = append(sv.names, f.ref)
				}
			}
		}
	}
	for _, sv := range list {
		slices.Sort(sv.names)
	}
	return list, nil
}

// toSave finds what ref names, without the name if it is not to go with it.
func (v *view) toSave(ref string) ([]found, error) {
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		return nil, errdefs.As(errdefs.InvalidArgument, err)
	}
	named, ok := parsed.(reference.Named)
	if ok && reference.IsNameOnly(named) {
		var all []found
		for full := range v.names {
			if tag, ok := strings.CutPrefix(full, named.Name()+":"); ok && !strings.ContainsAny(tag, "/@") {
				all = append(all, v.allOf(full))
			}
		}
		if len(all) > 0 {
			slices.SortFunc(all, func(a, b found) int { return strings.Compare(a.ref, b.ref) })
			return all, nil
		}
	}
	f, err := v.find(ref)
	if err != nil {
		return nil, err
	}
	if t, ok := named.(reference.NamedTagged); ok {
		if full := reference.TrimNamed(named).String() + ":" + t.Tag(); v.names[full].id == f.id {
			f.ref = full
			return []found{f}, nil
		}
	}
	f.ref = ""
	return []found{f}, nil
}

// saved collects what belongs to an image.
func (s *Service) saved(ctx context.Context, v *view, f found) (*Saved, error) {
	i, err := s.found(ctx, v, f)
	if err != nil {
		return nil, err
	}
	sv := &Saved{Image: i}
	for _, e := range v.nameOf(f).all() {
		indexes := s.indexesOf(ctx, i.Target.Digest, e.manifest.Digest)
		if err := s.saveManifest(ctx, sv, indexes, e); err != nil {
			return nil, err
		}
		if len(indexes) == 0 { // it leads nowhere
			i.Target = e.manifest
			break
		}
	}
	return sv, nil
}

// saveManifest adds the indexes that lead to a manifest, the manifest, the
// configuration and the layers.
func (s *Service) saveManifest(ctx context.Context, sv *Saved, indexes []digest.Digest, e entry) error {
	m, err := s.manifestOf(ctx, e.id, e.manifest.Digest)
	if err != nil {
		return err
	}
	sv.manifests = append(sv.manifests, m)
	for n, d := range append(indexes, e.manifest.Digest, e.id) {
		size, err := s.content.Size(d)
		if errdefs.Is(err, errdefs.NotFound) && n < len(indexes) {
			continue // a part of an attestation that the registry did not have
		}
		if err != nil {
			return fmt.Errorf("image %s: %w", e.id, err)
		}
		sv.blobs = append(sv.blobs, savedBlob{digest: d, size: size})
	}
	return s.saveLayers(ctx, sv, m)
}

// saveLayers adds the layers that a manifest lists.
func (s *Service) saveLayers(ctx context.Context, sv *Saved, m *ocispec.Manifest) error {
	p, err := s.partsOf(ctx, sv.ID)
	if err != nil {
		return err
	}
	if len(m.Layers) != len(p.chains) {
		return fmt.Errorf("image %s: manifest has %d layers, configuration %d", sv.ID, len(m.Layers), len(p.chains))
	}
	for n, d := range m.Layers {
		b := savedBlob{digest: d.Digest, size: d.Size, layer: true}
		if size, err := s.content.Size(d.Digest); err != nil || size != d.Size {
			if err := s.remake(ctx, p.chains[n], p.config.RootFS.DiffIDs[n], d); err != nil {
				return fmt.Errorf("image %s: %w", sv.ID, err)
			}
			b.chain = p.chains[n]
		}
		sv.blobs = append(sv.blobs, b)
	}
	return nil
}

// remake finds out whether a blob that is missing can be made of the unpacked
// layer: if it was not packed, and comes out with the same digest.
func (s *Service) remake(ctx context.Context, chain layer.ChainID, diff layer.DiffID, d ocispec.Descriptor) error {
	missing := fmt.Errorf("blob %s of a layer is missing or damaged, and cannot be made of the unpacked layer; pull or load the image again", d.Digest)
	if d.Digest != diff {
		return missing
	}
	sum := newDigester()
	defer sum.stop()
	if err := s.layers.DiffChain(ctx, chain, sum); err != nil {
		return errors.Join(missing, err)
	}
	if sum.n != d.Size || sum.sum() != d.Digest {
		return missing
	}
	return nil
}

// Save writes an archive that is one of `docker save` and an OCI layout at
// once. Blobs are the very bytes that came, each once; the same images give the
// same archive. Layers that are omitted must be where it is loaded. Once it writes,
// the images may be removed: who reads slowly gets the whole archive all the same,
// up to maxHeld blobs.
func (s *Service) Save(ctx context.Context, list []*Saved, omitted Omission, out io.Writer) error {
	w := &archiver{s: s, ctx: ctx, tar: tar.NewWriter(out), held: map[digest.Digest]*os.File{}, done: map[digest.Digest]bool{}, buffer: make([]byte, 512<<10)}
	defer w.release()
	if err := w.hold(list, omitted); err != nil {
		return err
	}
	index, err := json.Marshal(layoutIndex(list, omitted))
	if err != nil {
		return err
	}
	manifest, err := json.Marshal(dockerManifest(list))
	if err != nil {
		return err
	}
	layout := []byte(`{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`)
	if err := errors.Join(w.document(ocispec.ImageLayoutFile, layout), w.document(ocispec.ImageIndexFile, index), w.document("manifest.json", manifest),
		w.dir("blobs/"), w.dir("blobs/sha256/")); err != nil {
		return err
	}
	for _, sv := range list {
		for _, b := range sv.blobs {
			if omitted.has(b) {
				continue
			}
			if err := w.blob(b); err != nil {
				return fmt.Errorf("save image %s: %w", sv.ID, err)
			}
		}
	}
	return w.tar.Close()
}

// layoutIndex lists what names point to, once for each name: what points to an
// index for several platforms too.
func layoutIndex(list []*Saved, omitted Omission) ocispec.Index {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	if len(omitted.since) > 0 {
		index.Annotations = map[string]string{annotationSince: strings.Join(omitted.since, " ")}
	}
	listed := map[string]bool{}
	for _, sv := range list {
		d := ocispec.Descriptor{MediaType: sv.Target.MediaType, Digest: sv.Target.Digest, Size: sv.Target.Size}
		if len(sv.names) == 0 && !listed[d.Digest.String()] {
			listed[d.Digest.String()] = true
			index.Manifests = append(index.Manifests, d)
		}
		for _, full := range sv.names {
			if listed[full] {
				continue
			}
			listed[full] = true
			d.Annotations = map[string]string{"io.containerd.image.name": full, ocispec.AnnotationRefName: full[strings.LastIndexByte(full, ':')+1:]}
			index.Manifests = append(index.Manifests, d)
		}
	}
	return index
}

// dockerImage is an image in manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// dockerManifest lists images, of those that share a name the first only: this
// document knows one platform of each.
func dockerManifest(list []*Saved) []dockerImage {
	all := []dockerImage{}
	listed := map[string]bool{}
	for _, sv := range list {
		i := dockerImage{Config: blobPath(sv.ID), Layers: []string{}}
		for _, full := range sv.names {
			if !listed[full] {
				listed[full] = true
				i.RepoTags = append(i.RepoTags, familiar(full))
			}
		}
		if len(sv.names) > 0 && len(i.RepoTags) == 0 {
			continue
		}
		for _, d := range sv.manifests[0].Layers {
			i.Layers = append(i.Layers, blobPath(d.Digest))
		}
		all = append(all, i)
	}
	return all
}

func blobPath(d digest.Digest) string { return "blobs/sha256/" + d.Encoded() }

// archiver writes an archive.
type archiver struct {
	s      *Service
	ctx    context.Context // of one archive
	tar    *tar.Writer
	held   map[digest.Digest]*os.File // blobs that are still to be written
	done   map[digest.Digest]bool
	buffer []byte
}

// begun is the time of all members: the same images give the same archive.
var begun = time.Unix(0, 0)

func (w *archiver) header(name string, size int64) error {
	return w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: begun})
}

func (w *archiver) dir(name string) error {
	return w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: begun})
}

func (w *archiver) document(name string, b []byte) error {
	if err := w.header(name, int64(len(b))); err != nil {
		return err
	}
	_, err := w.tar.Write(b)
	return err
}

// maxHeld is how many files one archive has open: others want some too, and an
// engine that our unit has not started has the limit of its shell. What goes beyond
// is opened when it is its turn; whoever removes it before ends the archive with an
// error.
const maxHeld = 4096

// hold opens the blobs of an archive, so that they can be removed meanwhile. Layers
// that are made of where they lie unpacked are not held.
func (w *archiver) hold(list []*Saved, omitted Omission) error {
	for _, sv := range list {
		for _, b := range sv.blobs {
			if b.chain != "" || w.held[b.digest] != nil || omitted.has(b) || len(w.held) == maxHeld {
				continue
			}
			f, err := w.s.content.Open(b.digest)
			if err != nil {
				return fmt.Errorf("save image %s: %w", sv.ID, err)
			}
			w.held[b.digest] = f
		}
	}
	return nil
}

func (w *archiver) release() {
	for _, f := range w.held {
		f.Close()
	}
}

// open gives a blob that is held, or opens it.
func (w *archiver) open(d digest.Digest) (*os.File, error) {
	if f := w.held[d]; f != nil {
		delete(w.held, d)
		return f, nil
	}
	return w.s.content.Open(d)
}

func (w *archiver) blob(b savedBlob) error {
	if w.done[b.digest] {
		return nil
	}
	w.done[b.digest] = true
	if b.chain != "" {
		if err := w.header(blobPath(b.digest), b.size); err != nil {
			return err
		}
		return w.s.layers.DiffChain(w.ctx, b.chain, onlyWriter{w.tar})
	}
	f, err := w.open(b.digest)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := w.header(blobPath(b.digest), b.size); err != nil {
		return err
	}
	n, err := io.CopyBuffer(onlyWriter{w.tar}, onlyReader{io.LimitReader(&cancelled{w.ctx, f}, b.size)}, w.buffer)
	if err == nil && n != b.size {
		err = fmt.Errorf("blob %s has %d of %d bytes", b.digest, n, b.size)
	}
	return err
}

// cancelled is a reader that ends with its context.
type cancelled struct {
	ctx context.Context // of one archive
	r   io.Reader
}

func (c *cancelled) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}

// Called is what an image is called in messages: the first name that it has in
// the archive, or its ID.
func (sv *Saved) Called() string {
	if len(sv.names) == 0 {
		return sv.ID.String()
	}
	return familiar(sv.names[0])
}
