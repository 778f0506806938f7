package dm

import (
	"bytes"
	"errors"
	"fmt"
)

// Message tells the target at a sector something, and returns its answer, if it has one.
// A message may contain a key, as that of crypt to set it: the caller wipes it.
func (c *Conn) Message(ref Ref, sector uint64, message []byte) (answer []byte, err error) {
	if bytes.IndexByte(message, 0) >= 0 {
		return nil, c.about(&Error{Op: OpMessage, Ref: ref, Err: errors.New("the message contains a zero")})
	}
	data := make([]byte, 8+len(message)+1)
	defer clear(data)
	native.PutUint64(data, sector)
	copy(data[8:], message)
	log := c.reasons()
	r, err := c.do(&request{op: OpMessage, ref: ref, flags: flagSecure, data: data})
	said := log()
	if err != nil {
		err = c.about(err)
		if info, infoErr := c.Info(ref, Query{NoOpenCount: true}); infoErr == nil {
			err.(*Error).Reason = reason(said, info.Dev)
		}
		return nil, err
	}
	defer r.wipe()
	if r.flags()&flagDataOut == 0 {
		return nil, nil
	}
	b, err := r.data()
	if err != nil {
		return nil, &Error{Op: OpMessage, Ref: ref, Err: err}
	}
	b, _, _ = bytes.Cut(b, []byte{0})
	return append([]byte{}, b...), nil
}

// Geometry is what old programs ask of a disk.
type Geometry struct{ Cylinders, Heads, Sectors, Start uint64 }

// SetGeometry says what a device answers to HDIO_GETGEO.
func (c *Conn) SetGeometry(ref Ref, g Geometry) error {
	data := fmt.Appendf(nil, "%d %d %d %d\x00", g.Cylinders, g.Heads, g.Sectors, g.Start)
	r, err := c.do(&request{op: OpGeometry, ref: ref, data: data})
	if err != nil {
		return c.about(err)
	}
	r.wipe()
	return nil
}
