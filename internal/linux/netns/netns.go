// Package netns makes network namespaces and runs code inside them.
//
// A namespace belongs to a thread. Go moves goroutines between threads, so code
// enters one only on a thread that is locked, and comes back before the thread
// is given up; what is opened inside (sockets, /proc/sys/net files) stays in
// that namespace wherever it is used later.
package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

const self = "/proc/thread-self/ns/net"

// Open returns the network namespace of the calling thread.
func Open() (*os.File, error) { return os.Open(self) }

// OfProcess returns the network namespace of a process.
func OfProcess(pid int) (*os.File, error) {
	return os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
}

// OfSocket returns the network namespace that a socket is in.
func OfSocket(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var ns int
	var failed error
	if err := raw.Control(func(fd uintptr) { ns, failed = unix.IoctlRetInt(int(fd), unix.SIOCGSKNS) }); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, os.NewSyscallError("SIOCGSKNS", failed)
	}
	return os.NewFile(uintptr(ns), "net namespace"), nil
}

// Do runs f on a thread inside ns. f must not start goroutines that it expects
// there.
func Do(ns *os.File, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := Open()
		if err != nil {
			done <- err
			return // locked: the thread ends with the goroutine
		}
		defer home.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- os.NewSyscallError("setns", err)
			return
		}
		err = f()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// Maker makes namespaces on threads of its own, which wait between two: making
// one takes 0.5 ms, a new thread for it would add a tenth.
type Maker struct {
	work chan request
	done sync.WaitGroup
	once sync.Once
}

type request struct {
	setup  func() error
	answer chan<- answer
}

type answer struct {
	ns  *os.File
	err error
}

// NewMaker starts a Maker with a number of threads. They belong to the network
// namespace of the process; Close ends them.
func NewMaker(threads int) *Maker {
	m := &Maker{work: make(chan request)}
	for range threads {
		m.done.Go(m.loop)
	}
	return m
}

// Close waits for namespaces being made and ends the threads.
func (m *Maker) Close() {
	m.once.Do(func() { close(m.work) })
	m.done.Wait()
}

// New makes a namespace and calls setup inside it. The namespace lives as long
// as the file, a process or a socket in it.
func (m *Maker) New(setup func() error) (*os.File, error) {
	c := make(chan answer, 1)
	m.work <- request{setup, c}
	a := <-c
	return a.ns, a.err
}

func (m *Maker) loop() {
	runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
	home, err := Open()
	for r := range m.work {
		if err != nil {
			r.answer <- answer{nil, err}
			continue
		}
		ns, e := makeOne(r.setup)
		// Back at once: a waiting thread must not keep the namespace alive.
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
			err = fmt.Errorf("return from a network namespace: %w", back)
		}
		r.answer <- answer{ns, e}
	}
	if home != nil {
		home.Close()
	}
}

func makeOne(setup func() error) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, os.NewSyscallError("unshare", err)
	}
	ns, err := Open()
	if err != nil {
		return nil, err
	}
	if err := setup(); err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	return ns, nil
}
