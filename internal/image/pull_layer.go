package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/tare-engine/tare/internal/content"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/disk"
	"github.com/tare-engine/tare/internal/linux/syncfs"
)

// layerPulls are the layers of one image that is being pulled.
type layerPulls struct {
	p   *pull
	in  *arrival
	all []*layerPull // base first
}

// layerPull is one layer: a blob to be fetched and to be unpacked, as far as it
// is not there.
type layerPull struct {
	p      *pull
	in     *arrival
	parent layer.ChainID
	chain  layer.ChainID
	diff   layer.DiffID
	member *member // of the candidate; its path is set when the blob is there
	shown  string  // ID in messages

	partial *content.Partial
	staged  bool            // unpacked in the batch
	stored  bool            // the blob was in the store
	linked  bool            // the blob is a link in the arrival's stage
	below   <-chan struct{} // closed when the layer below is there
	done    chan struct{}   // closed when this one is
}

func (p *pull) layers(in *arrival, c *candidate) (*layerPulls, error) {
	all := &layerPulls{p: p, in: in}
	var parent layer.ChainID
	for i, chain := range c.parts.chains {
		m := c.layers[i]
		partial, err := p.s.content.Partial(m.digest)
		if err != nil {
			return nil, errors.Join(err, all.close(true))
		}
		all.all = append(all.all, &layerPull{
			p: p, in: in, parent: parent, chain: chain, diff: c.parts.config.RootFS.DiffIDs[i],
			member: m, shown: ident.Short(m.digest.Encoded()), partial: partial,
		})
		parent = chain
	}
	return all, nil
}

// close ends the use of the blobs that came; keep leaves those that have no
// place yet for a later attempt.
func (l *layerPulls) close(keep bool) error {
	var errs []error
	for _, one := range l.all {
		errs = append(errs, one.partial.Close(keep))
	}
	return errors.Join(errs...)
}

