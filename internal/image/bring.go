package image

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"math"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/dataroot"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/layer"
)

// Brought is what an image of another engine came to here.
type Brought struct {
	ID   ID
	New  bool                    // it was not there, or lacked a name
	Came map[digest.Digest]int64 // layers that came, or would, and their bytes: unpacked in a data root of Docker, packed in one of containerd
}

// Bring makes an image that Docker has unpacked one of ours, with the names
// given. The layers that are there stay as they are; the others become the
// archives that Docker got, and are verified. When it returns the image is on
// disk. A dry one only says what would come.
func (s *Service) Bring(ctx context.Context, from *dataroot.Graph, img dataroot.GraphImage, dry bool, out func(jsonstream.Message)) (_ *Brought, err error) {
	b := &bring{s: s, from: from, c: &candidate{id: img.ID}, out: reporter{out: out}}
	if err := b.read(img); err != nil {
		return nil, err
	}
	if b.have() {
		return &Brought{ID: img.ID}, nil
	}
	if b.in, err = s.newArrival(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.in.close()) }()
	if err := b.find(ctx); err != nil {
		return nil, err
	}
	if dry {
		return b.result(), nil
	}
	if err := b.fits(); err != nil {
		return nil, err
	}
	err = whileVanishing(func() error {
		if err := b.fetch(ctx); err != nil {
			return err
		}
		failpoint.Hit("import-engine/unpacked")
		if err := b.keep(ctx); !errors.Is(err, errVanished) {
			return err
		}
		return cmp.Or(b.find(ctx), errVanished)
	})
	if err != nil {
		return nil, err
	}
	return b.result(), nil
}

