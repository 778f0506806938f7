package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	regtypes "github.com/moby/moby/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/manifest"
	"github.com/tare-engine/tare/internal/registry"
)

// Bounds of an index whose manifests are read or pushed.
const (
	maxMembers     = 1000
	maxMemberBytes = 4 * registry.MaxManifest // of all manifests together
)

// open is repository, for a registry that this request may use without TLS.
// Whoever opens it calls done.
func (d *Distribution) open(ref reference.Named, auth *regtypes.AuthConfig, insecure bool) (r *registry.Repository, done func()) {
	if !insecure {
		return d.repository(ref, auth), func() {}
	}
	c := d.registries.Insecure(reference.Domain(ref))
	return c.Repository(ref, credentials(auth)), c.Close
}

// RegistryManifest reads a manifest or an index from its registry.
func (d *Distribution) RegistryManifest(ctx context.Context, o api.ManifestOptions) (api.RegistryManifest, error) {
	ref, err := parseRepo(o.Ref, "")
	if err != nil {
		return api.RegistryManifest{}, err
	}
	ref = reference.TagNameOnly(ref)
	from, done := d.open(ref, o.Auth, o.Insecure)
	defer done()
	at, raw, err := from.Document(ctx, image.TagOrDigest(ref))
	if err != nil {
		return api.RegistryManifest{}, noManifest(ref, err)
	}
	m := api.RegistryManifest{Ref: ref.String(), Descriptor: at, Raw: raw}
	switch index := images.IsIndexType(at.MediaType); {
	case index && o.Members:
		m.Manifests, err = members(ctx, from, ref, raw)
	case !index && o.Platform:
		m.Descriptor.Platform, err = platformOf(ctx, from, ref, raw)
	}
	return m, err
}

// noManifest is the text of docker's command line for what a registry does not have.
func noManifest(ref reference.Reference, err error) error {
	if registry.IsUnknown(err) {
		return errdefs.New(errdefs.NotFound, "no such manifest: %s", ref)
	}
	return err
}

// platformOf reads what an image is made for.
func platformOf(ctx context.Context, from *registry.Repository, ref reference.Named, raw []byte) (*ocispec.Platform, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, errdefs.New(errdefs.InvalidArgument, "manifest %s cannot be read: %w", ref, err)
	}
	p, err := image.ConfigPlatform(ctx, from, m.Config)
	if err != nil {
		return nil, fmt.Errorf("configuration of %s: %w", ref, err)
	}
	return &p, nil
}

// members reads the manifests of an index.
func members(ctx context.Context, from *registry.Repository, ref reference.Named, raw []byte) ([]api.RegistryManifest, error) {
	entries, err := entriesOf(ref, raw)
	if err != nil {
		return nil, err
	}
	list := []api.RegistryManifest{}
	total := int64(0)
	for _, e := range entries {
		named, err := reference.WithDigest(ref, e.Digest)
		if err != nil {
			return nil, errdefs.As(errdefs.InvalidArgument, err)
		}
		if total += e.Size; total > maxMemberBytes {
			return nil, errdefs.New(errdefs.InvalidArgument, "the manifests of %s have more than %d bytes together", ref, maxMemberBytes)
		}
		b, err := from.Manifest(ctx, e)
		if err != nil {
			return nil, noManifest(named, err)
		}
		at := ocispec.Descriptor{MediaType: e.MediaType, Digest: e.Digest, Size: e.Size, Platform: e.Platform}
		list = append(list, api.RegistryManifest{Ref: named.String(), Descriptor: at, Raw: b})
	}
	return list, nil
}

// entriesOf returns the descriptors in an index, of which each is of an image's
// manifest and has a digest.
func entriesOf(ref reference.Named, raw []byte) ([]ocispec.Descriptor, error) {
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, errdefs.New(errdefs.InvalidArgument, "index %s cannot be read: %w", ref, err)
	}
	if n := len(index.Manifests); n > maxMembers {
		return nil, errdefs.New(errdefs.InvalidArgument, "index %s has %d manifests, at most %d are possible", ref, n, maxMembers)
	}
	for _, e := range index.Manifests {
		if err := e.Digest.Validate(); err != nil {
			return nil, errdefs.New(errdefs.InvalidArgument, "index %s has a manifest with the digest %.100q: %w", ref, e.Digest, err)
		}
		if !images.IsManifestType(e.MediaType) {
			return nil, errdefs.New(errdefs.InvalidArgument, "index %s has something that is no manifest of an image: %s has the media type %.100q", ref, e.Digest, e.MediaType)
		}
		if e.Size < 0 {
			return nil, errdefs.New(errdefs.InvalidArgument, "index %s has a manifest with a size below zero: %s", ref, e.Digest)
		}
	}
	return index.Manifests, nil
}

// ManifestPush puts an index into a repository. Manifests of it that come from
// other repositories of the same registry are put beside it, with blobs that the
// registry takes over from there. The index comes last, so it never lacks any.
func (d *Distribution) ManifestPush(ctx context.Context, o api.ManifestPush, auth *regtypes.AuthConfig, out func(jsonstream.Message)) error {
	p, err := newIndexPush(o)
	if err != nil {
		return err
	}
	var done func()
	p.to, done = d.open(p.ref, auth, o.Insecure)
	defer done()
	return p.run(ctx, out)
}

// indexPush is an index on its way.
type indexPush struct {
	ref    reference.Named
	to     *registry.Repository
	at     ocispec.Descriptor
	raw    []byte
	guests []guest
}

// guest is a manifest of another repository.
type guest struct {
	from    reference.Named
	at      ocispec.Descriptor
	raw     []byte
	blobs   []ocispec.Descriptor
	windows bool // its blobs may be such that no registry has them
}

