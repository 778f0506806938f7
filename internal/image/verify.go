package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/layer"
)

// What a damaged thing of an image is.
const (
	KindIndex       = "index"
	KindManifest    = "manifest"
	KindAttestation = "attestation"
	KindConfig      = "configuration"
	KindBlob        = "blob"
	KindLayer       = "layer"
)

// Damage is one thing of an image that is not what its digest says.
type Damage struct {
	Image      ID
	Name       string // the first of its names, "" if it has none
	Kind       string
	Digest     digest.Digest // of the blob; of a layer its chain ID
	Path       string        // in a layer; "" is the layer itself
	Problem    string
	Repaired   bool
	Unrepaired string // why not, if that was to be done
}

// Verified is what the verification of an image came to. What several images
// share is counted, and named, with the first of them.
type Verified struct {
	Image         ID
	Names         []string // familiar references, sorted
	Blobs, Layers int      // that were looked at
	Damaged       int
	Repaired      int
}

// VerifyOptions of a verification.
type VerifyOptions struct {
	Images []string // references or IDs; empty: all
	Repair bool
	// Source opens a repository from which blobs can be fetched again. nil without Repair.
	Source func(reference.Named) Source
	Damage func(Damage) error   // called for each damaged thing
	Image  func(Verified) error // called for each image at its end
}

// Verify reads every blob of the images again and compares its digest, and
// compares every unpacked layer with what its blob unpacks to now. With Repair
// it fetches damaged blobs again from the repositories in which the image has a
// digest, unpacks damaged layers again, and replaces each in one step. Images
// can be used, and come and go, meanwhile: what goes is not damaged.
func (s *Service) Verify(ctx context.Context, o VerifyOptions) error {
	ids, err := s.db.view.Load().toVerify(o.Images)
	if err != nil {
		return err
	}
	if err := s.layers.DropReplaced(); err != nil {
		return err
	}
	v := &verification{s: s, o: o, blobs: map[digest.Digest]bool{}, layers: map[layer.ChainID]bool{}}
	for _, id := range ids {
		if err := v.image(ctx, id); err != nil {
			return fmt.Errorf("verify image %s: %w", id, err)
		}
	}
	return nil
}

