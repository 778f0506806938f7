package server

import (
	"encoding/binary"

	"github.com/tare-engine/tare/internal/linux/spawn"
	"github.com/tare-engine/tare/internal/union/ledger"
	"github.com/tare-engine/tare/internal/union/tree"
)

// Messages to the kernel, see linux/fuse.h.
const (
	notifyInode = 2
	notifyEntry = 3
	expireOnly  = 1 // the entry is looked up again and stays if it is the same: mounts on it live on
)

// changing notes that the kernel is to be told of a change that do makes, and tells it.
func (s *Server) changing(do func() error) error {
	s.recordUntold(s.untold.Add(1))
	err := do()
	if err == nil {
		err = s.forgetAll()
	}
	s.recordUntold(s.untold.Add(-1))
	return err
}

func (s *Server) recordUntold(n int32) {
	var r ledger.Records
	r.Begin(recUntold).Int(uint64(n)).End()
	s.ledger.Append(&r)
}

// forgetAll makes the kernel ask again for everything that it remembers. No lock
// of the tree is held: the kernel may wait for us in between, and then cannot be made
// to let go of who has told it.
func (s *Server) forgetAll() error {
	if s.remember == 0 || !s.expires {
		return nil // it forgets by itself
	}
	var list [][]byte
	for _, n := range s.tree.Nodes() {
		list = s.expire(list, n)
	}
	return spawn.WriteApart(int(s.dev), list)
}

// expire adds messages about a node. That the kernel does not know what they are about
// is no error: then it has forgotten it already.
func (s *Server) expire(list [][]byte, n *tree.Node) [][]byte {
	parents, names := s.tree.Places(n)
	for i, p := range parents {
		b := binary.LittleEndian.AppendUint64(nil, p.ID)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(names[i])))
		b = binary.LittleEndian.AppendUint32(b, expireOnly)
		list = append(list, message(notifyEntry, append(append(b, names[i]...), 0)))
	}
	b := binary.LittleEndian.AppendUint64(nil, n.ID)
	b = binary.LittleEndian.AppendUint64(b, ^uint64(0)) // an offset of -1: attributes only
	return append(list, message(notifyInode, append(b, make([]byte, 8)...)))
}

func message(code uint32, body []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(16+len(body)))
	b = binary.LittleEndian.AppendUint32(b, code)
	b = binary.LittleEndian.AppendUint64(b, 0)
	return append(b, body...)
}
