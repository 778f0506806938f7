package tree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/union"
)

// home is what the union keeps in the root of a branch. A branch that is not
// writable keeps what it has from the time when it was.
type home struct {
	work   dirat.FD // of writable branches, else None
	links  dirat.FD // None if there are none
	inodes inodes

	mu     sync.Mutex
	linked map[uint64]bool // inode numbers with a name in links
}

// A writable branch is locked before anything of it is touched, unless lock is a
// descriptor already.
func (h *home) open(root dirat.FD, rw bool, lock *dirat.FD, patience time.Duration) (err error) {
	h.work, h.links, h.inodes.fd, h.linked = dirat.None, dirat.None, dirat.None, map[uint64]bool{}
	defer func() {
		if err != nil {
			h.close()
		}
	}()
	if rw {
		// The root's time is that of what is seen in it.
		err := keepTimes(root, func() error { return h.make(root, lock, patience) })
		if err != nil {
			return err
		}
	}
	if h.links, err = root.Dir(union.LinkDir); err != nil && err != syscall.ENOENT {
		return fmt.Errorf("%s: %w", union.LinkDir, err)
	}
	if h.links >= 0 {
		if err := h.loadLinks(); err != nil {
			return fmt.Errorf("%s: %w", union.LinkDir, err)
		}
	}
	if err := h.inodes.open(root, rw); err != nil {
		return fmt.Errorf("%s: %w", union.InodeFile, err)
	}
	return nil
}

// make makes what a writable branch has, and empties the directory of things
// which were on their way when a server died.
func (h *home) make(root dirat.FD, lock *dirat.FD, patience time.Duration) (err error) {
	if err := Furnish(root); err != nil {
		return err
	}
	if *lock < 0 {
		if *lock, err = lockWork(root, patience); err != nil {
			return err
		}
	}
	if h.work, err = root.Dir(union.WorkDir); err != nil {
		return fmt.Errorf("%s: %w", union.WorkDir, err)
	}
	return removeIn(h.work)
}

// Furnish makes in the root of a branch what the union keeps in a writable one. The
// first mount would do it.
func Furnish(root dirat.FD) error {
	for _, name := range []string{union.WorkDir, union.LinkDir} {
		if err := root.Mkdir(name, 0o700); err != nil && err != syscall.EEXIST {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := markAlone(root, union.WhiteoutBase); err != nil {
		return fmt.Errorf("%s: %w", union.WhiteoutBase, err)
	}
	fd, err := root.OpenAt(union.InodeFile, syscall.O_RDWR|syscall.O_CREAT, 0o600)
	if err != nil {
		return fmt.Errorf("%s: %w", union.InodeFile, err)
	}
	fd.Close()
	return nil
}

func (h *home) loadLinks() error {
	return h.links.Names(func(name string, _ uint64, _ uint8) {
		if ino, err := strconv.ParseUint(name, 16, 64); err == nil {
			h.linked[ino] = true
		}
	})
}

func (h *home) close() {
	h.work.Close()
	h.links.Close()
	h.inodes.fd.Close()
}

func (h *home) isLinked(ino uint64) bool {
	if h.links < 0 {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.linked[ino]
}

func (h *home) setLinked(ino uint64) {
	h.mu.Lock()
	h.linked[ino] = true
	h.mu.Unlock()
}

// linkName is the name of a file in the link directory.
func linkName(ino uint64) string { return strconv.FormatUint(ino, 16) }

// linkOf finds the copy, in a branch above, of a file that has several names.
func (t *Tree) linkOf(b *Branch, ino uint64) (key, bool, error) {
	shown := b.inode(ino)
	for _, up := range t.branches[:b.index] {
		if !up.home.isLinked(shown) {
			continue
		}
		var st dirat.Stat
		if err := up.home.links.StatAt(linkName(shown), &st); err != nil {
			return key{}, false, err
		}
		return key{up, st.Dev, st.Ino}, true, nil
	}
	return key{}, false, nil
}

// removeIn removes everything in a directory.
func removeIn(d dirat.FD) error {
	var names []string
	var errs []error
	if err := d.Names(func(name string, _ uint64, _ uint8) { names = append(names, name) }); err != nil {
		return err
	}
	for _, name := range names {
		errs = append(errs, removeAll(d, name))
	}
	return errors.Join(errs...)
}

func removeAll(d dirat.FD, name string) error {
	err := d.Unlink(name)
	if err != syscall.EISDIR {
		return err
	}
	sub, err := d.Dir(name)
	if err != nil {
		return err
	}
	defer sub.Close()
	if err := removeIn(sub); err != nil {
		return err
	}
	return d.Rmdir(name)
}

// inodes keeps the inode numbers of files and directories that came to a branch
// by being copied up: they are shown with the number that they had before. On
// disk it is a list of pairs, eight bytes each, of which the last one counts;
// what is shown as 0 has been removed.
type inodes struct {
	mu sync.Mutex
	fd dirat.FD // None: the branch has none
	m  map[uint64]uint64
}

func (x *inodes) open(root dirat.FD, rw bool) error {
	flags := syscall.O_RDONLY
	if rw {
		flags = syscall.O_RDWR | syscall.O_APPEND
	}
	fd, err := root.OpenAt(union.InodeFile, flags, 0o600)
	if err == syscall.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	x.fd, x.m = fd, map[uint64]uint64{}
	pairs, err := x.load()
	if err != nil || !rw || pairs < 1024 || pairs < 2*len(x.m) {
		return err
	}
	return x.rewrite()
}

// load reads the pairs; an incomplete one at the end is cut off.
func (x *inodes) load() (pairs int, err error) {
	buf := make([]byte, 64<<10)
	for {
		n, err := x.fd.Pread(buf, int64(pairs)*16)
		if err != nil || n < 16 {
			return pairs, err
		}
		for b := buf[:n-n%16]; len(b) > 0; b = b[16:] {
			x.put(binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]))
			pairs++
		}
	}
}

func (x *inodes) put(ino, shown uint64) {
	if shown == 0 {
		delete(x.m, ino)
		return
	}
	x.m[ino] = shown
}

// rewrite leaves only pairs that count. A crash in between costs numbers, which
// then are those of the branch.
func (x *inodes) rewrite() error {
	all := make([]byte, 0, 16*len(x.m))
	for ino, shown := range x.m {
		all = pair(all, ino, shown)
	}
	if err := x.fd.Truncate(0); err != nil {
		return err
	}
	_, err := x.fd.Append(all)
	return err
}

func pair(b []byte, ino, shown uint64) []byte {
	b = binary.LittleEndian.AppendUint64(b, ino)
	return binary.LittleEndian.AppendUint64(b, shown)
}

// of returns the number that is shown for one of the branch, or 0.
func (x *inodes) of(ino uint64) uint64 {
	if x.fd < 0 {
		return 0
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.m[ino]
}

// set records a number.
func (x *inodes) set(ino, shown uint64) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.put(ino, shown)
	_, err := x.fd.Append(pair(nil, ino, shown))
	return err
}

// forget removes a number that is free again.
func (x *inodes) forget(ino uint64) error {
	if x.fd < 0 || x.of(ino) == 0 {
		return nil
	}
	return x.set(ino, 0)
}

// take makes h what another home is.
func (h *home) take(o *home) {
	h.work, h.links, h.linked = o.work, o.links, o.linked
	h.inodes.fd, h.inodes.m = o.inodes.fd, o.inodes.m
}