// fetch brings all layers into the batch and their blobs to where they can be
// published from.
func (l *layerPulls) fetch(ctx context.Context) error {
	below := make(chan struct{})
	close(below)
	for _, one := range l.all {
		one.below, one.done = below, make(chan struct{})
		below = one.done
	}
	shown := map[string]bool{}
	for _, one := range l.all {
		if !shown[one.shown] {
			shown[one.shown] = true
			l.p.out.status(one.shown, "Pulling fs layer")
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, one := range l.all {
		g.Go(func() error { return one.needs(one.run(ctx)) })
	}
	return g.Wait()
}

// needs says of a full disk what there is no room for.
func (l *layerPull) needs(err error) error {
	if !disk.IsFull(err) {
		return err
	}
	return fmt.Errorf("layer %s, %s packed, needs more space: %w", l.shown, units.HumanSize(float64(l.member.size)), err)
}

// complete reports whether all that the image consists of is staged or stored.
// Preconditions: the change token is held.
func (l *layerPulls) complete() bool {
	for _, one := range l.all {
		if !one.staged && !one.in.s.layers.Has(one.chain) {
			return false
		}
		if one.linked || one.in.s.content.HasWhole(one.member.digest, one.member.size) {
			continue
		}
		if _, err := os.Stat(one.partial.Path()); err != nil || one.stored {
			return false
		}
	}
	return true
}

// run brings the layer. Layers that need the ones below are unpacked in order;
// the blobs come side by side all the same.
func (l *layerPull) run(ctx context.Context) error {
	s := l.in.s
	unpack := !l.staged && !s.layers.Has(l.chain)
	defer close(l.done)
	if l.stored = s.content.HasWhole(l.member.digest, l.member.size); l.stored {
		return l.fromStore(ctx, unpack)
	}
	if l.link() {
		return l.fromDisk(ctx, unpack)
	}
	l.p.out.status(l.shown, "Waiting")
	f, unlock, err := l.partial.Lock(ctx) // another pull may be fetching it
	if err != nil {
		return err
	}
	defer f.Close()
	// Nobody waits for a layer below with the lock or a slot: the layer below may
	// need them.
	unlock = sync.OnceFunc(unlock)
	defer unlock()
	if l.stored = s.content.HasWhole(l.member.digest, l.member.size); l.stored { // it was
		unlock()
		return l.fromStore(ctx, unpack)
	}
	// The lock goes before the slot: who waits for another one takes no place.
	places := *s.downloads.Load()
	select {
	case places <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	leave := sync.OnceFunc(func() { <-places })
	defer leave()
	l.member.path = l.partial.Path()
	have, err := l.beginning(f)
	if err != nil {
		return err
	}
	whole := l.partial.Whole()
	verified := func() {
		l.partial.SetWhole()
		leave()
		unlock()
	}
	for {
		err = l.take(ctx, newIncoming(ctx, l, f, have), unpack, verified)
		if _, wrong := errors.AsType[*wrongBytes](err); !wrong || whole {
			return err
		}
		if terr := f.Truncate(0); terr != nil {
			return errors.Join(err, terr)
		}
		// What an earlier attempt left may have been wrong, or a mirror.
		if have == 0 && !l.p.from.WithoutMirrors() {
			return err
		}
		have = 0
	}
}

// link has the blob of a source on this disk in the arrival's stage, if there is one.
func (l *layerPull) link() bool {
	src, ok := l.p.from.(Local)
	if !ok || l.linked {
		return l.linked
	}
	file := src.File(l.member.digest)
	if info, err := os.Stat(file); err != nil || info.Size() != l.member.size {
		return false
	}
	path, err := l.in.stage.Link(file)
	if err != nil { // on another file system
		return false
	}
	l.member.path, l.linked = path, true
	return true
}

// fromDisk unpacks a linked blob, if it is to be unpacked.
func (l *layerPull) fromDisk(ctx context.Context, unpack bool) error {
	if !unpack {
		return nil
	}
	f, err := os.Open(l.member.path)
	if err != nil {
		return err
	}
	defer f.Close()
	return l.take(ctx, newIncoming(ctx, l, f, l.member.size), true, func() {})
}

// fromStore unpacks a blob that is stored, if it is to be unpacked.
func (l *layerPull) fromStore(ctx context.Context, unpack bool) error {
	if !unpack {
		l.p.out.status(l.shown, "Already exists")
		return nil
	}
	f, err := l.in.s.content.Open(l.member.digest)
	if err != nil {
		return err
	}
	defer f.Close()
	return l.take(ctx, newIncoming(ctx, l, f, l.member.size), true, func() {})
}

// beginning is how much of the blob is there from earlier attempts, or of a pull
// beside this one. That one's file stays as it is, whatever this manifest says.
func (l *layerPull) beginning(f *os.File) (int64, error) {
	info, err := f.Stat()
	switch {
	case err != nil:
		return 0, err
	case l.partial.Whole() && info.Size() != l.member.size:
		return 0, invalidDocument("layer %s has %d bytes, not %d", l.member.digest, info.Size(), l.member.size)
	case info.Size() > l.member.size:
		return 0, f.Truncate(0)
	}
	return info.Size(), nil
}

// take reads the blob to its end, unpacks it on the way if it is to be
// unpacked, and verifies all of it. It calls verified when that is done: what
// is left then may have to wait for the layer below, and only reads the file.
func (l *layerPull) take(ctx context.Context, r *incoming, unpack bool, verified func()) error {
	defer r.close()
	var diff digest.Digest
	var staged *layer.Staged
	anyOrder := l.in.s.layers.AnyOrder()
	var err error
	if unpack && anyOrder {
		err = unpackPacked(ctx, r, func(r io.Reader) (err error) {
			staged, err = l.in.batch.Stage(ctx, r)
			return err
		}, &diff)
	}
	if err := r.finish(); err != nil { // goes first: of wrong bytes nothing else is worth saying
		return err
	}
	if err != nil {
		return layer.UnpackError(l.diff, err)
	}
	verified()
	failpoint.Hit("pull/layer-received")
	syncfs.Begin(r.f)
	switch {
	case unpack && anyOrder:
		if diff != l.diff {
			return mismatch(diff, l.diff)
		}
		err = l.in.batch.Adopt(staged, l.parent, l.diff)
	case unpack:
		err = l.inOrder(ctx, r.f)
	}
	if err != nil {
		return err
	}
	l.staged = l.staged || unpack
	l.p.out.status(l.shown, "Pull complete")
	return nil
}

// inOrder unpacks a received blob when the layer below is there.
func (l *layerPull) inOrder(ctx context.Context, f *os.File) error {
	select {
	case <-l.below:
	case <-ctx.Done():
		return ctx.Err()
	}
	var diff digest.Digest
	err := unpackPacked(ctx, io.NewSectionReader(f, 0, l.member.size), func(r io.Reader) error {
		return l.in.batch.Unpack(ctx, l.parent, l.diff, r)
	}, &diff)
	if err == nil && diff != l.diff {
		err = mismatch(diff, l.diff)
	}
	return err
}

// incoming is the stream of one blob: first what is in its file, then what
// comes, which is appended to the file.
type incoming struct {
	ctx    context.Context
	l      *layerPull
	f      *os.File
	have   int64 // bytes that were in the file
	at     int64
	rest   io.ReadCloser
	digest *digester
	err    error // of the connection
	last   pace
}

func newIncoming(ctx context.Context, l *layerPull, f *os.File, have int64) *incoming {
	return &incoming{ctx: ctx, l: l, f: f, have: have, digest: newDigester()}
}

func (r *incoming) Read(b []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.next(b)
	_, _ = r.digest.Write(b[:n])
	r.at += int64(n)
	if err != nil && err != io.EOF {
		r.err = err
	}
	r.tell(err == io.EOF)
	return n, err
}

func (r *incoming) next(b []byte) (int, error) {
	size := r.l.member.size
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	if r.at < r.have {
		n, err := r.f.ReadAt(b[:min(int64(len(b)), r.have-r.at)], r.at)
		if err == io.EOF && n > 0 {
			err = nil
		}
		return n, err
	}
	if r.at == size {
		return 0, io.EOF
	}
	if r.rest == nil {
		rest, err := r.l.p.from.Blob(r.ctx, ocispec.Descriptor{Digest: r.l.member.digest, Size: size}, r.at)
		if err != nil {
			return 0, err
		}
		r.rest = rest
	}
	n, err := r.rest.Read(b[:min(int64(len(b)), size-r.at)])
	if _, werr := r.f.WriteAt(b[:n], r.at); werr != nil {
		return 0, werr
	}
	failpoint.Hit("pull/bytes-written")
	if err == io.EOF && r.at+int64(n) < size {
		err = unexpectedEnd(r.l.member.digest, r.at+int64(n), size)
	}
	return n, err
}

// wrongBytes is the error of a blob that is not what its digest says.
type wrongBytes struct{ error }

func (e *wrongBytes) Unwrap() error { return e.error }

// finish reads what is left and verifies the whole.
func (r *incoming) finish() error {
	if _, err := io.Copy(io.Discard, onlyReader{r}); err != nil {
		return err
	}
	if r.rest != nil { // what is longer than it says is not it
		var more [1]byte
		if n, err := r.rest.Read(more[:]); n > 0 {
			return &wrongBytes{verificationFailed(r.l.member.digest)}
		} else if err != nil && err != io.EOF {
			return err
		}
	}
	r.l.p.out.status(r.l.shown, "Verifying Checksum")
	if r.digest.sum() != r.l.member.digest {
		return &wrongBytes{verificationFailed(r.l.member.digest)}
	}
	r.l.p.out.status(r.l.shown, "Download complete")
	return nil
}

func (r *incoming) close() {
	r.digest.stop()
	if r.rest != nil {
		r.rest.Close()
	}
}

// tell says how far it is, at a pace.
func (r *incoming) tell(end bool) {
	if end || r.last.due() {
		r.l.p.out.say(jsonstream.Message{
			ID: r.l.shown, Status: "Downloading", Progress: &jsonstream.Progress{Current: r.at, Total: r.l.member.size},
		})
	}
}

func verificationFailed(d digest.Digest) error {
	return errdefs.New(errdefs.InvalidArgument, "filesystem layer verification failed for digest %s", d)
}

func unexpectedEnd(d digest.Digest, at, size int64) error {
	return fmt.Errorf("layer %s ends after %d of %d bytes: %w", d, at, size, io.ErrUnexpectedEOF)
}
