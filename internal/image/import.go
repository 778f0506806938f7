package image

import (
	"context"
	"errors"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/syncfs"
)

// Import makes an image of one layer of a tar stream, which may be packed. When
// it returns the image is on disk.
func (s *Service) Import(ctx context.Context, n New, r io.Reader) (_ ID, err error) {
	in, err := s.newArrival()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, in.close()) }()
	add, err := in.receiveLayer(ctx, r)
	if err != nil {
		return "", err
	}
	failpoint.Hit("import/unpacked")
	return in.make(ctx, n, &base{}, *add)
}

// receiveLayer keeps the bytes of a layer as they come, and unpacks them
// meanwhile.
func (a *arrival) receiveLayer(ctx context.Context, r io.Reader) (*addition, error) {
	f, err := a.stage.Create()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw := newDigester()
	defer raw.stop()
	keep := &bounded{out: io.MultiWriter(f, raw), most: a.s.space()}
	in := io.TeeReader(r, keep)
	out, packed, err := decompress(ctx, in)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	add := &addition{}
	if packed == plain {
		if add.staged, err = a.unpackAll(ctx, out); err != nil {
			return nil, err
		}
	} else {
		d := newDigester()
		defer d.stop()
		if add.staged, err = a.unpackAll(ctx, io.TeeReader(out, d)); err != nil {
			return nil, err
		}
		add.diff = d.sum()
	}
	// What follows a packed stream belongs to the blob, if to nothing else.
	if _, err := io.Copy(io.Discard, in); err != nil {
		return nil, err
	}
	syncfs.Begin(f)
	failpoint.Hit("import/received")
	add.member = &member{path: f.Name(), size: raw.n, digest: raw.sum()}
	switch {
	case raw.n == 0: // as Docker's users make an image without files: docker import /dev/null
		add.diff = emptyTar
	case packed == plain:
		add.diff = add.member.digest
	}
	add.descriptor = ocispec.Descriptor{MediaType: layerTypeOf(packed), Digest: add.member.digest, Size: add.member.size}
	return add, nil
}

// unpackAll unpacks a layer and reads on to the end of the stream.
func (a *arrival) unpackAll(ctx context.Context, r io.Reader) (*layer.Staged, error) {
	st, err := a.batch.StageOn(ctx, "", r)
	if err != nil {
		return nil, layer.BadInput(err)
	}
	_, err = io.Copy(io.Discard, r)
	return st, err
}
