// Package inotify tells what happens to the files of directories.
package inotify

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// Overflow is the watch of an event that says that events were lost.
const Overflow = -1

// Watcher is one inotify instance. A user may have only a few hundred of them,
// so a program should do with one.
type Watcher struct {
	f  *os.File
	fd int
}

// New makes a watcher that watches nothing.
func New() (*Watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	return &Watcher{f: os.NewFile(uintptr(fd), "inotify"), fd: fd}, nil
}

// Close ends the watcher and a Read in progress.
func (w *Watcher) Close() error { return w.f.Close() }

// Add watches a directory: files written to, made, renamed into it. It returns
// the number that its events bear; a directory watched already has the same.
func (w *Watcher) Add(dir string) (watch int, err error) {
	const mask = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_ONLYDIR
	watch, err = unix.InotifyAddWatch(w.fd, dir, mask)
	if err != nil {
		return 0, &os.PathError{Op: "inotify_add_watch", Path: dir, Err: err}
	}
	return watch, nil
}

// Remove stops watching.
func (w *Watcher) Remove(watch int) error {
	_, err := unix.InotifyRmWatch(w.fd, uint32(watch))
	return os.NewSyscallError("inotify_rm_watch", err)
}

// Read waits for events and returns the watches to which something happened,
// each as often as the kernel says so.
func (w *Watcher) Read() (watches []int, err error) {
	var buf [64 * (unix.SizeofInotifyEvent + unix.NAME_MAX + 1)]byte
	n, err := w.f.Read(buf[:])
	if err != nil {
		return nil, err
	}
	for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
		watches = append(watches, int(int32(binary.NativeEndian.Uint32(b))))
		b = b[unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(b[12:])):]
	}
	return watches, nil
}
