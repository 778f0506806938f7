// Package server answers the kernel's FUSE requests for a union.
//
// The kernel knows a node by its number and counts its references to it; a
// lookup adds one. Files are read and written without us where the kernel can
// (passthrough): with an open we hand it the descriptor of the branch's file.
// It takes one such file for an inode at a time. So when a file has been copied
// up while it is open on its old branch, the next open is answered ESTALE: the
// kernel looks the name up again and gets another node, while those who have the
// old one go on with what they opened.
//
// A write by a user takes set-user-id and the like from a program. The kernel
// leaves that to us, but we see nothing of writes to files that it writes itself.
// So a file that has privileges is not written by the kernel; and one that another
// user is writing cannot be given any: ETXTBSY.
//
// What the kernel may remember, and for how long, is one setting: nothing with
// udba=reval, as somebody else may change a branch; everything with udba=none.
package server

import (
	"errors"
	"log"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/tare-engine/tare/internal/union/tree"
)

// Server serves one union.
type Server struct {
	fuse.RawFileSystem // answers ENOSYS to what is not here
	tree               *tree.Tree
	conn               *fuse.Server
	notes              *os.File // /dev/fuse once more, for what we tell the kernel
	remember           time.Duration
	expires            bool // the kernel can be told that an entry is to be looked up again

	// privilege is held exclusively while a file gets privileges (set-user-id,
	// capabilities), and shared while one is opened.
	privilege sync.RWMutex
	backings  backings
	open      handles
}

// long is "until told otherwise".
const long = 24 * time.Hour

// New makes a server of the descriptor of /dev/fuse that a mount has, and
// answers the kernel's first request. It owns the descriptor.
func New(t *tree.Tree, dev *os.File) (*Server, error) {
	s := &Server{RawFileSystem: fuse.NewDefaultRawFileSystem(), tree: t}
	s.backings.init(s)
	s.open.init()
	fd, err := syscall.Dup(int(dev.Fd()))
	if err != nil {
		dev.Close()
		return nil, os.NewSyscallError("dup", err)
	}
	s.notes = dev
	s.conn, err = fuse.NewServer(s, "/dev/fd/"+strconv.Itoa(fd), options())
	if err != nil {
		dev.Close()
		return nil, err
	}
	s.settle()
	return s, nil
}

// options of the connection. Measured: larger requests and symbolic links in the
// kernel's cache cost nothing and save round trips; splice gains nothing beside
// passthrough.
func options() *fuse.MountOptions {
	return &fuse.MountOptions{
		Name:                 "tare-union",
		MaxWrite:             1 << 20,
		MaxReadAhead:         1 << 20,
		MaxBackground:        64,
		DisableSplice:        true,
		EnableSymlinkCaching: true,
		EnableAcl:            true,
		MaxStackDepth:        2,
		ExtraCapabilities: fuse.CAP_READDIRPLUS_AUTO | fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_ATOMIC_O_TRUNC |
			fuse.CAP_DONT_MASK | fuse.CAP_HAS_EXPIRE_ONLY,
		Logger: log.New(os.Stderr, "", log.LstdFlags),
	}
}

// settle decides how long the kernel may remember.
func (s *Server) settle() {
	s.expires = s.conn.KernelSettings().Flags64()&fuse.CAP_HAS_EXPIRE_ONLY != 0
	switch {
	case s.tree.Options().Revalidate:
		s.remember = 0
	case s.expires:
		s.remember = long
	default: // a change of branches is seen after this time (kernels before 6.2)
		s.remember = time.Second
	}
}

// Serve answers until the file system is unmounted.
func (s *Server) Serve() {
	s.conn.Serve()
	s.open.close()
	s.tree.Close()
	s.notes.Close()
}

func (s *Server) String() string { return "tare-union" }

// status is the answer for an error of the tree.
func status(err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	var no syscall.Errno
	if errors.As(err, &no) {
		return fuse.Status(no)
	}
	return fuse.EIO
}

// node returns the node of a number that the kernel has from us.
func (s *Server) node(id uint64) (*tree.Node, error) {
	if n := s.tree.ByID(id); n != nil {
		return n, nil
	}
	return nil, syscall.ESTALE
}

// handles are what the kernel has open, by numbers.
type handles struct {
	mu   sync.RWMutex
	m    map[uint64]any // *file or *directory
	next uint64
}

func (h *handles) init() { h.m = map[uint64]any{} }

func (h *handles) add(x any) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next++
	h.m[h.next] = x
	return h.next
}

func (h *handles) of(id uint64) any {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.m[id]
}

func (h *handles) take(id uint64) any {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.m[id]
	delete(h.m, id)
	return x
}

func (h *handles) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, x := range h.m {
		if f, ok := x.(*file); ok {
			f.Close()
		}
	}
}
