package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/auxprogress"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
)

// Destination is a repository of a registry, as far as a push needs it.
type Destination interface {
	// Has reports whether the repository has the blob or manifest.
	Has(ctx context.Context, d ocispec.Descriptor) (bool, error)
	// Mount has the registry take a blob over from another of its repositories;
	// false: it does not, and nothing is lost.
	Mount(ctx context.Context, d ocispec.Descriptor, from string) (bool, error)
	// PushBlob sends a blob, which open gives from an offset on. It may be called
	// several times.
	PushBlob(ctx context.Context, d ocispec.Descriptor, open func(offset int64) (io.ReadCloser, error), progress func(int64)) error
	// PushManifest sends a manifest or index to be had by a tag or its digest.
	PushManifest(ctx context.Context, tagOrDigest, mediaType string, b []byte) (digest.Digest, error)
}

// PushOptions of a push.
type PushOptions struct {
	Platform *ocispec.Platform        // only the image of this one; nil: all that are there
	Foreign  bool                     // layers that "must not be distributed" go too
	Uploads  int                      // layers at a time
	Out      func(jsonstream.Message) // progress and result as Docker words them; may be nil
}

// Pushed is what a push left at the registry, and what it tells its client as
// "aux".
type Pushed struct {
	Tag    string
	Digest digest.Digest
	Size   int64 // of the manifest or index
}

// Tags lists the tags that a repository has here.
func (s *Service) Tags(repository reference.Named) []string {
	var tags []string
	for ref := range s.db.view.Load().names {
		if tag, ok := strings.CutPrefix(ref, repository.Name()+":"); ok {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return tags
}

// Push sends the image that ref names, bit by bit as it came: what the registry
// has is not sent.
func (s *Service) Push(ctx context.Context, ref reference.NamedTagged, to Destination, o PushOptions) error {
	n, ok := s.db.view.Load().names[ref.String()]
	if !ok {
		return errdefs.New(errdefs.NotFound, "An image does not exist locally with the tag: %s", reference.FamiliarName(ref))
	}
	p := &push{s: s, ref: ref, to: to, o: o, out: reporter{out: o.Out}}
	documents, err := p.selectDocuments(ctx, n)
	if err != nil {
		return err
	}
	if err := p.sendBlobs(ctx, documents); err != nil {
		return err
	}
	return p.sendDocuments(ctx, documents)
}

// push is one push under way.
type push struct {
	s   *Service
	ref reference.NamedTagged
	to  Destination
	o   PushOptions
	out reporter
}

// document is a manifest or index with what it lists, in the order in which a
// registry takes them: what lists others comes after them.
type document struct {
	descriptor ocispec.Descriptor
	bytes      []byte
	blobs      []ocispec.Descriptor // configuration and layers of a manifest
}

// selectDocuments returns those that the push sends: the index if all of it is
// here, else the one manifest.
func (p *push) selectDocuments(ctx context.Context, n name) ([]document, error) {
	if p.o.Platform != nil {
		return p.documentsFor(ctx, n, *p.o.Platform)
	}
	all, err := p.below(ctx, n.target, 0, seen{})
	if errors.Is(err, errNotHere) && n.target.Digest != n.manifest.Digest { // the index's other images are not
		p.out.aux(auxprogress.ManifestPushedInsteadOfIndex{ManifestPushedInsteadOfIndex: true, OriginalIndex: n.target, SelectedManifest: n.manifest})
		all, err = p.below(ctx, n.manifest, 0, seen{})
	}
	if errors.Is(err, errNotHere) {
		return nil, fmt.Errorf("image %s is not whole: a layer or document of it is missing from the store", reference.FamiliarString(p.ref))
	}
	return all, err
}

// documentsFor returns the documents of one platform.
func (p *push) documentsFor(ctx context.Context, n name, want ocispec.Platform) ([]document, error) {
	var damaged error
	for _, e := range n.all() {
		parts, err := p.s.partsOf(ctx, e.id)
		if err != nil { // it may be another one that is wanted
			damaged = err
			continue
		}
		if Matches(want, parts.config.Platform) {
			return p.below(ctx, e.manifest, 0, seen{})
		}
	}
	index, err := p.s.content.Read(ctx, n.target.Digest, maxDocument)
	if err != nil {
		return nil, err
	}
	if i, err := parseIndex(index); err == nil {
		for _, d := range i.Manifests {
			if d.Platform == nil || !Matches(want, *d.Platform) {
				continue
			}
			if all, err := p.below(ctx, d, 1, seen{}); !errors.Is(err, errNotHere) {
				return all, err
			}
		}
	}
	return nil, cmp.Or(damaged, notProvided(reference.FamiliarString(p.ref), want))
}

// errNotHere says that a part of an index is not stored.
var errNotHere = errors.New("not stored")

// below are a stored document and all that it lists, itself last, without those
// met before.
func (p *push) below(ctx context.Context, at ocispec.Descriptor, depth int, met seen) ([]document, error) {
	if depth > maxNesting {
		return nil, invalidDocument("indexes are nested more than %d deep", maxNesting)
	}
	if met.before(at.Digest) {
		return nil, nil
	}
	b, err := p.s.content.Read(ctx, at.Digest, maxDocument)
	if errdefs.Is(err, errdefs.NotFound) {
		return nil, errNotHere
	}
	if err != nil {
		return nil, err
	}
	d := document{descriptor: at, bytes: b}
	if images.IsIndexType(at.MediaType) {
		i, err := parseIndex(b)
		if err != nil {
			return nil, err
		}
		var all []document
		for _, m := range i.Manifests {
			more, err := p.below(ctx, m, depth+1, met)
			if err != nil {
				return nil, err
			}
			all = append(all, more...)
		}
		return append(all, d), nil
	}
	if d.blobs, err = listed(b); err != nil {
		return nil, invalidDocument("%w", err)
	}
	for _, blob := range d.blobs {
		if layerTypes[blob.MediaType] == foreign && !p.o.Foreign {
			continue
		}
		if !p.s.content.HasWhole(blob.Digest, blob.Size) {
			return nil, errNotHere
		}
	}
	return []document{d}, nil
}

// sendBlobs sends the blobs of all documents, each once.
func (p *push) sendBlobs(ctx context.Context, documents []document) error {
	var blobs []ocispec.Descriptor
	seen := map[digest.Digest]bool{}
	for _, d := range documents {
		for _, blob := range d.blobs {
			if !seen[blob.Digest] {
				seen[blob.Digest] = true
				blobs = append(blobs, blob)
			}
		}
	}
	for _, blob := range blobs {
		if isLayer(blob) {
			p.out.status(shown(blob), "Preparing")
		}
	}
	origins := p.s.origins(p.ref, seen)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, p.o.Uploads))
	for _, blob := range blobs {
		g.Go(func() error { return p.sendBlob(ctx, blob, origins[blob.Digest]) })
	}
	return g.Wait()
}

