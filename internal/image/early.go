package image

import (
	"context"
	"io"
	"os"
	goruntime "runtime"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/content"
	"github.com/tare-engine/tare/internal/layer"
)

// early unpacks members of an archive that look like layers while the rest is
// still being received: the documents that say what they are often come last.
// What turns out to be no layer is thrown away with the batch.
type early struct {
	ctx     context.Context // of the load: it ends the unpacking
	cancel  context.CancelFunc
	batch   *layer.Batch
	known   map[layer.DiffID]bool // layers of the images that are there
	content *content.Store
	slots   chan struct{}
	running sync.WaitGroup
}

// unpacking is one member that is being unpacked.
type unpacking struct {
	done  chan struct{} // closed at the end; the rest is valid then
	layer *layer.Staged
	diff  layer.DiffID
	err   error
	taken atomic.Bool // by one place in a chain; others unpack it anew
}

// newEarly returns nil where layers cannot be unpacked out of order. The caller
// stops it before it closes the batch.
func (s *Service) newEarly(ctx context.Context, b *layer.Batch) *early {
	if !s.layers.AnyOrder() {
		return nil
	}
	e := &early{batch: b, known: map[layer.DiffID]bool{}, content: s.content, slots: make(chan struct{}, max(2, goruntime.GOMAXPROCS(0)))}
	e.ctx, e.cancel = context.WithCancel(ctx)
	for id := range s.db.view.Load().byID {
		if p, err := s.partsOf(ctx, id); err == nil {
			for _, d := range p.config.RootFS.DiffIDs {
				e.known[d] = true
			}
		}
	}
	return e
}

// stop ends what is running and waits for it.
func (e *early) stop() {
	if e != nil {
		e.cancel()
		e.running.Wait()
	}
}

// begin starts to unpack a received member if it is worth it.
func (e *early) begin(m *member) {
	if e == nil {
		return
	}
	packed, ok := m.looksLikeLayer()
	if !ok || packed == plain && e.known[m.digest] || packed != plain && e.content.HasWhole(m.digest, m.size) {
		return
	}
	u := &unpacking{done: make(chan struct{})}
	m.early = u
	e.running.Go(func() {
		defer close(u.done)
		select {
		case e.slots <- struct{}{}:
			defer func() { <-e.slots }()
			u.err = e.unpack(u, m, packed)
		case <-e.ctx.Done():
			u.err = e.ctx.Err()
		}
	})
}

func (e *early) unpack(u *unpacking, m *member, packed compression) error {
	f, err := os.Open(m.path)
	if err != nil {
		return err
	}
	defer f.Close()
	if packed == plain {
		u.diff = m.digest
		u.layer, err = e.batch.Stage(e.ctx, f)
		return err
	}
	return unpackPacked(e.ctx, f, func(r io.Reader) (err error) {
		u.layer, err = e.batch.Stage(e.ctx, r)
		return err
	}, &u.diff)
}

// unpackPacked gives unpack the unpacked stream of r, reads what it leaves, and
// sets diff to the digest of all.
func unpackPacked(ctx context.Context, r io.Reader, unpack func(io.Reader) error, diff *digest.Digest) error {
	out, _, err := decompress(ctx, r)
	if err != nil {
		return err
	}
	defer out.Close()
	d := newDigester()
	defer d.stop()
	tee := io.TeeReader(out, d)
	if err := unpack(tee); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return err
	}
	*diff = d.sum()
	return nil
}

// looksLikeLayer reports whether a member is a tar file or a packed one.
func (m *member) looksLikeLayer() (packed compression, ok bool) {
	const block = 512 // of tar; ustar and its descendants have their name in it
	f, err := os.Open(m.path)
	if err != nil {
		return plain, false
	}
	defer f.Close()
	var head [block]byte
	n, _ := io.ReadFull(f, head[:])
	packed = sniff(head[:n])
	return packed, packed != plain || n == block && string(head[257:262]) == "ustar"
}
