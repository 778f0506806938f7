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
//
// # Life after death
//
// The process may be killed at any time, and another go on with the same
// descriptors: see Restoring. So a request is read into a cell of a ledger, which
// outlives the process, and so is its answer composed there. What an answer gives to
// the kernel, references to nodes and an open file, is recorded at the moment from
// which on the answer counts. Who takes over answers what was read: an answer that
// counts is written (once more, perhaps), and a request without one is done, or
// done again: operations that must not be done twice note what they are about to do
// (tree.Intent).
package server

import (
	"errors"
	"fmt"
	"log"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/tare-engine/tare/internal/linux/fusedev"
	"github.com/tare-engine/tare/internal/union/ledger"
	"github.com/tare-engine/tare/internal/union/tree"
)

// Server serves one union.
type Server struct {
	tree     *tree.Tree
	dev      fusedev.Dev
	ledger   *ledger.Ledger
	words    []string // what it was started with
	hello    []byte   // the kernel's first request
	remember time.Duration
	expires  bool // the kernel can be told that an entry is to be looked up again

	// privilege is held exclusively while a file gets privileges (set-user-id,
	// capabilities), and shared while one is opened.
	privilege sync.RWMutex
	backings  backings
	open      handles

	// busy is held shared while a request is answered, exclusively while the ledger
	// is written anew.
	busy sync.RWMutex
	crew crew

	untold atomic.Int32 // changes of which the kernel has not been told yet
}

// long is "until told otherwise".
const long = 24 * time.Hour

// maxWrite is what the kernel gives and takes with one request. Files that it reads
// and writes itself do not come by.
const maxWrite = 128 << 10

// Buffer is the size of the buffers in the ledger: what comes with a request, and
// what goes with an answer, and headers.
const Buffer = maxWrite + 4096

// New makes a server of the descriptor of /dev/fuse that a mount has, and
// answers the kernel's first request. Descriptor and ledger stay the caller's. Words
// are kept for whoever takes over.
func New(t *tree.Tree, dev fusedev.Dev, l *ledger.Ledger, words []string) (*Server, error) {
	s := newServer(t, dev, l)
	s.words = words
	c := l.Cell(0)
	c.Expect()
	n, err := dev.Read(c.Request)
	if err != nil {
		return nil, fmt.Errorf("the kernel's first request: %w", err)
	}
	s.hello = append([]byte(nil), c.Request[:n]...)
	answer, err := s.newWorker(c).greet()
	if err == nil {
		err = dev.Write(answer)
	}
	c.Done()
	if err != nil {
		return nil, fmt.Errorf("the kernel's first request: %w", err)
	}
	s.settle()
	var r ledger.Records
	s.recordSelf(&r)
	l.Append(&r)
	return s, t.Record(l)
}

func newServer(t *tree.Tree, dev fusedev.Dev, l *ledger.Ledger) *Server {
	s := &Server{tree: t, dev: dev, ledger: l}
	s.backings.init(s)
	s.open.init()
	return s
}

// options of the connection. Measured: symbolic links in the kernel's cache cost
// nothing and save round trips.
func options() *fuse.MountOptions {
	return &fuse.MountOptions{
		Name:                 "tare-union",
		MaxWrite:             maxWrite,
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
	s.expires = kernelFlags(s.hello)&fuse.CAP_HAS_EXPIRE_ONLY != 0
	switch {
	case s.tree.Options().Revalidate:
		s.remember = 0
	case s.expires:
		s.remember = long
	default: // a change of branches is seen after this time (kernels before 6.2)
		s.remember = time.Second
	}
}

// kernelFlags are those of the kernel's first request.
func kernelFlags(hello []byte) uint64 {
	var in fuse.InitIn
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&in)), unsafe.Sizeof(in)), hello)
	return in.Flags64()
}

// Close gives back what the server has.
func (s *Server) Close() {
	s.open.close()
	s.tree.Close()
}

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
