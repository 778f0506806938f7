// Package proc reads and writes procfs, and opens the namespaces it shows.
package proc

import (
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Private returns a descriptor of a procfs that is mounted nowhere: what is
// written through it reaches the kernel and nothing else, whatever anyone has
// mounted over /proc. "self" in it is the process that uses it. It belongs to
// the caller's PID namespace and is made once.
var Private = sync.OnceValues(New)

// New is Private made anew, with nothing in the kernel's memory of names. It is the
// caller's.
func New() (*os.File, error) {
	fs, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen proc", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, os.NewSyscallError("fsconfig proc", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsmount proc", err)
	}
	f := os.NewFile(uintptr(fd), "proc")
	if err := Check(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Check fails unless f is on a procfs.
func Check(f *os.File) error {
	var st unix.Statfs_t
	err := unix.Fstatfs(int(f.Fd()), &st)
	runtime.KeepAlive(f)
	if err != nil {
		return &os.PathError{Op: "fstatfs", Path: f.Name(), Err: err}
	}
	if st.Type != unix.PROC_SUPER_MAGIC {
		return fmt.Errorf("%s is not on a procfs", f.Name())
	}
	return nil
}

// OpenNamespace opens a namespace file (as /proc/PID/ns/net) and checks that
// it is a namespace of the type: one of the CLONE_NEW constants.
func OpenNamespace(path string, typ int) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	if err := CheckNamespace(f, typ); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// CheckNamespace fails unless f is a namespace of the type.
func CheckNamespace(f *os.File, typ int) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return &os.PathError{Op: "fstatfs", Path: f.Name(), Err: err}
	}
	if st.Type != unix.NSFS_MAGIC {
		return fmt.Errorf("%s is not a namespace", f.Name())
	}
	got, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	runtime.KeepAlive(f)
	if err != nil {
		return &os.PathError{Op: "ioctl NS_GET_NSTYPE", Path: f.Name(), Err: err}
	}
	if got != typ {
		return fmt.Errorf("%s is a namespace of another type", f.Name())
	}
	return nil
}
