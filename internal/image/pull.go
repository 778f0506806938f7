package image

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"syscall"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/content"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/disk"
	"github.com/tare-engine/tare/internal/manifest"
)

// Source is a repository of a registry, as far as a pull needs it.
type Source interface {
	// Resolve finds what a tag or digest stands for.
	Resolve(ctx context.Context, tagOrDigest string) (ocispec.Descriptor, error)
	// Manifest returns a manifest or index, whose digest, size and kind are
	// verified.
	Manifest(ctx context.Context, d ocispec.Descriptor) ([]byte, error)
	// Blob returns the bytes of a blob from an offset on, at most as many as the
	// descriptor says. What can be tried again has been tried again. The digest
	// is for the caller to verify.
	Blob(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error)
	// WithoutMirrors has only the registry itself asked from now on: what a mirror
	// sent was wrong. It returns false if that changes nothing.
	WithoutMirrors() bool
}

// PullOptions of a pull.
type PullOptions struct {
	Platform *ocispec.Platform        // of an image that has several; nil: this machine's
	Foreign  bool                     // layers that "must not be distributed" are taken if the registry has them
	Nameless bool                     // the image gets no name of the reference
	Out      func(jsonstream.Message) // progress and result as Docker words them; may be nil
}

// Pulled is what a pull brought.
type Pulled struct {
	ID   ID
	Name string // familiar reference
	New  bool   // the name did not stand for it before
}

// Pull fetches the image that ref, with tag or digest, names in a repository.
// What is there is not fetched; what comes is verified before it is visible.
// Pulls of the same image share the work. A layer that came in part stays for
// the next attempt, unless ctx ended because the client left.
func (s *Service) Pull(ctx context.Context, ref reference.Named, from Source, o PullOptions) (_ *Pulled, err error) {
	p := &pull{s: s, from: from, o: o, ref: reference.TagNameOnly(ref)}
	if o.Out != nil { // a client that does not read holds up nobody who wants the same, or a place to fetch
		b := newOutbox(o.Out)
		defer b.close()
		p.out.out = b.put
	}
	tag := TagOrDigest(p.ref)
	if p.target, err = from.Resolve(ctx, tag); err != nil {
		return nil, err
	}
	shown := tag
	if _, ok := p.ref.(reference.Digested); ok {
		shown = p.ref.String()
	}
	p.out.say(jsonstream.Message{ID: shown, Status: "Pulling from " + reference.Path(p.ref)})
	for {
		if have := p.have(ctx); have != nil {
			p.result("Image is up to date for ")
			return have, nil
		}
		f, first, err := s.flights.board(ctx, p.key(), &p.out)
		if err != nil {
			return nil, err
		}
		if !first { // another one has pulled it, or failed
			continue
		}
		return p.fly(ctx, f)
	}
}

// TagOrDigest is what a reference names in its repository, "" if nothing. A
// digest goes before a tag.
func TagOrDigest(ref reference.Named) string {
	if d, ok := ref.(reference.Digested); ok {
		return d.Digest().String()
	}
	if t, ok := ref.(reference.Tagged); ok {
		return t.Tag()
	}
	return ""
}

// pull is one pull under way.
type pull struct {
	s      *Service
	from   Source
	o      PullOptions
	ref    reference.Named
	target ocispec.Descriptor
	out    reporter
}

// called is how messages call the image.
func (p *pull) called() string {
	if p.o.Nameless {
		return p.target.Digest.String()
	}
	return reference.FamiliarString(p.ref)
}

// key is the same for pulls that bring the same.
func (p *pull) key() string {
	platform := ""
	if p.o.Platform != nil {
		platform = platforms.FormatAll(*p.o.Platform)
	}
	return fmt.Sprint(p.target.Digest, " ", platform, " ", p.o.Nameless)
}