// toVerify are the images that references mean; all, sorted, if there are none.
func (v *view) toVerify(refs []string) (ids []ID, err error) {
	for _, ref := range refs {
		f, err := v.find(ref)
		if err != nil {
			return nil, err
		}
		for _, id := range f.all() {
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	if len(refs) > 0 {
		return ids, nil
	}
	for id := range v.byID {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b ID) int { return slices.Compare(v.byID[a], v.byID[b]) })
	return ids, nil
}

// verification is one Verify under way.
type verification struct {
	s      *Service
	o      VerifyOptions
	blobs  map[digest.Digest]bool // that were looked at → sound
	layers map[layer.ChainID]bool

	at    Verified               // the image that is being verified
	via   []Source               // where its blobs may be fetched
	tried map[digest.Digest]bool // blobs that could not be had from there
}

func (v *verification) image(ctx context.Context, id ID) error {
	view := v.s.db.view.Load()
	v.at = Verified{Image: id, Names: []string{}}
	v.via, v.tried = nil, map[digest.Digest]bool{}
	for _, n := range view.references(id) {
		v.at.Names = append(v.at.Names, familiar(n))
		ref, err := reference.ParseNormalizedNamed(n)
		if _, ok := ref.(reference.Digested); err == nil && ok && v.o.Repair {
			v.via = append(v.via, v.o.Source(ref))
		}
	}
	slices.Sort(v.at.Names)
	packed, err := v.packed(ctx, view, id)
	if err != nil {
		return err
	}
	if err := v.unpacked(ctx, id, packed); err != nil {
		return err
	}
	if v.at.Repaired > 0 {
		v.s.loaded.Delete(id)
	}
	return v.o.Image(v.at)
}

// packed verifies what the names of an image lead to, but for its unpacked layers,
// and returns the layers of one of its manifests, that of sound ones if there is one.
func (v *verification) packed(ctx context.Context, view *view, id ID) (layers []ocispec.Descriptor, err error) {
	for _, ref := range view.byID[id] {
		n := view.of(ref, id)
		for _, e := range n.all() {
			m, err := v.documents(ctx, name{entry: e, target: n.target})
			if err != nil {
				return nil, err
			}
			if m == nil {
				continue
			}
			sound := true
			for _, l := range m.Layers {
				ok, err := v.blob(ctx, KindBlob, l, nil)
				if err != nil {
					return nil, err
				}
				sound = sound && ok
			}
			if sound || layers == nil {
				layers = m.Layers
			}
		}
	}
	return layers, nil
}

// documents verifies index, attestations, manifest and configuration to which
// a name leads, and returns the manifest; nil: it is damaged.
func (v *verification) documents(ctx context.Context, n name) (*ocispec.Manifest, error) {
	if n.indexed() {
		if err := v.index(ctx, n.target, n.manifest.Digest, newLevels()); err != nil {
			return nil, err
		}
	}
	if ok, err := v.blob(ctx, KindManifest, n.manifest, Source.Manifest); err != nil || !ok {
		return nil, err
	}
	config := ocispec.Descriptor{Digest: n.id, Size: maxDocument}
	m, err := v.s.manifestOf(ctx, n.id, n.manifest.Digest)
	if err != nil {
		return nil, v.unlessGone(n.id, err)
	}
	if m.Config.Digest == n.id {
		config = m.Config
	}
	_, err = v.blob(ctx, KindConfig, config, nil)
	return m, err
}

// unlessGone is err, unless the image has been removed meanwhile.
func (v *verification) unlessGone(id ID, err error) error {
	if v.gone(id) {
		return nil
	}
	return err
}

func (v *verification) gone(id ID) bool { return len(v.s.db.view.Load().byID[id]) == 0 }

// index verifies the indexes that lead to a manifest, and its attestations: at each
// depth, at which the first of met is, an index once, as indexesBelow.
func (v *verification) index(ctx context.Context, at ocispec.Descriptor, manifest digest.Digest, met []seen) error {
	if ok, err := v.blob(ctx, KindIndex, at, Source.Manifest); err != nil || !ok || len(met) == 0 {
		return err
	}
	if met[0].before(at.Digest) {
		return nil
	}
	b, err := v.s.content.Read(ctx, at.Digest, maxDocument)
	if err != nil {
		return v.unlessGone(v.at.Image, err)
	}
	index, err := parseIndex(b)
	if err != nil {
		return err
	}
	for _, d := range attestationsOf(index, manifest) {
		if err := v.attestation(ctx, d); err != nil {
			return err
		}
	}
	for _, d := range index.Manifests {
		nested := images.IsIndexType(d.MediaType)
		if d.Digest != manifest && nested && v.s.content.Has(d.Digest) { // those of other platforms did not come
			if err := v.index(ctx, d, manifest, met[1:]); err != nil {
				return err
			}
		}
	}
	return nil
}

// attestation verifies what there is of an attestation: a pull may leave them out.
func (v *verification) attestation(ctx context.Context, d ocispec.Descriptor) error {
	if !v.s.content.Has(d.Digest) {
		return nil
	}
	if ok, err := v.blob(ctx, KindAttestation, d, Source.Manifest); err != nil || !ok {
		return err
	}
	b, err := v.s.content.Read(ctx, d.Digest, maxDocument)
	if err != nil {
		return v.unlessGone(v.at.Image, err)
	}
	parts, err := listed(b)
	if err != nil {
		return fmt.Errorf("attestation %s: %w", d.Digest, err)
	}
	for _, part := range parts {
		if !v.s.content.Has(part.Digest) {
			continue
		}
		if _, err := v.blob(ctx, KindAttestation, part, nil); err != nil {
			return err
		}
	}
	return nil
}

// fetcher fetches a document whole; nil where a blob is fetched as a stream.
type fetcher = func(Source, context.Context, ocispec.Descriptor) ([]byte, error)

// blob verifies one blob and reports whether it is sound, or is so now.
func (v *verification) blob(ctx context.Context, kind string, d ocispec.Descriptor, fetch fetcher) (bool, error) {
	sound, seen := v.blobs[d.Digest]
	if seen && (sound || !v.o.Repair || v.tried[d.Digest]) {
		return sound, nil
	}
	if !seen {
		v.at.Blobs++
	}
	sound, err := v.s.content.Sound(ctx, d.Digest)
	problem := "has another digest"
	if errdefs.Is(err, errdefs.NotFound) {
		problem, err = "is missing", nil
	}
	if err != nil && ctx.Err() == nil { // the disk cannot read it
		problem, err = err.Error(), nil
	}
	if err != nil || sound || v.gone(v.at.Image) {
		v.blobs[d.Digest] = sound
		return sound, err
	}
	damage := Damage{Image: v.at.Image, Kind: kind, Digest: d.Digest, Problem: problem}
	if v.o.Repair {
		damage.Repaired, damage.Unrepaired = v.refetch(ctx, d, fetch)
	}
	v.blobs[d.Digest], v.tried[d.Digest] = damage.Repaired, true
	return damage.Repaired, v.say(damage)
}

func (v *verification) say(d Damage) error {
	v.at.Damaged++
	if len(v.at.Names) > 0 {
		d.Name = v.at.Names[0]
	}
	if d.Repaired {
		v.at.Repaired++
	}
	return v.o.Damage(d)
}

// refetch replaces a damaged blob by what the first of the repositories sends
// that has it, or says why that was not possible.
func (v *verification) refetch(ctx context.Context, d ocispec.Descriptor, fetch fetcher) (ok bool, why string) {
	if len(v.via) == 0 {
		return false, "no registry is known to have it: the image has no digest in a repository"
	}
	var errs []error
	for _, from := range v.via {
		err := v.refetchFrom(ctx, from, d, fetch)
		if err == nil {
			return true, ""
		}
		errs = append(errs, err)
	}
	return false, errors.Join(errs...).Error()
}

func (v *verification) refetchFrom(ctx context.Context, from Source, d ocispec.Descriptor, fetch fetcher) error {
	end := func() {}
	defer func() { end() }()
	write := func(w io.Writer) error {
		if err := copyBlob(ctx, w, from, d, fetch); err != nil {
			return err
		}
		var err error
		if end, err = v.s.begin(ctx); err != nil { // until the blob has its place
			end = func() {}
			return err
		}
		if v.gone(v.at.Image) {
			return errVanished
		}
		failpoint.Hit("repair/blob-fetched")
		return nil
	}
	ok, err := v.s.content.Replace(d.Digest, write)
	if err == nil && !ok {
		err = errors.New("the registry sends something else")
	}
	return err
}

func copyBlob(ctx context.Context, w io.Writer, from Source, d ocispec.Descriptor, fetch fetcher) error {
	if fetch != nil {
		b, err := fetch(from, ctx, d)
		if err == nil {
			_, err = w.Write(b)
		}
		return err
	}
	r, err := from.Blob(ctx, d, 0)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(w, io.LimitReader(r, d.Size+1))
	return err
}

// unpacked compares the layers of an image with their blobs, base first.
func (v *verification) unpacked(ctx context.Context, id ID, packed []ocispec.Descriptor) (err error) {
	b, err := v.s.content.Read(ctx, id, maxDocument)
	if err != nil { // has been named
		return nil
	}
	p, err := parseConfig(b)
	if err != nil {
		return err
	}
	batch := v.s.layers.NewBatch()
	defer func() { err = errors.Join(err, batch.Close()) }()
	var parent layer.ChainID
	for i, chain := range p.chains {
		if !v.layers[chain] {
			var blob digest.Digest
			if i < len(packed) && len(packed) == len(p.chains) && v.blobs[packed[i].Digest] {
				blob = packed[i].Digest
			}
			if err := v.layer(ctx, batch, layerCheck{parent, chain, p.config.RootFS.DiffIDs[i], blob}); err != nil {
				return err
			}
		}
		parent = chain
	}
	return nil
}

// layerCheck is one layer to be compared with its blob; "" if that is damaged.
type layerCheck struct {
	parent, chain layer.ChainID
	diff          layer.DiffID
	blob          digest.Digest
}

// layer compares a layer with its blob, which is unpacked again into staging by
// the same confined thread as before: what the tree must be, no second
// description of it can say. A sound one goes from there at once.
func (v *verification) layer(ctx context.Context, batch *layer.Batch, c layerCheck) error {
	_, seen := v.layers[c.chain]
	if !seen {
		v.at.Layers++
	}
	damage := Damage{Image: v.at.Image, Kind: KindLayer, Digest: c.chain}
	if c.blob == "" {
		v.layers[c.chain] = false
		if !seen && !v.s.layers.Has(c.chain) && !v.gone(v.at.Image) {
			damage.Problem, damage.Unrepaired = "is missing", v.ifRepair("its blob is damaged")
			return v.say(damage)
		}
		return nil
	}
	if err := v.unpackAgain(ctx, batch, c); err != nil {
		return v.unlessGone(v.at.Image, err)
	}
	found, err := batch.Check(ctx, c.chain)
	if err != nil {
		return v.unlessGone(v.at.Image, err)
	}
	if len(found) == 0 || v.gone(v.at.Image) {
		v.layers[c.chain] = len(found) == 0
		return batch.Drop(c.chain)
	}
	if v.o.Repair {
		if err := v.replace(ctx, batch, c.chain); err != nil {
			damage.Unrepaired = err.Error()
		} else {
			damage.Repaired = true
		}
	}
	v.layers[c.chain] = damage.Repaired
	if seen && !damage.Repaired { // has been named with another image
		return nil
	}
	for _, f := range found {
		damage.Path, damage.Problem = f.Path, f.Problem
		if err := v.say(damage); err != nil {
			return err
		}
	}
	return nil
}

func (v *verification) ifRepair(why string) string {
	if v.o.Repair {
		return why
	}
	return ""
}

func (v *verification) unpackAgain(ctx context.Context, batch *layer.Batch, c layerCheck) error {
	f, err := v.s.content.Open(c.blob)
	if err != nil {
		return err
	}
	defer f.Close()
	var diff digest.Digest
	err = unpackPacked(ctx, f, func(r io.Reader) error { return batch.Unpack(ctx, c.parent, c.diff, r) }, &diff)
	if err == nil && diff != c.diff {
		err = mismatch(diff, c.diff)
	}
	return err
}

// replace puts the layer of the batch in place, if the image still is there.
func (v *verification) replace(ctx context.Context, batch *layer.Batch, chain layer.ChainID) error {
	end, err := v.s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if v.gone(v.at.Image) {
		return errVanished
	}
	return batch.Replace(chain)
}
