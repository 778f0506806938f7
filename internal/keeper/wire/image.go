package wire

import (
	"encoding/binary"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// AppendImage adds an image to a payload.
func AppendImage(b []byte, im spawn.Image) ([]byte, ImageDoc) {
	b = append(b, im.Bytes...)
	for _, r := range im.Relocs {
		b = binary.LittleEndian.AppendUint32(b, r)
	}
	return b, ImageDoc{len(im.Bytes), len(im.Relocs)}
}

// CutImage takes an image from the front of a payload. Its bytes stay those of
// the payload.
func CutImage(b []byte, d ImageDoc) (spawn.Image, []byte, error) {
	if d.Bytes < 0 || d.Relocs < 0 || d.Bytes > len(b) || d.Relocs > (len(b)-d.Bytes)/4 {
		return spawn.Image{}, nil, errdefs.New(errdefs.InvalidArgument, "plan of %d bytes and %d relocations in %d bytes", d.Bytes, d.Relocs, len(b))
	}
	im := spawn.Image{Bytes: b[:d.Bytes], Relocs: make([]uint32, d.Relocs)}
	b = b[d.Bytes:]
	for i := range im.Relocs {
		im.Relocs[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return im, b[4*d.Relocs:], nil
}

// CutBytes takes n bytes from the front of a payload.
func CutBytes(b []byte, n int) (head, rest []byte, err error) {
	if n < 0 || n > len(b) {
		return nil, nil, errdefs.New(errdefs.InvalidArgument, "%d bytes of a payload that has %d", n, len(b))
	}
	return b[:n:n], b[n:], nil
}
