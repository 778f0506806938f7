package server

import (
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/union/tree"
)

// file is what the kernel has open.
type file struct {
	*tree.File
	uid    uint32 // who has opened it
	drops  bool   // it had privileges to drop with a write when it was opened
	unseen bool   // the kernel writes it itself, for a user who may not keep privileges

	backing *backing
}

// backings say on which branch each open node is open, and of which the kernel
// reads and writes the branch's file itself.
type backings struct {
	mu  sync.Mutex
	s   *Server
	m   map[*tree.Node]*backing
	off bool // the kernel refuses: it is too old, or we may not

	last atomic.Int32 // the highest number that the kernel gave
}

type backing struct {
	branch *tree.Branch
	users  int
	id     int32 // the kernel's, if it has taken the file
	taken  bool
	writes map[uint32]int // how many unseen files users have
}

func (b *backings) init(s *Server) { b.s, b.m = s, map[*tree.Node]*backing{} }

// use notes that a file is open, and gives it to the kernel. The error ESTALE
// tells that the node is open on another branch.
func (b *backings) use(f *file) (*backing, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.m[f.Node]
	if x == nil {
		x = &backing{branch: f.Branch(), writes: map[uint32]int{}}
		b.give(x, f)
		b.m[f.Node] = x
	}
	if x.branch != f.Branch() {
		return nil, syscall.ESTALE
	}
	x.users++
	f.backing = x
	if f.unseen = x.taken && f.Writable() && !f.drops && f.uid != 0; f.unseen {
		x.writes[f.uid]++
	}
	return x, nil
}

// restore notes that a file has been open.
func (b *backings) restore(f *file, o *opened) {
	x := b.m[f.Node]
	if x == nil {
		x = &backing{branch: f.Branch(), writes: map[uint32]int{}, id: o.backing, taken: o.backed}
		b.m[f.Node] = x
	}
	x.users++
	f.backing = x
	if f.unseen {
		x.writes[f.uid]++
	}
}

// give gives the kernel a file for itself. That it refuses the file of one branch,
// on a file system that is stacked itself, for example, says nothing of others.
func (b *backings) give(x *backing, f *file) {
	if b.off {
		return
	}
	id, err := b.s.dev.OpenBacking(int(f.FD))
	x.id, x.taken = id, err == nil
	b.off = err == syscall.EPERM || err == syscall.ENOTTY || err == syscall.EOPNOTSUPP
	if x.taken {
		b.last.Store(max(b.last.Load(), id))
	}
}

// done notes that a file is closed, and returns the backing that nobody uses then, or
// 0. That is recorded before somebody else can open the node with another one.
func (b *backings) done(f *file, record func(backing int32)) (backing int32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := f.backing
	if f.unseen {
		x.writes[f.uid]--
	}
	if x.users--; x.users == 0 {
		delete(b.m, f.Node)
		if x.taken {
			backing = x.id
		}
	}
	record(backing)
	return backing
}

// foreign tells whether somebody without privileges but uid writes to a node
// without our noticing.
func (b *backings) foreign(n *tree.Node, uid uint32) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.m[n] == nil {
		return false
	}
	for who, count := range b.m[n].writes {
		if count > 0 && who != uid {
			return true
		}
	}
	return false
}

// opened answers an open by a user. It owns the file.
func (s *worker) opened(tf *tree.File, uid uint32, out *fuse.OpenOut) error {
	f := &file{File: tf, uid: uid}
	s.privilege.RLock()
	defer s.privilege.RUnlock()
	if tf.Writable() {
		var err error
		if f.drops, err = tf.Privileged(); err != nil {
			tf.Close()
			return err
		}
	}
	x, err := s.backings.use(f)
	if err != nil {
		f.Close()
		if renewed := s.tree.Renew(f.Node); renewed != nil {
			return renewed
		}
		return err
	}
	out.OpenFlags |= fuse.FOPEN_NOFLUSH
	if x.taken {
		out.BackingID = x.id
		out.OpenFlags |= fuse.FOPEN_PASSTHROUGH
		if f.drops { // reads and writes come to us, mappings do not
			out.OpenFlags |= fuse.FOPEN_DIRECT_IO
		}
	} else if s.remember > 0 {
		out.OpenFlags |= fuse.FOPEN_KEEP_CACHE
	}
	out.Fh = s.open.add(f)
	s.gives = out.Fh
	return nil
}