// names are the references that the pull sets: the one asked for, and the one
// that says what it stood for at this moment.
func (p *pull) names() []string {
	if p.o.Nameless {
		return nil
	}
	name := reference.TrimNamed(p.ref).String()
	digested := name + "@" + p.target.Digest.String()
	if t, ok := p.ref.(reference.Tagged); ok && TagOrDigest(p.ref) == t.Tag() {
		return []string{name + ":" + t.Tag(), digested}
	}
	return []string{digested}
}

// have returns the image if all names lead to it.
func (p *pull) have(ctx context.Context) *Pulled {
	v := p.s.view.Load()
	if p.o.Nameless {
		return p.haveNameless(ctx, v)
	}
	have := &Pulled{Name: reference.FamiliarString(p.ref)}
	for _, ref := range p.names() {
		n, ok := v.names[ref]
		if !ok || n.target.Digest != p.target.Digest {
			return nil
		}
		e, ok := p.suited(ctx, n)
		if !ok {
			return nil
		}
		have.ID = cmp.Or(have.ID, e.id)
	}
	return have
}

// suited is the image of a name that the pull would bring.
func (p *pull) suited(ctx context.Context, n name) (entry, bool) {
	for _, e := range n.all() {
		parts, err := p.s.partsOf(ctx, e.id)
		if err != nil {
			continue
		}
		choice := p.o.Platform != nil || n.indexed()
		if !choice || compatible(p.platform(), parts.config.Platform) {
			return e, true
		}
	}
	return entry{}, false
}

// haveNameless returns the image if any name leads to it.
func (p *pull) haveNameless(ctx context.Context, v *view) *Pulled {
	for _, n := range v.names {
		if n.target.Digest != p.target.Digest {
			continue
		}
		if e, ok := p.suited(ctx, n); ok {
			return &Pulled{ID: e.id}
		}
	}
	return nil
}

// result says what the pull came to, as Docker does.
func (p *pull) result(status string) {
	p.out.say(jsonstream.Message{Status: "Digest: " + p.target.Digest.String()})
	p.out.say(jsonstream.Message{Status: "Status: " + status + p.called()})
}

// errVanished says that something that did not have to be fetched was removed
// meanwhile.
var errVanished = errors.New("a part of the image was removed while it came")

