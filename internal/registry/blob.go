package registry

import (
	"context"
	"errors"
	"io"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/errdefs"
)

// Blob reads a blob from offset to its end. What breaks on the way is taken up
// where it broke, by Read; an error of Read is final. It gives exactly as many
// bytes as the descriptor says or an error, and does not verify the digest:
// the caller does. URLs of the descriptor are not used.
func (r *Repository) Blob(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if err := d.Digest.Validate(); err != nil {
		return nil, invalid("invalid digest %q: %w", d.Digest, err)
	}
	if d.Size < 0 || offset < 0 || offset > d.Size {
		return nil, invalid("blob %s of %d bytes cannot be read from byte %d", d.Digest, d.Size, offset)
	}
	ref, err := reference.WithDigest(r.name, d.Digest)
	if err != nil {
		return nil, errdefs.As(errdefs.InvalidArgument, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	b := &blobReader{ctx: quiet(ctx), cancel: cancel, r: r, ref: ref, offset: offset,
		d: ocispec.Descriptor{MediaType: "application/octet-stream", Digest: d.Digest, Size: d.Size}}
	if offset == d.Size {
		return b, nil
	}
	if err := b.open(); err != nil {
		cancel()
		return nil, err
	}
	return b, nil
}

// blobReader reads a blob through as many answers as it takes.
type blobReader struct {
	ctx    context.Context
	cancel context.CancelFunc
	r      *Repository
	ref    reference.Named
	d      ocispec.Descriptor

	rc     io.ReadCloser // nil between two answers
	from   *endpoint     // of rc
	offset int64
	first  []byte // read ahead: answers are asked for by the first read
	broken error  // of an answer that has given bytes before
	fails  int    // without minProgress in between
	got    int64  // since the last failure
	err    error  // what Read has returned for good
}

func (b *blobReader) Read(p []byte) (int, error) {
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	if b.offset == b.d.Size {
		b.err = b.end()
		return 0, b.err
	}
	for {
		if b.rc == nil {
			if b.err = b.reopen(); b.err != nil {
				return 0, b.err
			}
		}
		n, err := b.read(p[:min(int64(len(p)), b.d.Size-b.offset)])
		b.offset += int64(n)
		if b.got += int64(n); b.got >= minProgress {
			b.fails = 0
		}
		if err != nil {
			b.from.failed(err)
			b.drop()
			b.broken = err
		}
		if n > 0 {
			return n, nil
		}
	}
}

// reopen goes on after an answer that broke.
func (b *blobReader) reopen() error {
	if err := b.broken; err != nil {
		b.broken = nil
		if err := b.failed(err); err != nil {
			return err
		}
	}
	return b.open()
}

func (b *blobReader) read(p []byte) (int, error) {
	if len(b.first) > 0 {
		n := copy(p, b.first)
		b.first = b.first[n:]
		return n, nil
	}
	if b.broken != nil {
		return 0, b.broken
	}
	n, err := b.rc.Read(p)
	return n, b.unlessComplete(n, err)
}

// unlessComplete makes an error of an end that comes too early: n bytes after
// the offset.
func (b *blobReader) unlessComplete(n int, err error) error {
	switch {
	case err != io.EOF:
		return err
	case b.offset+int64(n) == b.d.Size:
		return nil
	}
	return io.ErrUnexpectedEOF
}

// failed waits for the next attempt, or returns the error that Read is to
// return.
func (b *blobReader) failed(err error) error {
	b.got = 0
	if b.fails++; b.fails < b.r.c.cfg.Attempts && !hopeless(err) && b.ctx.Err() == nil {
		if err = b.r.c.pause(b.ctx, b.fails, err); err == nil {
			return nil
		}
	}
	if cerrdefs.IsNotFound(err) {
		return errdefs.New(errdefs.NotFound, "unknown blob %s in %s", b.d.Digest, reference.FamiliarName(b.r.name))
	}
	return pullError(b.ctx, b.ref, err)
}

// open asks for the rest of the blob until an answer has begun.
func (b *blobReader) open() error {
	for {
		err := b.r.try(b.ctx, b.openAt)
		if err == nil {
			return nil
		}
		if err = b.failed(err); err != nil {
			return err
		}
	}
}

func (b *blobReader) openAt(e *endpoint) error {
	f, err := e.resolver.Fetcher(b.ctx, b.ref.String())
	if err != nil {
		return err
	}
	ctx := expecting(b.ctx, expectation{blob: true, size: b.d.Size, offset: b.offset, fails: b.fails})
	rc, err := f.Fetch(ctx, b.d)
	if err != nil {
		return err
	}
	if _, err = rc.(io.Seeker).Seek(b.offset, io.SeekStart); err == nil {
		first := make([]byte, min(4<<10, b.d.Size-b.offset))
		var n int
		if n, err = rc.Read(first); n > 0 {
			b.rc, b.from, b.first, b.broken = rc, e, first[:n], b.unlessComplete(n, err)
			return nil
		}
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return errors.Join(err, rc.Close())
}

// end makes sure that nothing comes after the last byte.
func (b *blobReader) end() error {
	if b.rc == nil {
		return io.EOF
	}
	defer b.drop()
	n, err := b.rc.Read(make([]byte, 1))
	if n > 0 || cerrdefs.IsFailedPrecondition(err) {
		return corrupt("blob %s has more than the %d bytes its descriptor says", b.d.Digest, b.d.Size)
	}
	return io.EOF
}

func (b *blobReader) drop() {
	if b.rc != nil {
		b.rc.Close()
	}
	b.rc, b.first = nil, nil
}

// Close ends the transfer.
func (b *blobReader) Close() error {
	b.drop()
	b.cancel()
	if b.err == nil {
		b.err = errClosed
	}
	return nil
}

var errClosed = errors.New("read of a closed blob")