// Open opens a file.
func (s *worker) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n, err := s.node(in.NodeId)
	if err != nil {
		return status(err)
	}
	f, err := s.tree.OpenFile(n, int(in.Flags))
	if err != nil {
		return status(err)
	}
	if in.Mode&fuse.OPEN_KILL_SUIDGID != 0 {
		if err := f.DropPrivilege(); err != nil {
			f.Close()
			return status(err)
		}
	}
	return status(s.opened(f, in.Uid, out))
}

// Create makes a file and opens it.
func (s *worker) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	return s.create(in, out, func(p *tree.Node, w tree.New) (*tree.Node, *dirat.Stat, *tree.File, error) {
		return s.tree.Create(p, name, w, s.intent)
	})
}

// Tmpfile makes a file without a name and opens it.
func (s *worker) Tmpfile(_ <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	return s.create(in, out, s.tree.Tmpfile)
}

func (s *worker) create(in *fuse.CreateIn, out *fuse.CreateOut, f func(*tree.Node, tree.New) (*tree.Node, *dirat.Stat, *tree.File, error)) fuse.Status {
	p, err := s.node(in.NodeId)
	if err != nil {
		return status(err)
	}
	n, st, open, err := f(p, tree.New{Mode: in.Mode, Umask: in.Umask, UID: in.Uid, GID: in.Gid})
	if err != nil {
		return status(err)
	}
	if err := s.opened(open, in.Uid, &out.OpenOut); err != nil {
		s.tree.Forget(n, 1)
		return status(err)
	}
	s.entry(n, st, &out.EntryOut)
	return fuse.OK
}

// Release closes a file.
func (s *worker) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	f, ok := s.open.take(in.Fh).(*file)
	if !ok {
		return
	}
	backing := s.backings.done(f, func(backing int32) { s.recordClose(in.Fh, backing) })
	if backing > 0 {
		_ = s.dev.CloseBacking(backing) // there is nothing else to do with it
	}
	f.Close()
}

func (s *worker) file(fh uint64) (*file, error) {
	if f, ok := s.open.of(fh).(*file); ok {
		return f, nil
	}
	return nil, syscall.EBADF
}

// Read reads what the kernel does not read itself.
func (s *worker) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	f, err := s.file(in.Fh)
	if err != nil {
		return nil, status(err)
	}
	n, err := f.FD.Pread(buf[:min(len(buf), int(in.Size))], int64(in.Offset))
	if err != nil {
		return nil, status(err)
	}
	return fuse.ReadResultData(buf[:n]), fuse.OK
}

// Write writes what the kernel does not write itself.
func (s *worker) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	f, err := s.file(in.Fh)
	if err != nil {
		return 0, status(err)
	}
	if err := f.dropFor(in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0); err != nil {
		return 0, status(err)
	}
	n, err := f.FD.Pwrite(data, int64(in.Offset))
	return uint32(max(n, 0)), status(err)
}

// dropFor takes privileges from the file before a write. Only those who may keep
// set-user-id have not been marked by the kernel.
func (f *file) dropFor(all bool) error {
	switch {
	case all:
		return f.DropPrivilege()
	case f.drops:
		return f.DropCapability()
	}
	return nil
}

// Flush has nothing to do: what is written is in the branch's file at once.
func (s *worker) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// Fsync writes a file to disk.
func (s *worker) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	f, err := s.file(in.Fh)
	if err != nil {
		return status(err)
	}
	const dataOnly = 1
	if in.FsyncFlags&dataOnly != 0 {
		return status(f.FD.Datasync())
	}
	return status(f.FD.Sync())
}

// Fallocate is fallocate.
func (s *worker) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	f, err := s.file(in.Fh)
	if err != nil {
		return status(err)
	}
	return status(f.FD.Allocate(in.Mode, int64(in.Offset), int64(in.Length)))
}

// Lseek finds data and holes.
func (s *worker) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	f, err := s.file(in.Fh)
	if err != nil {
		return status(err)
	}
	at, err := f.FD.Seek(int64(in.Offset), int(in.Whence))
	if err != nil {
		return status(err)
	}
	out.Offset = uint64(at)
	return fuse.OK
}

// CopyFileRange copies between files of branches, shared where the file system
// can.
func (s *worker) CopyFileRange(_ <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	from, err := s.file(in.FhIn)
	if err != nil {
		return 0, status(err)
	}
	to, err := s.file(in.FhOut)
	if err != nil {
		return 0, status(err)
	}
	n, err := from.FD.CopyRange(int64(in.OffIn), to.FD, int64(in.OffOut), int(min(in.Len, 1<<30)))
	if err != nil {
		return 0, status(err)
	}
	return uint32(n), fuse.OK
}
