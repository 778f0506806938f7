// Package confine runs a function on a thread with fewer rights than the
// process has: work on data that somebody else made.
//
// Rights that a thread gives up do not come back. So the thread is made for
// the function and ends with it, while the rest of the process keeps what it
// has: the kernel counts capabilities, no_new_privs and Landlock domains per
// thread, and the Go runtime never makes a thread from one that is locked.
//
//	err := confine.Run(confine.Options{Dir: root, Keep: confine.FileCapabilities()}, func() error { ... })
//
// Go code of a confined function is as trustworthy as before: this is against
// what a bug of ours makes the kernel do, not against foreign machine code.
package confine

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// Capability is the number of a capability.
type Capability int

// Capabilities that a thread may keep; the last is for attributes trusted.*.
const (
	Chown       Capability = unix.CAP_CHOWN
	DACOverride Capability = unix.CAP_DAC_OVERRIDE
	FOwner      Capability = unix.CAP_FOWNER
	FSetID      Capability = unix.CAP_FSETID
	MkNod       Capability = unix.CAP_MKNOD
	SetFCap     Capability = unix.CAP_SETFCAP
	SysAdmin    Capability = unix.CAP_SYS_ADMIN
)

// FileCapabilities are what it takes to make and change files of all kinds and owners.
func FileCapabilities() []Capability {
	return []Capability{Chown, DACOverride, FOwner, FSetID, MkNod, SetFCap}
}

// Options of a Run.
type Options struct {
	// Dir is the only directory in which the function may make, open, read,
	// change and remove files by path, where the kernel has Landlock with its
	// second ABI (Linux 5.19; the first refuses all links between directories).
	// What is open already stays usable.
	Dir *os.File
	// Keep are the capabilities that the function has, if the process has them.
	Keep []Capability
	// Reserve are those that it has only inside of Raise.
	Reserve []Capability
	// Enter is called on the thread first, while it has all rights: it may take the
	// thread to other namespaces.
	Enter func() error
	// As are the ids that its files get; nil: those of the process.
	As *IDs
}

// IDs of a user and a group.
type IDs struct{ UID, GID int }

// Run runs f with what o leaves of the rights of the process, on a thread that
// ends with it, and returns f's error. The goroutines that f starts are not
// confined. Without Landlock only the capabilities are taken.
func Run(o Options, f func() error) error {
	var err error
	var trouble any
	ended := false
	done := make(chan struct{})
	go onOwnThread(func() {
		defer close(done)
		defer func() {
			if trouble = recover(); trouble != nil {
				trouble = fmt.Sprintf("%v\n%s", trouble, debug.Stack())
			}
		}()
		if err = o.begin(); err == nil {
			err = f()
		}
		ended = true
	})
	<-done
	switch {
	case trouble != nil:
		panic(trouble)
	case !ended:
		runtime.Goexit() // as f did
	}
	return err
}

// OnThread calls f on a thread that ends with it, with all rights: f may take the
// thread to where no other is to be.
func OnThread(f func() error) (err error) {
	done := make(chan struct{})
	go onOwnThread(func() {
		defer close(done)
		err = f()
	})
	<-done
	return err
}

// onOwnThread runs f on a thread that ends with the calling goroutine. The
// first thread of a process cannot end and is what /proc/self shows: if it is
// the one, another goroutine gets another thread while this one holds it.
func onOwnThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f() // the lock stays: the goroutine's end is the thread's
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		onOwnThread(f)
	}()
	<-done
	runtime.UnlockOSThread()
}

// begin takes the thread to where f runs, with the rights that f has.
func (o Options) begin() error {
	if o.Enter != nil {
		if err := o.Enter(); err != nil {
			return err
		}
	}
	if err := o.confine(); err != nil {
		return fmt.Errorf("confine thread: %w", err)
	}
	return nil
}

func (o Options) confine() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if o.Dir != nil && Landlock() >= minLandlock {
		if err := restrict(o.Dir); err != nil {
			return err
		}
	}
	if err := o.As.become(); err != nil {
		return err
	}
	return setCapabilities(o.Keep, o.Reserve)
}

// become gives the thread the ids for files. The kernel takes capabilities for
// files out of the effective set with root's id: setCapabilities puts them back.
func (ids *IDs) become() error {
	if ids == nil {
		return nil
	}
	if err := unix.Setfsgid(ids.GID); err != nil {
		return fmt.Errorf("setfsgid: %w", err)
	}
	if err := unix.Setfsuid(ids.UID); err != nil {
		return fmt.Errorf("setfsuid: %w", err)
	}
	return nil
}

// setCapabilities leaves the thread keep, and reserve in its permitted set.
func setCapabilities(keep, reserve []Capability) error {
	h, d, err := capabilities()
	if err != nil {
		return err
	}
	var k, r [2]uint32
	add(&k, keep)
	add(&r, reserve)
	for i := range d {
		d[i].Permitted &= k[i] | r[i]
		d[i].Effective = d[i].Permitted & k[i]
		d[i].Inheritable = 0
	}
	if err := unix.Capset(&h, &d[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return nil
}

func add(set *[2]uint32, list []Capability) {
	for _, c := range list {
		set[c/32] |= 1 << (c % 32)
	}
}

func capabilities() (unix.CapUserHeader, [2]unix.CapUserData, error) {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if err := unix.Capget(&h, &d[0]); err != nil {
		return h, d, fmt.Errorf("capget: %w", err)
	}
	return h, d, nil
}

// Raise runs f with one more capability, if the thread has it in reserve. It is
// for the one call that needs it; Run's function is the only caller.
func Raise(c Capability, f func() error) (err error) {
	h, was, err := capabilities()
	if err != nil {
		return err
	}
	raised := was
	raised[c/32].Effective |= raised[c/32].Permitted & (1 << (c % 32))
	if raised == was {
		return f()
	}
	if err := unix.Capset(&h, &raised[0]); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Capset(&h, &was[0])) }()
	return f()
}
