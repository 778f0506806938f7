package keeper

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// state of a child:
//
//	starting ──▶ running ──▶ (exit)
//	    └──────▶ parked ──▶ starting
//	orphan: running, but an earlier keeper's
type state int

const (
	starting state = iota
	parked
	running
	orphan
)

// child is a process of ours, or one that will be.
type child struct {
	process Process
	state   state // +checklocks:Keeper.mu

	ended  chan ended // its end, while it is starting
	mounts *os.File   // its mount namespace, so that its end waits for no unmount

	// of a parked child
	slab *spawn.Slab
	park *os.File

	// of an orphan
	pidfd  *os.File
	status chan syscall.WaitStatus // the engine's word
}

func (c *child) setPid(pid int) {
	c.process.Pid = pid
	// The child cannot be reaped before this keeper says so: the pid is its.
	c.process.StartTicks, _ = process.StartTicks(pid)
}

// hears returns what takes the child's end while somebody waits for it.
func (c *child) hears() onEnd { return func(e ended) { c.ended <- e } }

// ended says how and when a process ended.
type ended struct {
	status syscall.WaitStatus
	at     time.Time
}

// onEnd is called with the keeper's lock held.
type onEnd func(ended)

// usableID says whether an ID may be a file's name.
func usableID(id string) bool {
	if id == "" || len(id) > 128 || id[0] == '.' {
		return false
	}
	return strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == ""
}

// claim enters a child in the list.
func (k *Keeper) claim(c *child) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	id := c.process.ID
	if k.children[id] != nil {
		return errdefs.New(errdefs.Conflict, "process %s is there already", id)
	}
	if _, ok := k.exits[id]; ok {
		return errdefs.New(errdefs.Conflict, "the exit of process %s is not acknowledged", id)
	}
	k.children[id] = c
	return nil
}

// forget takes a child that never ran off the list.
func (k *Keeper) forget(c *child) {
	k.mu.Lock()
	delete(k.children, c.process.ID)
	k.mu.Unlock()
	if c.mounts != nil {
		k.mounts.drop(c.mounts)
	}
}

// cloning counts a clone whose pid is not known yet; book counts it out.
func (k *Keeper) cloning(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.inFlight += n
	if k.inFlight == 0 {
		clear(k.early)
	}
}

// book says who hears of the end of a child. It may have ended already.
func (k *Keeper) book(pid int, f onEnd) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e, ok := k.early[pid]; ok {
		delete(k.early, pid)
		f(e)
		return
	}
	k.ends[pid] = f
}

// settle is called when the engine has the answer to a start: from now on the
// child's end is an event. The answer always comes before it.
func (k *Keeper) settle(c *child) {
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case e := <-c.ended:
		k.finishes(c)(e)
	default:
		k.ends[c.process.Pid] = k.finishes(c)
	}
}

// finishes returns what reports the child's end.
func (k *Keeper) finishes(c *child) onEnd {
	return func(e ended) {
		k.finishing.Add(1)
		go func() {
			defer k.finishing.Done()
			k.finish(c, e)
		}()
	}
}

// reap is the only waiter for all children. An ended child is seen first and
// taken second, so that an upgrade between the two loses nothing.
func (k *Keeper) reap() {
	for {
		pid, err := process.PeekExit()
		if err != nil { // no children: the nurseries are about to be made again
			time.Sleep(10 * time.Millisecond)
			continue
		}
		k.reaping.Lock()
		ws, err := process.Reap(pid)
		if err == nil {
			k.over(pid, ended{ws, time.Now()})
		}
		k.reaping.Unlock()
	}
}

// over passes on the end of a child.
func (k *Keeper) over(pid int, e ended) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.ends[pid]
	delete(k.ends, pid)
	switch {
	case f != nil:
		f(e)
	case k.inFlight > 0:
		k.early[pid] = e
	}
}

// openMountNS holds the mount namespace of a child that has just been cloned,
// nil if it is gone already.
func openMountNS(pid int) *os.File {
	path := "/proc/" + strconv.Itoa(pid) + "/ns/mnt"
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), path)
}

// item is a line of the list.
type item struct {
	id      string
	process *Process
	exit    *Exit
}
