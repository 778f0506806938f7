package server

import (
	"os"
	"strconv"
	"sync/atomic"
	"syscall"

	"github.com/tare-engine/tare/internal/keeper/reaper"
	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// state of a child:
//
//	starting ──▶ running ──▶ (exit)
//	    └──────▶ parked ──▶ starting
//	orphaned: running, but an earlier keeper's
type state int

const (
	starting state = iota
	parked
	running
	orphaned
)

// child is a process of ours, or one that will be.
type child struct {
	process wire.Process
	state   state // +checklocks:children.mu

	heard  chan reaper.End // its end, while it is starting
	mounts *os.File        // its mount namespace, so that its end waits for no unmount
	ports  []*os.File      // host ports that are held for it; +checklocks:children.mu

	// of a parked child
	slab *spawn.Slab
	park *os.File

	// of an orphan
	pidfd  *os.File
	status chan syscall.WaitStatus            // the engine's word, once it has ended; +checklocks:children.mu
	ended  atomic.Pointer[syscall.WaitStatus] // how it has ended, once that is known
}

func newChild(p wire.Process) *child {
	return &child{process: p, state: starting, heard: make(chan reaper.End, 1)}
}

func (c *child) setPid(pid int) {
	c.process.Pid = pid
	// The child cannot be reaped before this keeper says so: the pid is its.
	c.process.StartTicks, _ = process.StartTicks(pid)
}

// hears returns what takes the child's end while somebody waits for it.
func (c *child) hears() func(reaper.End) { return func(e reaper.End) { c.heard <- e } }

// isParked reports whether the child waits for its second plan.
func (c *child) isParked() bool { return c.slab != nil }

// kill sends SIGKILL, and never to a process that has the pid after it.
func (c *child) kill() {
	if p, err := process.Reopen(c.process.Pid, c.process.StartTicks); err == nil {
		process.Signal(p, syscall.SIGKILL)
		p.Close()
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
