package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/disk"
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

// Local is a Source on this machine's disk, whose blobs need not be copied.
type Local interface {
	Source
	// File is a file with the bytes of a blob, verified and never changed, to which
	// there may be a link; there need be none.
	File(d digest.Digest) string
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
	if err := unambiguous(ref); err != nil {
		return nil, err
	}
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

	manifest digest.Digest // to be pulled, once it was found; ""
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
	v := p.s.db.view.Load()
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
	if have := p.known(ctx, c); have != nil {
		p.out.also = nil
		p.result("Image is up to date for ")
		return have, nil
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
	err = whileVanishing(func() error {
		if err := l.fetch(ctx); err != nil {
			return err
		}
		failpoint.Hit("pull/unpacked")
		return p.keep(ctx, in, c, l)
	})
	if err != nil {
		return nil, err
	}
	p.out.also = nil
	p.result("Downloaded newer image for ")
	return &Pulled{ID: c.id, Name: reference.FamiliarString(p.ref), New: true}, nil
}

// known returns the image if all names lead to it, which could not be said before
// the registry was asked: the index has others that are not stored.
func (p *pull) known(ctx context.Context, c *candidate) *Pulled {
	p.manifest = digest.FromBytes(c.manifest)
	for _, b := range append([][]byte{c.manifest}, c.around...) {
		if !p.s.content.HasWhole(digest.FromBytes(b), int64(len(b))) {
			return nil
		}
	}
	return p.have(ctx)
}

// fits refuses an image whose packed layers alone do not fit on the disk.
func (p *pull) fits(c *candidate) error {
	var need int64
	for _, m := range c.layers {
		if !p.s.content.HasWhole(m.digest, m.size) {
			need += min(m.size, math.MaxInt64-need)
		}
	}
	return p.s.roomFor("the layers of "+p.called()+" have", need)
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
