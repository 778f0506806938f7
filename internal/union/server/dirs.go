package server

import (
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/tare-engine/tare/internal/union/tree"
)

// directory is a directory that is being read. Its names are those from when it
// was read from its beginning.
type directory struct {
	n    *tree.Node
	mu   sync.Mutex
	list []fuse.DirEntry
	read bool
}

// OpenDir begins to read a directory.
func (s *worker) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n, err := s.node(in.NodeId)
	if err != nil {
		return status(err)
	}
	if err := s.tree.OpenDir(n); err != nil {
		return status(err)
	}
	out.Fh = s.open.add(&directory{n: n})
	s.gives = out.Fh
	return fuse.OK
}

// ReleaseDir ends it.
func (s *worker) ReleaseDir(in *fuse.ReleaseIn) {
	if s.open.take(in.Fh) != nil {
		s.recordClose(in.Fh, 0)
	}
}

// entries returns all names, with "." and ".." in front.
func (s *worker) entries(in *fuse.ReadIn) (*directory, []fuse.DirEntry, error) {
	d, ok := s.open.of(in.Fh).(*directory)
	if !ok {
		return nil, nil, syscall.EBADF
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.read && in.Offset > 0 {
		return d, d.list, nil
	}
	list, err := s.tree.ReadDir(d.n)
	if err != nil {
		return nil, nil, err
	}
	d.list = make([]fuse.DirEntry, 0, len(list)+2)
	up := d.n
	if p, _, ok := s.tree.Place(d.n); ok {
		up = p
	}
	d.list = append(d.list, fuse.DirEntry{Mode: syscall.S_IFDIR, Name: ".", Ino: d.n.Ino, Off: 1},
		fuse.DirEntry{Mode: syscall.S_IFDIR, Name: "..", Ino: up.Ino, Off: 2})
	for _, e := range list {
		d.list = append(d.list, fuse.DirEntry{Mode: uint32(e.Type) << 12, Name: e.Name, Ino: e.Ino, Off: uint64(len(d.list) + 1)})
	}
	d.read = true
	s.recordList(in.Fh, d.list) // places in it are known to the kernel from now on
	return d, d.list, nil
}

// after returns the entries from an offset on.
func after(list []fuse.DirEntry, offset uint64) []fuse.DirEntry {
	if offset >= uint64(len(list)) {
		return nil
	}
	return list[offset:]
}

// ReadDir lists names.
func (s *worker) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	_, list, err := s.entries(in)
	if err != nil {
		return status(err)
	}
	for _, e := range after(list, in.Offset) {
		if !out.AddDirEntry(e) {
			break
		}
	}
	return fuse.OK
}

// ReadDirPlus lists names and looks each up.
func (s *worker) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	d, list, err := s.entries(in)
	if err != nil {
		return status(err)
	}
	for _, e := range after(list, in.Offset) {
		entry := out.AddDirLookupEntry(e)
		if entry == nil {
			break
		}
		*entry = fuse.EntryOut{}
		if e.Name == "." || e.Name == ".." {
			continue
		}
		// What is gone meanwhile has node 0: the kernel asks if it wants to know.
		if n, st, err := s.tree.Lookup(d.n, e.Name); err == nil {
			s.entry(n, st, entry)
		}
	}
	return fuse.OK
}

// FsyncDir writes a directory to disk.
func (s *worker) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	n, err := s.node(in.NodeId)
	if err != nil {
		return status(err)
	}
	return status(s.tree.SyncDir(n))
}
