package server

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/union/tree"
)

// entry fills an answer about a node that the kernel gets a reference to.
func (s *worker) entry(n *tree.Node, st *dirat.Stat, out *fuse.EntryOut) {
	s.refs = append(s.refs, n.ID)
	out.NodeId, out.Generation = n.ID, 1
	out.SetEntryTimeout(s.remember)
	out.SetAttrTimeout(s.remember)
	attr(st, &out.Attr)
}

func attr(st *dirat.Stat, a *fuse.Attr) {
	a.Ino, a.Size, a.Blocks = st.Ino, uint64(st.Size), uint64(st.Blocks)
	a.Atime, a.Atimensec = uint64(st.Atim.Sec), uint32(st.Atim.Nsec)
	a.Mtime, a.Mtimensec = uint64(st.Mtim.Sec), uint32(st.Mtim.Nsec)
	a.Ctime, a.Ctimensec = uint64(st.Ctim.Sec), uint32(st.Ctim.Nsec)
	a.Mode, a.Nlink = st.Mode, uint32(st.Nlink)
	a.Uid, a.Gid = st.Uid, st.Gid
	a.Rdev, a.Blksize = uint32(st.Rdev), uint32(st.Blksize)
}

// Lookup finds a name. That it is not there is remembered too.
func (s *worker) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	p, err := s.node(h.NodeId)
	if err != nil {
		return status(err)
	}
	n, st, err := s.tree.Lookup(p, name)
	if err == syscall.ENOENT && s.remember > 0 {
		out.NodeId = 0
		out.SetEntryTimeout(s.remember)
		return fuse.OK
	}
	if err != nil {
		return status(err)
	}
	s.entry(n, st, out)
	return fuse.OK
}

// Forget takes back references. A request can be about many nodes.
func (s *worker) Forget(id, refs uint64) {
	if id == 1 {
		return
	}
	if s.forgets > 0 { // an earlier process has
		s.forgets--
		return
	}
	s.recordForget(id, refs)
	if n := s.tree.ByID(id); n != nil {
		s.tree.Forget(n, refs)
	}
}

// made answers a request that has made something.
func (s *worker) made(n *tree.Node, st *dirat.Stat, err error, out *fuse.EntryOut) fuse.Status {
	if err != nil {
		return status(err)
	}
	s.entry(n, st, out)
	return fuse.OK
}

func (s *worker) make(h *fuse.InHeader, name string, w tree.New, out *fuse.EntryOut) fuse.Status {
	p, err := s.node(h.NodeId)
	if err != nil {
		return status(err)
	}
	w.UID, w.GID = h.Uid, h.Gid
	n, st, err := s.tree.Make(p, name, w, s.intent)
	return s.made(n, st, err, out)
}

// Mknod makes a file, device, FIFO or socket.
func (s *worker) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	return s.make(&in.InHeader, name, tree.New{Mode: in.Mode, Dev: in.Rdev, Umask: in.Umask}, out)
}

// Mkdir makes a directory.
func (s *worker) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return s.make(&in.InHeader, name, tree.New{Mode: in.Mode&0o7777 | syscall.S_IFDIR, Umask: in.Umask}, out)
}

// Symlink makes a symbolic link.
func (s *worker) Symlink(_ <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return s.make(h, name, tree.New{Mode: syscall.S_IFLNK | 0o777, Target: target}, out)
}

// Link gives a file one more name.
func (s *worker) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	n, err := s.node(in.Oldnodeid)
	if err != nil {
		return status(err)
	}
	p, err := s.node(in.NodeId)
	if err != nil {
		return status(err)
	}
	st, err := s.tree.Link(n, p, name, s.intent)
	return s.made(n, st, err, out)
}

// Unlink removes a name that is no directory's.
func (s *worker) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return s.remove(h, name, s.tree.Unlink)
}

// Rmdir removes a directory.
func (s *worker) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return s.remove(h, name, s.tree.Rmdir)
}

func (s *worker) remove(h *fuse.InHeader, name string, f func(*tree.Node, string, *tree.Intent) error) fuse.Status {
	p, err := s.node(h.NodeId)
	if err != nil {
		return status(err)
	}
	return status(f(p, name, s.intent))
}

// Rename moves a name.
func (s *worker) Rename(_ <-chan struct{}, in *fuse.RenameIn, old, name string) fuse.Status {
	p, err := s.node(in.NodeId)
	if err != nil {
		return status(err)
	}
	q, err := s.node(in.Newdir)
	if err != nil {
		return status(err)
	}
	return status(s.tree.Rename(p, old, q, name, uint(in.Flags), s.intent))
}

// Readlink returns the target of a symbolic link.
func (s *worker) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	n, err := s.node(h.NodeId)
	if err != nil {
		return nil, status(err)
	}
	target, err := s.tree.Readlink(n)
	return []byte(target), status(err)
}
