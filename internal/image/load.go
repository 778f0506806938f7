package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/layer"
)

// Loaded is one thing that a load brought: a name of an image, or an image
// without names.
type Loaded struct {
	ID   ID
	Name string // familiar reference, "" if the image came without one
}

// LoadOptions of a load.
type LoadOptions struct {
	Quiet     bool                     // no progress
	Platforms []ocispec.Platform       // of images that have several; empty: all
	Out       func(jsonstream.Message) // progress and result as Docker words them; may be nil
}

// Load reads an archive of `docker save` or an OCI layout, of which the outer
// file and each layer may be packed by gzip or zstd. All images of the archive
// are kept, or none. When it returns they are on disk.
func (s *Service) Load(ctx context.Context, r io.Reader, o LoadOptions) (_ []Loaded, err error) {
	in, err := s.newArrival()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.close()) }()
	early := s.newEarly(ctx, in.batch)
	defer early.stop()
	a, err := receive(ctx, r, in.stage, early.begin)
	if err != nil {
		return nil, err
	}
	failpoint.Hit("load/received")
	a.wanted = o.Platforms
	list, err := a.candidates()
	if err != nil {
		return nil, err
	}
	failpoint.Hit("load/parsed")
	l := &load{arrival: in, since: a.since(), made: map[digest.Digest]string{}, out: reporter{out: o.Out, quiet: o.Quiet}}
	if err := whileVanishing(func() error { return l.attempt(ctx, list) }); err != nil {
		return nil, err
	}
	return l.result(list), nil
}

// load is one load that has received and understood its archive.
type load struct {
	*arrival
	since []string                 // what the archive builds on, for messages
	known *knownLayers             // of this attempt
	taken []Blob                   // from the store, in this attempt
	below []layer.ChainID          // that were there already, in this attempt
	made  map[digest.Digest]string // blobs in staging that were made of others: path by digest
	out   reporter
}

// attempt finds, unpacks, verifies and keeps all that the images consist of. Only
// at the end, when that is a matter of names, it holds up others: what it takes
// from the store may vanish before.
func (l *load) attempt(ctx context.Context, list []*candidate) error {
	l.known, l.taken, l.below = newKnownLayers(l.s), nil, nil
	err := l.find(ctx, list)
	if err == nil {
		err = l.unpack(ctx, list)
	}
	if err != nil && l.vanished() {
		return fmt.Errorf("%w: %w", errVanished, err)
	}
	if err != nil {
		return err
	}
	failpoint.Hit("load/unpacked")
	end, err := l.s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if l.vanished() {
		return errVanished
	}
	return l.keep(ctx, list)
}

// vanished reports whether something was removed that did not have to come.
func (l *load) vanished() bool {
	return slices.ContainsFunc(l.taken, func(b Blob) bool { return !l.known.stored(b) }) ||
		slices.ContainsFunc(l.below, func(id layer.ChainID) bool { return !l.s.layers.Has(id) })
}

// layerJob is one layer to be unpacked or only verified.
type layerJob struct {
	parent layer.ChainID
	diff   layer.DiffID
	from   *member
	have   bool // only to be verified
}

// unpack unpacks and verifies the layers of all images, two at a time or more.
func (l *load) unpack(ctx context.Context, list []*candidate) error {
	var jobs []layerJob
	seen := map[layer.ChainID]digest.Digest{}
	for _, c := range list {
		var parent layer.ChainID
		for i, chain := range c.parts.chains {
			from, have := c.layers[i], l.s.layers.Has(chain)
			if have {
				l.below = append(l.below, chain)
			}
			if have && from.absent && l.known.diff(ctx, from.digest) == c.parts.config.RootFS.DiffIDs[i] {
				parent = chain
				continue // it was verified when it came
			}
			if was, ok := seen[chain]; !ok || was != from.digest {
				jobs = append(jobs, layerJob{parent, c.parts.config.RootFS.DiffIDs[i], from, have})
				seen[chain] = from.digest
			}
			parent = chain
		}
	}
	g, ctx := l.s.unpackers(ctx)
	for _, j := range jobs {
		g.Go(func() error { return l.layer(ctx, j) })
	}
	return g.Wait()
}

// layer verifies one layer's diff ID and unpacks it unless it is there.
func (l *load) layer(ctx context.Context, j layerJob) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	packed, err := j.from.compression()
	if err != nil {
		return err
	}
	if packed == plain { // the member's digest is the diff ID
		if j.from.digest != j.diff {
			return mismatch(j.from.digest, j.diff)
		}
		if j.have {
			return nil
		}
	}
	if u := j.from.early; u != nil && !j.have && !u.taken.Swap(true) {
		return l.takeEarly(ctx, u, j)
	}
	f, err := os.Open(j.from.path)
	if err != nil {
		return err
	}
	defer f.Close()
	id := ident.Short(j.diff.Encoded())
	r := io.Reader(&progress{r: f, ctx: ctx, out: &l.out, id: id, total: j.from.size})
	if packed == plain && !j.from.absent {
		return l.batch.Unpack(ctx, j.parent, j.diff, r)
	}
	var got digest.Digest
	err = unpackPacked(ctx, r, func(r io.Reader) error {
		if j.have {
			return nil
		}
		return l.batch.Unpack(ctx, j.parent, j.diff, r)
	}, &got)
	if err == nil && got != j.diff {
		err = mismatch(got, j.diff)
	}
	return err
}

// takeEarly gives a layer that was unpacked while the archive came its place.
func (l *load) takeEarly(ctx context.Context, u *unpacking, j layerJob) error {
	select {
	case <-u.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if u.err != nil {
		return layer.UnpackError(j.diff, u.err)
	}
	if u.diff != j.diff {
		return mismatch(u.diff, j.diff)
	}
	l.out.progress(ident.Short(j.diff.Encoded()), j.from.size, j.from.size)
	return l.batch.Adopt(u.layer, j.parent, j.diff)
}

func mismatch(got, want digest.Digest) error {
	return errdefs.New(errdefs.InvalidArgument, "invalid diffID for layer: expected %q, got %q", want, got)
}

// result words what was loaded. A name is one thing, for how many platforms it
// has come; its ID is that of the image which it stands for now.
func (l *load) result(list []*candidate) []Loaded {
	var all []Loaded
	v := l.s.db.view.Load()
	said := map[string]bool{}
	for _, c := range list {
		for _, n := range c.names {
			if said[n] {
				continue
			}
			said[n] = true
			name := familiar(n)
			all = append(all, Loaded{v.names[n].id, name})
			l.out.say(jsonstream.Message{Stream: "Loaded image: " + name + "\n"})
		}
		if len(c.names) == 0 && !said[c.id.String()] {
			said[c.id.String()] = true
			all = append(all, Loaded{ID: c.id})
			l.out.say(jsonstream.Message{Stream: "Loaded image ID: " + c.id.String() + "\n"})
		}
	}
	return all
}

// familiar is what an image is called in messages: its first name or its ID.
func (c *candidate) familiar() string {
	if len(c.names) == 0 {
		return c.id.String()
	}
	return familiar(c.names[0])
}

func familiar(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	return reference.FamiliarString(named)
}