// BringPacked makes an image of another store one of ours, for each platform
// that is there, by a pull from it. ref is its name; a nil one leaves it
// without. A dry one only says what would come.
func (s *Service) BringPacked(ctx context.Context, ref reference.Named, from Source, dry bool, out func(jsonstream.Message)) (*Brought, error) {
	o := PullOptions{Foreign: true, Nameless: ref == nil, Out: func(m jsonstream.Message) {
		if m.Progress != nil { // of its layers
			out(m)
		}
	}}
	if ref == nil {
		ref = nameless
	}
	p := &pull{s: s, from: from, o: o, ref: reference.TagNameOnly(ref)}
	var err error
	if p.target, err = from.Resolve(ctx, TagOrDigest(p.ref)); err != nil {
		return nil, err
	}
	all := &Brought{Came: map[digest.Digest]int64{}}
	var missing error
	for _, platform := range p.inStore(ctx) {
		p.o.Platform = platform
		b, err := p.bring(ctx, dry)
		if errdefs.Is(err, errdefs.NotFound) { // only a part of it is there
			missing = cmp.Or(missing, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		all.ID, all.New = cmp.Or(all.ID, b.ID), all.New || b.New
		maps.Copy(all.Came, b.Came)
	}
	if all.ID == "" {
		return nil, missing
	}
	return all, nil
}

// inStore are the platforms that the source has of an image, this machine's, which
// is nil, first: those of the index whose manifests are there.
func (p *pull) inStore(ctx context.Context) []*ocispec.Platform {
	host := []*ocispec.Platform{nil}
	b, err := p.document(ctx, p.target)
	if err != nil || !images.IsIndexType(p.target.MediaType) {
		return host
	}
	index, err := parseIndex(b)
	if err != nil {
		return host
	}
	var own ocispec.Descriptor // this machine's
	if list := possible(index, p.platform()); len(list) > 0 {
		own = list[0]
	}
	has := func(d ocispec.Descriptor) bool { _, err := p.document(ctx, d); return err == nil }
	var others []*ocispec.Platform
	for _, d := range index.Manifests {
		image := d.Annotations[annotationReferenceType] == "" && d.ArtifactType == ""
		if image && d.Platform != nil && d.Platform.OS == "linux" && d.Digest != own.Digest && has(d) {
			others = append(others, d.Platform)
		}
	}
	if len(others) == 0 || own.Digest != "" && has(own) {
		return append(host, others...)
	}
	return others
}

// bring pulls, or only says what would come.
func (p *pull) bring(ctx context.Context, dry bool) (_ *Brought, err error) {
	if !dry {
		b, err := p.s.Pull(ctx, p.ref, p.from, p.o)
		if err != nil {
			return nil, err
		}
		return &Brought{ID: b.ID, New: b.New}, nil
	}
	if have := p.have(ctx); have != nil {
		return &Brought{ID: have.ID}, nil
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
	b := &Brought{ID: c.id, New: true, Came: map[digest.Digest]int64{}}
	for _, m := range c.layers {
		if !p.s.content.HasWhole(m.digest, m.size) {
			b.Came[m.digest] = m.size
		}
	}
	return b, nil
}

// nameless stands for the name of an image without one.
var nameless = func() reference.Named {
	n, err := reference.WithName("nameless/image")
	if err != nil {
		panic(err)
	}
	return n
}()

// bring is one image of another engine on its way.
type bring struct {
	s      *Service
	from   *dataroot.Graph
	c      *candidate
	config []byte
	in     *arrival
	layers []*broughtLayer // base first
	known  *knownLayers
	out    reporter
}

// broughtLayer is one layer: there already, or to be brought.
type broughtLayer struct {
	parent, chain layer.ChainID
	diff          layer.DiffID
	shown         string
	from          *dataroot.Layer    // nil: it is there
	blob          ocispec.Descriptor // of what is there or came
	member        *member            // that came
}

// read reads names and configuration.
func (b *bring) read(img dataroot.GraphImage) (err error) {
	if len(img.Tags) > maxNames {
		return errdefs.New(errdefs.InvalidArgument, "it has %d names, at most %d are possible", len(img.Tags), maxNames)
	}
	for _, ref := range img.Tags {
		if err := b.c.addName(ref); err != nil {
			return err
		}
	}
	if b.config, err = b.from.Config(img.ID); err != nil {
		return err
	}
	if b.c.parts, err = parseConfig(b.config); err != nil {
		return err
	}
	if os := b.c.parts.config.OS; os != "" && os != "linux" {
		return errdefs.New(errdefs.InvalidArgument, "image operating system %.20q cannot be used on this platform", os)
	}
	return nil
}

// have reports whether the image is there with all of its names.
func (b *bring) have() bool {
	v := b.s.db.view.Load()
	for _, ref := range b.c.names {
		if _, ok := v.names[ref].of(b.c.id); !ok {
			return false
		}
	}
	return len(v.byID[b.c.id]) > 0
}

// find tells which layers are there, and finds the others in the data root.
func (b *bring) find(ctx context.Context) error {
	came := b.layers
	b.layers, b.known = nil, newKnownLayers(b.s)
	present := len(b.s.db.view.Load().byID[b.c.id]) > 0
	var parent layer.ChainID
	for i, chain := range b.c.parts.chains {
		l := &broughtLayer{parent: parent, chain: chain, diff: b.c.parts.config.RootFS.DiffIDs[i]}
		l.shown = ident.Short(l.diff.Encoded())
		parent = chain
		switch {
		case came != nil && came[i].member != nil:
			l = came[i]
		case present, b.stored(ctx, l): // of an image that is there only names come
		default:
			var err error
			if l.from, err = b.from.Layer(chain, l.diff); err != nil {
				return err
			}
		}
		b.layers = append(b.layers, l)
	}
	return nil
}

// stored reports whether a layer is there, unpacked and packed, and notes as
// which blob.
func (b *bring) stored(ctx context.Context, l *broughtLayer) (ok bool) {
	if !b.s.layers.Has(l.chain) {
		return false
	}
	l.blob, ok = b.known.holding(ctx, l.diff)
	return ok
}

func (b *bring) result() *Brought {
	r := &Brought{ID: b.c.id, New: true, Came: map[digest.Digest]int64{}}
	for _, l := range b.layers {
		if l.from != nil {
			r.Came[l.diff] = l.from.Size()
		}
	}
	return r
}

// fits refuses an image that does not fit on the disk twice, packed and
// unpacked.
func (b *bring) fits() error {
	var need int64
	for _, l := range b.layers {
		if l.from != nil {
			need += min(2*min(l.from.Size(), math.MaxInt64/2), math.MaxInt64-need)
		}
	}
	if err := b.s.underCap(b.c.id.String(), need/2); err != nil {
		return err
	}
	return b.s.roomFor("its layers take", need)
}

// fetch brings the layers that are not there, two at a time or more.
func (b *bring) fetch(ctx context.Context) error {
	for _, l := range b.layers {
		if l.from == nil {
			b.out.status(l.shown, "Already exists")
		} else {
			b.out.status(l.shown, "Waiting")
		}
	}
	g, ctx := b.s.unpackers(ctx)
	for _, l := range b.layers {
		if l.from != nil && l.member == nil {
			g.Go(func() error { return b.layer(ctx, l) })
		}
	}
	return g.Wait()
}

// layer assembles, keeps, unpacks and verifies one layer.
func (b *bring) layer(ctx context.Context, l *broughtLayer) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m, st, err := b.in.record(ctx, l.parent, func(ctx context.Context, out io.Writer) error {
		return l.from.WriteTar(ctx, &told{out: out, say: &b.out, id: l.shown, total: l.from.Size()})
	})
	if err != nil {
		return err
	}
	failpoint.Hit("import-engine/layer-written")
	if m.digest != l.diff {
		return mismatch(m.digest, l.diff)
	}
	if err := b.in.batch.Adopt(st, l.parent, l.diff); err != nil {
		return err
	}
	l.member, l.blob = m, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: m.digest, Size: m.size}
	b.out.status(l.shown, "Import complete")
	return nil
}

// told tells how much of a layer has been written. An archive is larger than
// its files.
type told struct {
	out   io.Writer
	say   *reporter
	id    string
	n     int64
	total int64
	last  pace
}

func (t *told) Write(p []byte) (int, error) {
	n, err := t.out.Write(p)
	t.n += int64(n)
	if t.last.due() {
		t.say.say(jsonstream.Message{ID: t.id, Status: "Importing", Progress: &jsonstream.Progress{Current: min(t.n, t.total), Total: t.total}})
	}
	return n, err
}

// keep makes the image visible, if what did not have to come is still there.
func (b *bring) keep(ctx context.Context) error {
	end, err := b.s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if v := b.s.db.view.Load(); len(v.byID[b.c.id]) > 0 {
		return b.name(ctx, v.of(v.byID[b.c.id][0], b.c.id))
	}
	var blobs []ocispec.Descriptor
	b.c.layers = nil
	for _, l := range b.layers {
		if l.member == nil && (!b.s.layers.Has(l.chain) || !b.s.content.HasWhole(l.blob.Digest, l.blob.Size)) {
			return errVanished
		}
		if l.member != nil {
			b.c.layers = append(b.c.layers, l.member)
		}
		blobs = append(blobs, l.blob)
	}
	if b.c.config, err = stageBytes(b.in.stage, b.config); err != nil {
		return err
	}
	if err := b.c.list(blobs); err != nil {
		return err
	}
	b.c.target = describe(b.c.manifest)
	return b.in.keep(ctx, []*candidate{b.c})
}

// name gives an image that is there the names that it has in the data root.
// Preconditions: the change token is held.
func (b *bring) name(ctx context.Context, n name) error {
	return b.s.db.update(ctx, func(tx *transaction) error {
		for _, ref := range b.c.names {
			if err := tx.add(ref, n); err != nil {
				return err
			}
		}
		return nil
	})
}
