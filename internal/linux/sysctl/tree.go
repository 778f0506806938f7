package sysctl

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Tree writes parameters of many network namespaces. The kernel remembers the name "net"
// of each namespace in which somebody has looked, as long as it lives, and goes through
// all of them to find one: with thousands that takes longer than the rest of the
// parameter. A tree has a procfs of its own, and another one after some uses.
type Tree struct {
	procfs func() (*os.File, error)

	mu   sync.Mutex
	root *os.File // nil at first
	uses int
}

// NewTree returns a tree that makes a procfs when it needs one.
func NewTree(procfs func() (*os.File, error)) *Tree { return &Tree{procfs: procfs} }

// treeUses is for how many writes a procfs is used.
const treeUses = 128

// Write is the package's Write.
func (t *Tree) Write(name, value string) error {
	f, err := t.open(name)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(value); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func (t *Tree) open(name string) (*os.File, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.root == nil || t.uses >= treeUses {
		root, err := t.procfs()
		if err != nil {
			return nil, err
		}
		t.close()
		t.root, t.uses = root, 0
	}
	t.uses++
	fd, err := unix.Openat(int(t.root.Fd()), "sys/"+name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: root + "/" + name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Close gives up the procfs. The tree can be used again.
func (t *Tree) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.close()
}

// close is Close.
//
// Preconditions: t.mu is held.
func (t *Tree) close() {
	if t.root != nil {
		t.root.Close()
		t.root = nil
	}
}