func isLayer(d ocispec.Descriptor) bool {
	_, ok := layerTypes[d.MediaType]
	return ok
}

func shown(d ocispec.Descriptor) string { return ident.Short(d.Digest.Encoded()) }

// sendBlob sends one blob, unless the registry has it, here or in another
// repository that we know of.
func (p *push) sendBlob(ctx context.Context, d ocispec.Descriptor, origin string) error {
	say := func(status string) {
		if isLayer(d) {
			p.out.status(shown(d), status)
		}
	}
	if layerTypes[d.MediaType] == foreign && !p.o.Foreign {
		say("Skipped foreign layer")
		return nil
	}
	if has, err := p.to.Has(ctx, d); err != nil || has {
		if err == nil {
			say("Layer already exists")
		}
		return err
	}
	if origin != "" {
		done, err := p.to.Mount(ctx, d, origin)
		if err != nil {
			return err
		}
		if done {
			say("Mounted from " + origin)
			return nil
		}
	}
	var last pace
	tell := func(n int64) {
		if isLayer(d) && last.due() {
			p.out.say(jsonstream.Message{ID: shown(d), Status: "Pushing", Progress: &jsonstream.Progress{Current: n, Total: d.Size}})
		}
	}
	err := p.to.PushBlob(ctx, d, func(offset int64) (io.ReadCloser, error) {
		f, err := p.s.content.Open(d.Digest)
		if err != nil {
			return nil, err
		}
		if _, err := f.Seek(offset, io.SeekStart); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	}, tell)
	if errors.Is(err, os.ErrNotExist) {
		return errdefs.New(errdefs.Conflict, "image %s was removed during the push", reference.FamiliarString(p.ref))
	}
	if err == nil {
		say("Pushed")
	}
	return err
}

// origins are repositories of the same registry that a blob came from or went
// to, by the references that stand for images with it.
func (s *Service) origins(to reference.Named, blobs map[digest.Digest]bool) map[digest.Digest]string {
	v := s.db.view.Load()
	found := map[digest.Digest]string{}
	for full, n := range v.entries() {
		ref, err := reference.ParseNormalizedNamed(full)
		if err != nil || reference.Domain(ref) != reference.Domain(to) || ref.Name() == to.Name() {
			continue
		}
		if _, ok := ref.(reference.Digested); !ok { // only these say that the registry has it
			continue
		}
		for _, d := range s.blobsOf(context.Background(), n) {
			if blobs[d] {
				found[d] = reference.Path(ref)
			}
		}
	}
	return found
}

// sendDocuments sends the documents; the last gets the tag.
func (p *push) sendDocuments(ctx context.Context, documents []document) error {
	for _, d := range documents[:len(documents)-1] {
		if _, err := p.to.PushManifest(ctx, d.descriptor.Digest.String(), d.descriptor.MediaType, d.bytes); err != nil {
			return err
		}
	}
	last := documents[len(documents)-1]
	if _, err := p.to.PushManifest(ctx, p.ref.Tag(), last.descriptor.MediaType, last.bytes); err != nil {
		return err
	}
	if err := p.remember(ctx, last.descriptor); err != nil {
		return err
	}
	done := Pushed{Tag: p.ref.Tag(), Digest: last.descriptor.Digest, Size: int64(len(last.bytes))}
	p.out.say(jsonstream.Message{Status: done.Tag + ": digest: " + done.Digest.String() + " size: " + strconv.FormatInt(done.Size, 10)})
	p.out.aux(done)
	return nil
}

// remember names the image as the registry has it now: `repository@digest`.
func (p *push) remember(ctx context.Context, pushed ocispec.Descriptor) error {
	end, err := p.s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	v := p.s.db.view.Load()
	n := v.names[p.ref.String()]
	if n.target.Digest != pushed.Digest {
		at := slices.IndexFunc(n.all(), func(e entry) bool { return e.manifest.Digest == pushed.Digest })
		if at < 0 {
			return nil // it stands for another one meanwhile
		}
		n = name{entry: n.all()[at], target: pushed}
	}
	digested := p.ref.Name() + "@" + pushed.Digest.String()
	if _, ok := v.names[digested]; ok {
		return nil
	}
	return p.s.db.update(ctx, func(tx *transaction) error { return tx.set(digested, n) })
}