// newIndexPush checks all that can be checked without asking anybody.
func newIndexPush(o api.ManifestPush) (*indexPush, error) {
	ref, err := parseRepo(o.Index.Ref, "")
	if err != nil {
		return nil, err
	}
	p := &indexPush{ref: reference.TagNameOnly(ref), at: o.Index.Descriptor, raw: o.Index.Raw}
	if !images.IsIndexType(p.at.MediaType) {
		return nil, errdefs.New(errdefs.InvalidArgument, "index %s has the media type %.100q, which is none of an index", p.ref, p.at.MediaType)
	}
	if err := checkRaw(p.ref, p.at, p.raw); err != nil {
		return nil, err
	}
	entries, err := entriesOf(p.ref, p.raw)
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return nil, errdefs.New(errdefs.InvalidArgument, "index %s has no manifests", p.ref)
	}
	for _, m := range o.Index.Manifests {
		if err := p.add(m, entries); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// checkRaw compares a document with its descriptor.
func checkRaw(ref reference.Named, at ocispec.Descriptor, raw []byte) error {
	if err := at.Digest.Validate(); err != nil {
		return errdefs.New(errdefs.InvalidArgument, "digest parse of image %q failed: %w", ref, err)
	}
	if len(raw) > registry.MaxManifest {
		return errdefs.New(errdefs.InvalidArgument, "manifest %s has %d bytes, at most %d are possible", ref, len(raw), registry.MaxManifest)
	}
	if got := at.Digest.Algorithm().FromBytes(raw); got != at.Digest {
		return errdefs.New(errdefs.InvalidArgument, "internal digest mismatch for %s: expected %s, got %s", ref, at.Digest, got)
	}
	if err := manifest.Check(at.MediaType, raw); err != nil {
		return errdefs.New(errdefs.InvalidArgument, "%s: %w", ref, err)
	}
	return nil
}

// add notes a manifest that is to be put beside the index.
func (p *indexPush) add(m api.RegistryManifest, entries []ocispec.Descriptor) error {
	from, err := parseRepo(m.Ref, "")
	if err != nil {
		return err
	}
	if a, b := reference.Domain(from), reference.Domain(p.ref); a != b {
		return errdefs.New(errdefs.InvalidArgument, "cannot use source images from a different registry than the target image: %s != %s", a, b)
	}
	i := slices.IndexFunc(entries, func(e ocispec.Descriptor) bool { return e.Digest == m.Descriptor.Digest })
	if i < 0 {
		return errdefs.New(errdefs.InvalidArgument, "manifest %s is not in the index: %s", from, m.Descriptor.Digest)
	}
	if reference.Path(from) == reference.Path(p.ref) {
		return nil // it is there
	}
	at := entries[i]
	if err := checkRaw(from, at, m.Raw); err != nil {
		return err
	}
	var doc ocispec.Manifest
	if err := json.Unmarshal(m.Raw, &doc); err != nil {
		return errdefs.New(errdefs.InvalidArgument, "manifest %s cannot be read: %w", from, err)
	}
	g := guest{from: from, at: at, raw: m.Raw, blobs: append([]ocispec.Descriptor{doc.Config}, doc.Layers...)}
	g.windows = at.Platform != nil && at.Platform.OS == "windows"
	for _, b := range g.blobs {
		if err := b.Digest.Validate(); err != nil {
			return errdefs.New(errdefs.InvalidArgument, "manifest %s has a blob with the digest %.100q: %w", from, b.Digest, err)
		}
	}
	p.guests = append(p.guests, g)
	return nil
}

func (p *indexPush) run(ctx context.Context, out func(jsonstream.Message)) error {
	for _, g := range p.guests {
		if err := p.mount(ctx, g); err != nil {
			return err
		}
	}
	for _, g := range p.guests {
		to, err := reference.WithDigest(reference.TrimNamed(p.ref), g.at.Digest)
		if err != nil {
			return errdefs.As(errdefs.InvalidArgument, err)
		}
		if err := p.put(ctx, to, g.at.Digest.String(), g.at, g.raw); err != nil {
			return err
		}
		out(jsonstream.Message{Status: fmt.Sprintf("Pushed ref %s with digest: %s", to, g.at.Digest)})
	}
	name := p.at.Digest.String()
	if t, ok := p.ref.(reference.Tagged); ok {
		name = t.Tag()
	}
	if err := p.put(ctx, p.ref, name, p.at, p.raw); err != nil {
		return err
	}
	out(jsonstream.Message{Status: p.at.Digest.String()})
	return nil
}

func (p *indexPush) put(ctx context.Context, ref reference.Named, tagOrDigest string, at ocispec.Descriptor, raw []byte) error {
	if _, err := p.to.PushManifest(ctx, tagOrDigest, at.MediaType, raw); err != nil {
		return fmt.Errorf("failed to put manifest %s: %w", ref, err)
	}
	return nil
}

// mount has the registry take the blobs of a manifest over.
func (p *indexPush) mount(ctx context.Context, g guest) error {
	path := reference.Path(g.from)
	for _, b := range g.blobs {
		mounted, err := p.to.Mount(ctx, b, path)
		if err == nil && !mounted {
			mounted, err = p.to.Has(ctx, b) // and who may not do the one may not do the other
		}
		if err != nil {
			return fmt.Errorf("failed to mount blob %s to %s: %w", blobOf(path, b.Digest), p.ref, err)
		}
		if !mounted && !g.windows {
			return errdefs.New(errdefs.NotFound, "error mounting %s to %s", blobOf(path, b.Digest), p.ref)
		}
	}
	return nil
}

func blobOf(path string, d digest.Digest) string { return path + "@" + d.String() }
