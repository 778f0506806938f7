package tree

import (
	"container/list"
	"sync"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/dirat"
)

// dirfd is a directory of a branch; its descriptor is open while it is used,
// and afterwards as long as there is room.
type dirfd struct {
	dev, ino uint64
	fixed    bool // fd is the branch's own

	// Under handles.mu, unless fixed.
	fd      dirat.FD
	pins    int
	elem    *list.Element
	dropped bool // to be closed with the last pin
}

// handles are the descriptors of directories.
type handles struct {
	mu  sync.Mutex
	max int
	lru list.List // of *dirfd whose fd is open, the last used in front
}

// newDirfd takes over a descriptor.
func (t *Tree) newDirfd(fd dirat.FD, st *dirat.Stat) *dirfd {
	d := &dirfd{dev: st.Dev, ino: st.Ino, fd: fd}
	t.handles.mu.Lock()
	d.elem = t.handles.lru.PushFront(d)
	t.handles.trim()
	t.handles.mu.Unlock()
	return d
}

// pin returns the descriptor, if it is open, and keeps it so until unpin.
func (h *handles) pin(d *dirfd) (dirat.FD, bool) {
	if d.fixed {
		return d.fd, true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if d.fd < 0 {
		return dirat.None, false
	}
	d.pins++
	h.lru.MoveToFront(d.elem)
	return d.fd, true
}

func (h *handles) unpin(d *dirfd) {
	if d.fixed {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	d.pins--
	if d.dropped && d.pins == 0 {
		h.shut(d)
	}
}

// refill gives d a descriptor again and pins it.
func (h *handles) refill(d *dirfd, fd dirat.FD) dirat.FD {
	h.mu.Lock()
	defer h.mu.Unlock()
	d.pins++
	if d.fd >= 0 { // someone was faster
		fd.Close()
		return d.fd
	}
	d.fd = fd
	d.elem = h.lru.PushFront(d)
	h.trim()
	return fd
}

// trim closes what is used least. Preconditions: h.mu is held.
func (h *handles) trim() {
	for e := h.lru.Back(); e != nil && h.lru.Len() > h.max; {
		d := e.Value.(*dirfd)
		e = e.Prev()
		if d.pins == 0 {
			h.shut(d)
		}
	}
}

// shut closes a descriptor. Preconditions: h.mu is held, nobody has it pinned.
func (h *handles) shut(d *dirfd) {
	if d.fd < 0 {
		return
	}
	h.lru.Remove(d.elem)
	d.fd.Close()
	d.fd, d.elem = dirat.None, nil
}

// drop closes d's descriptor as soon as nobody uses it.
func (h *handles) drop(d *dirfd) {
	if d.fixed {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	d.dropped = true
	if d.pins == 0 {
		h.shut(d)
	}
}

func (h *handles) close() {
	for e := h.lru.Front(); e != nil; e = e.Next() {
		e.Value.(*dirfd).fd.Close()
	}
}

// use returns the descriptor of a directory's slot; t.done gives it back.
func (t *Tree) use(n *Node, s slot) (dirat.FD, error) {
	if fd, ok := t.handles.pin(s.d); ok {
		return fd, nil
	}
	parent, name, ok := t.Place(n)
	if !ok {
		return dirat.None, syscall.ESTALE
	}
	return t.useNamed(parent, name, s)
}

// useNamed is the same for a slot of what a name in a directory stands for.
func (t *Tree) useNamed(parent *Node, name string, s slot) (dirat.FD, error) {
	if fd, ok := t.handles.pin(s.d); ok {
		return fd, nil
	}
	up, ok := parent.dir.in(s.b)
	if !ok {
		return dirat.None, syscall.ESTALE
	}
	pfd, err := t.use(parent, up)
	if err != nil {
		return dirat.None, err
	}
	fd, err := pfd.Dir(name)
	t.done(up)
	if err != nil {
		return dirat.None, stale(err)
	}
	var st dirat.Stat
	if err := fd.Stat(&st); err != nil || st.Dev != s.d.dev || st.Ino != s.d.ino {
		fd.Close()
		return dirat.None, syscall.ESTALE
	}
	return t.handles.refill(s.d, fd), nil
}

// done gives back what use has returned.
func (t *Tree) done(s slot) { t.handles.unpin(s.d) }

// stale is the error for what was there and is not any more: the caller is to
// look it up again.
func stale(err error) error {
	switch err {
	case syscall.ENOENT, syscall.ENOTDIR, syscall.ELOOP, syscall.EXDEV:
		return syscall.ESTALE
	}
	return err
}
