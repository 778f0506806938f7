package server

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/union/tree"
)

// GetAttr describes a node.
func (s *worker) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n, err := s.node(in.NodeId)
	if err != nil {
		return status(err)
	}
	st, err := s.tree.Stat(n)
	if err != nil {
		return status(err)
	}
	s.attrOut(st, out)
	return fuse.OK
}

func (s *worker) attrOut(st *dirat.Stat, out *fuse.AttrOut) {
	out.SetTimeout(s.remember)
	attr(st, &out.Attr)
}

// SetAttr changes attributes of a node.
func (s *worker) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	n, err := s.node(in.NodeId)
	if err != nil {
		return status(err)
	}
	var open *tree.File
	if in.Valid&fuse.FATTR_FH != 0 {
		if f, ok := s.open.of(in.Fh).(*file); ok {
			open = f.File
		}
	}
	var st *dirat.Stat
	set := func() (err error) {
		st, err = s.tree.SetAttr(n, change(in), open)
		return err
	}
	if in.Valid&fuse.FATTR_MODE != 0 && !n.Dir() && tree.PrivilegeIn(in.Mode) != 0 {
		err = s.privileged(n, in.Caller.Uid, set)
	} else {
		err = set()
	}
	if err != nil {
		return status(err)
	}
	s.attrOut(st, out)
	return fuse.OK
}

func change(in *fuse.SetAttrIn) tree.Change {
	c := tree.Change{DropPrivilege: in.Valid&fuse.FATTR_KILL_SUIDGID != 0}
	if in.Valid&fuse.FATTR_MODE != 0 {
		c.Mode = &in.Mode
	}
	if in.Valid&fuse.FATTR_UID != 0 {
		c.UID = &in.Uid
	}
	if in.Valid&fuse.FATTR_GID != 0 {
		c.GID = &in.Gid
	}
	if in.Valid&fuse.FATTR_SIZE != 0 {
		size := int64(in.Size)
		c.Size = &size
	}
	c.Atime = setTime(in.Valid, fuse.FATTR_ATIME, fuse.FATTR_ATIME_NOW, in.Atime, in.Atimensec)
	c.Mtime = setTime(in.Valid, fuse.FATTR_MTIME, fuse.FATTR_MTIME_NOW, in.Mtime, in.Mtimensec)
	return c
}

func setTime(valid, given, now uint32, sec uint64, nsec uint32) *tree.Time {
	switch {
	case valid&now != 0:
		return &tree.Time{Now: true}
	case valid&given != 0:
		return &tree.Time{Sec: int64(sec), Nsec: int64(nsec)}
	}
	return nil
}

// Access is left to the kernel, which knows mode and access control list.
func (s *worker) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.ENOSYS }

// GetXAttr reads an extended attribute.
func (s *worker) GetXAttr(_ <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	n, err := s.node(h.NodeId)
	if err != nil {
		return 0, status(err)
	}
	size, err := s.tree.Getxattr(n, name, dest)
	return uint32(max(size, 0)), status(err)
}

// ListXAttr reads the names of the extended attributes.
func (s *worker) ListXAttr(_ <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	n, err := s.node(h.NodeId)
	if err != nil {
		return 0, status(err)
	}
	size, err := s.tree.Listxattr(n, dest)
	return uint32(max(size, 0)), status(err)
}

// SetXAttr sets an extended attribute.
func (s *worker) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, name string, data []byte) fuse.Status {
	n, err := s.node(in.NodeId)
	if err != nil {
		return status(err)
	}
	set := func() error { return s.tree.Setxattr(n, name, data, int(in.Flags), s.intent) }
	if name == tree.Capability {
		return status(s.privileged(n, in.Uid, set))
	}
	return status(set())
}

// privileged gives a file privileges, unless somebody is writing to it who may
// not keep them.
func (s *worker) privileged(n *tree.Node, uid uint32, set func() error) error {
	s.privilege.Lock()
	defer s.privilege.Unlock()
	if s.backings.foreign(n, uid) {
		return syscall.ETXTBSY
	}
	return set()
}

// RemoveXAttr removes an extended attribute.
func (s *worker) RemoveXAttr(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	n, err := s.node(h.NodeId)
	if err != nil {
		return status(err)
	}
	return status(s.tree.Removexattr(n, name, s.intent))
}

// StatFs describes the space of the union.
func (s *worker) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	st, err := s.tree.Statfs()
	if err != nil {
		return status(err)
	}
	out.Blocks, out.Bfree, out.Bavail = st.Blocks, st.Bfree, st.Bavail
	out.Files, out.Ffree = st.Files, st.Ffree
	out.Bsize, out.Frsize, out.NameLen = uint32(st.Bsize), uint32(st.Frsize), uint32(st.Namelen)
	return fuse.OK
}
