package server

import (
	"encoding/binary"
	"errors"
	"syscall"

	"github.com/tare-engine/tare/internal/union/tree"
)

// Messages to the kernel, see linux/fuse.h.
const (
	notifyInode = 2
	notifyEntry = 3
	expireOnly  = 1 // the entry is looked up again and stays if it is the same: mounts on it live on
)

// forgetAll makes the kernel ask again for everything that it remembers. No lock
// of the tree is held: the kernel may wait for us in between.
func (s *Server) forgetAll() error {
	if s.remember == 0 || !s.expires {
		return nil // it forgets by itself
	}
	var errs []error
	for _, n := range s.tree.Nodes() {
		errs = append(errs, s.expire(n))
	}
	return errors.Join(errs...)
}

func (s *Server) expire(n *tree.Node) error {
	parents, names := s.tree.Places(n)
	for i, p := range parents {
		b := binary.LittleEndian.AppendUint64(nil, p.ID)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(names[i])))
		b = binary.LittleEndian.AppendUint32(b, expireOnly)
		if err := s.notify(notifyEntry, append(append(b, names[i]...), 0)); err != nil {
			return err
		}
	}
	b := binary.LittleEndian.AppendUint64(nil, n.ID)
	b = binary.LittleEndian.AppendUint64(b, ^uint64(0)) // an offset of -1: attributes only
	return s.notify(notifyInode, append(b, make([]byte, 8)...))
}

// notify writes one message. That the kernel does not know what it is about is
// no error: then it has forgotten it already.
func (s *Server) notify(code uint32, body []byte) error {
	b := binary.LittleEndian.AppendUint32(nil, uint32(16+len(body)))
	b = binary.LittleEndian.AppendUint32(b, code)
	b = binary.LittleEndian.AppendUint64(b, 0)
	_, err := s.notes.Write(append(b, body...))
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return err
}