// fly fetches and keeps the image. f ends with it.
func (p *pull) fly(ctx context.Context, f *flight) (_ *Pulled, err error) {
	defer p.s.flights.land(f)
	p.out.also = f.tell
	if err := p.s.content.ExpirePartials(); err != nil {
		return nil, err
	}
	in, err := p.s.newArrival()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.close()) }()
	c, err := p.candidate(ctx, in.stage)
	if err != nil {
		return nil, err
	}
	failpoint.Hit("pull/resolved")
	if err := p.fits(c); err != nil {
		return nil, err
	}
	l, err := p.layers(in, c)
	if err != nil {
		return nil, err
	}
	defer func() {
		// Who lost the connection wants to go on; who pressed Ctrl-C wants nothing
		// left. A full disk has no room for what is left, and an image that is wrong
		// will not be right the next time.
		keep := err != nil && (context.Cause(ctx) != context.Canceled || f.shared()) &&
			!disk.IsFull(err) && !errdefs.Is(err, errdefs.InvalidArgument)
		err = errors.Join(err, l.close(keep))
	}()
	const attempts = 3
	for i := range attempts {
		if err = l.fetch(ctx); err != nil {
			return nil, err
		}
		failpoint.Hit("pull/unpacked")
		if err = p.keep(ctx, in, c, l); !errors.Is(err, errVanished) || i == attempts-1 {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	p.out.also = nil
	p.result("Downloaded newer image for ")
	return &Pulled{ID: c.id, Name: reference.FamiliarString(p.ref), New: true}, nil
}

// fits refuses an image whose packed layers alone do not fit on the disk.
func (p *pull) fits(c *candidate) error {
	var need int64
	for _, m := range c.layers {
		if !p.s.content.Has(m.digest) {
			need += min(m.size, math.MaxInt64-need)
		}
	}
	fs, err := disk.Of(p.s.root)
	if err != nil || need <= fs.Free {
		return err
	}
	return fmt.Errorf("the layers of %s have %s, and %s has %s free: %w", p.called(),
		units.HumanSize(float64(need)), p.s.root, units.HumanSize(float64(fs.Free)), syscall.ENOSPC)
}

// keep makes the image visible, if what was there before the pull still is.
func (p *pull) keep(ctx context.Context, in *arrival, c *candidate, l *layerPulls) error {
	end, err := p.s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if !l.complete() {
		return errVanished
	}
	return in.keep(ctx, []*candidate{c})
}

// candidate fetches the documents: index, manifest, configuration.
func (p *pull) candidate(ctx context.Context, stage *content.Stage) (*candidate, error) {
	c := &candidate{names: p.names(), target: p.target}
	m, err := p.manifest(ctx, c, p.target, 0)
	if err != nil {
		return nil, err
	}
	if err := p.check(m); err != nil {
		return nil, err
	}
	b, err := p.s.content.Read(ctx, m.Config.Digest, maxDocument)
	if err != nil {
		b, err = fetchSmall(ctx, p.from, m.Config)
	}
	if err != nil {
		return nil, err
	}
	if c.parts, err = parseConfig(b); err != nil {
		return nil, err
	}
	have := c.parts.config.Platform
	switch {
	case have.OS != "" && have.OS != "linux":
		return nil, errdefs.New(errdefs.InvalidArgument, "image operating system %q cannot be used on this platform: operating system is not supported", have.OS)
	case p.o.Platform != nil && !compatible(p.platform(), have):
		return nil, notProvided(p.called(), *p.o.Platform)
	case len(m.Layers) != len(c.parts.chains):
		return nil, errdefs.New(errdefs.InvalidArgument, "invalid manifest: it lists %d layers, the image's configuration %d", len(m.Layers), len(c.parts.chains))
	}
	if c.config, err = stageBytes(stage, b); err != nil {
		return nil, err
	}
	c.id = c.config.digest
	for _, d := range m.Layers {
		c.layers = append(c.layers, &member{size: d.Size, digest: d.Digest})
	}
	return c, nil
}

// manifest follows a descriptor to the manifest of one platform.
func (p *pull) manifest(ctx context.Context, c *candidate, d ocispec.Descriptor, depth int) (*ocispec.Manifest, error) {
	if depth > maxNesting {
		return nil, invalidDocument("indexes are nested more than %d deep", maxNesting)
	}
	b, err := p.document(ctx, d)
	if err != nil {
		return nil, err
	}
	switch d.MediaType {
	case ocispec.MediaTypeImageManifest, images.MediaTypeDockerSchema2Manifest:
		c.manifest = b
		m := new(ocispec.Manifest)
		if err := json.Unmarshal(b, m); err != nil {
			return nil, invalidDocument("%w", err)
		}
		return m, nil
	case ocispec.MediaTypeImageIndex, images.MediaTypeDockerSchema2ManifestList:
		index, err := parseIndex(b)
		if err != nil {
			return nil, err
		}
		best, err := p.choose(index)
		if err != nil {
			return nil, err
		}
		more, err := p.attestations(ctx, index, best.Digest)
		if err != nil {
			return nil, err
		}
		c.around = append(append(c.around, b), more...)
		return p.manifest(ctx, c, best, depth+1)
	}
	return nil, errdefs.New(errdefs.InvalidArgument, "%s is no image: its manifest is of the media type %.100q", p.called(), d.MediaType)
}

// check refuses manifests that are not an image's, and layers that nobody may
// pass on.
func (p *pull) check(m *ocispec.Manifest) error {
	switch m.Config.MediaType {
	case ocispec.MediaTypeImageConfig, images.MediaTypeDockerSchema2Config:
	default:
		return errdefs.New(errdefs.InvalidArgument, "%s is no image: its configuration is of the media type %.100q",
			p.called(), m.Config.MediaType)
	}
	if err := checkDepth(len(m.Layers)); err != nil {
		return err
	}
	var packed int64
	for _, d := range m.Layers {
		switch kind, ok := layerTypes[d.MediaType]; {
		case d.Size < 0:
			return invalidDocument("layer %s has %d bytes", d.Digest, d.Size)
		case !ok:
			return errdefs.New(errdefs.InvalidArgument, "layer %s: unsupported media type %.100q", d.Digest, d.MediaType)
		case kind == foreign && !p.o.Foreign:
			return errdefs.New(errdefs.Forbidden, "layer %s must not be distributed (%s): it is taken only from registries that "+
				"\"allow-nondistributable-artifacts\" of the daemon names", d.Digest, d.MediaType)
		}
		packed += min(d.Size, math.MaxInt64-packed)
	}
	return p.s.underCap(p.called(), packed)
}

// nondistributable is the OCI's word for Docker's foreign layers: images of old
// have them still.
const nondistributable = "application/vnd.oci.image.layer.nondistributable.v1.tar"

type layerType int

const (
	ordinary layerType = iota
	foreign            // "nondistributable": the registry need not have it
)

var layerTypes = map[string]layerType{
	ocispec.MediaTypeImageLayer:                                 ordinary,
	ocispec.MediaTypeImageLayerGzip:                             ordinary,
	ocispec.MediaTypeImageLayerZstd:                             ordinary,
	images.MediaTypeDockerSchema2Layer:                          ordinary,
	images.MediaTypeDockerSchema2LayerGzip:                      ordinary,
	images.MediaTypeDockerSchema2LayerZstd:                      ordinary,
	images.MediaTypeDockerSchema2LayerForeign:                   foreign,
	images.MediaTypeDockerSchema2LayerForeignGzip:               foreign,
	"application/vnd.docker.image.rootfs.foreign.diff.tar.zstd": foreign,
	nondistributable:                                            foreign,
	nondistributable + "+gzip":                                  foreign,
	nondistributable + "+zstd":                                  foreign,
}

// document returns a manifest or index, from the store if it is there.
func (p *pull) document(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	b, err := p.s.content.Read(ctx, d.Digest, maxDocument)
	if err != nil {
		b, err = p.from.Manifest(ctx, d)
	}
	if err != nil {
		return nil, err
	}
	if err := manifest.Check(d.MediaType, b); err != nil {
		return nil, invalidDocument("%w", err)
	}
	return b, nil
}

// ConfigPlatform fetches an image's configuration and tells what it is made for.
func ConfigPlatform(ctx context.Context, from Source, config ocispec.Descriptor) (ocispec.Platform, error) {
	b, err := fetchSmall(ctx, from, config)
	if err != nil {
		return ocispec.Platform{}, err
	}
	p, err := parseConfig(b)
	if err != nil {
		return ocispec.Platform{}, err
	}
	return p.config.Platform, nil
}

// fetchSmall returns a small blob, verified.
func fetchSmall(ctx context.Context, from Source, d ocispec.Descriptor) ([]byte, error) {
	if d.Size > maxDocument {
		return nil, invalidDocument("blob %s has %d bytes, at most %d are possible", d.Digest, d.Size, maxDocument)
	}
	if err := checkDigest(d.Digest); err != nil {
		return nil, err
	}
	r, err := from.Blob(ctx, d, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, d.Size+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) != d.Size || digest.FromBytes(b) != d.Digest {
		return nil, errdefs.New(errdefs.InvalidArgument, "image config verification failed for digest %s", d.Digest)
	}
	return b, nil
}

func checkDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
		return errdefs.New(errdefs.InvalidArgument, "invalid manifest: digest %.100q", d)
	}
	return nil
}

func verificationFailed(d digest.Digest) error {
	return errdefs.New(errdefs.InvalidArgument, "filesystem layer verification failed for digest %s", d)
}

func unexpectedEnd(d digest.Digest, at, size int64) error {
	return fmt.Errorf("layer %s ends after %d of %d bytes: %w", d, at, size, io.ErrUnexpectedEOF)
}
