package mount

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// FS is a file system that is being configured. It must be closed; what it was
// mounted as lives on.
type FS struct {
	f       *os.File
	created bool
}

// OpenFS begins a file system of the type.
func OpenFS(fstype string) (*FS, error) {
	fd, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen %s: %w", fstype, err)
	}
	return &FS{f: os.NewFile(uintptr(fd), fstype)}, nil
}

// PickFS takes up the configuration of the file system that is mounted at the
// trusted path. While it is open the file system lives on, unmounted or not.
func PickFS(path string) (*FS, error) {
	fd, err := unix.Fspick(unix.AT_FDCWD, path, unix.FSPICK_CLOEXEC|unix.FSPICK_NO_AUTOMOUNT)
	if err != nil {
		return nil, fmt.Errorf("fspick %s: %w", path, err)
	}
	return &FS{f: os.NewFile(uintptr(fd), path), created: true}, nil
}

// Close ends the configuration.
func (fs *FS) Close() error { return fs.f.Close() }

// SetString sets a parameter. Values end at 255 bytes.
func (fs *FS) SetString(key, value string) error {
	return fs.explain(key+"="+value, unix.FsconfigSetString(int(fs.f.Fd()), key, value))
}

// SetFlag sets a parameter that has no value.
func (fs *FS) SetFlag(key string) error {
	return fs.explain(key, unix.FsconfigSetFlag(int(fs.f.Fd()), key))
}

// SetFD sets a parameter to a descriptor. Which parameters take one depends on
// the file system and the kernel.
func (fs *FS) SetFD(key string, f *os.File) error {
	err := unix.FsconfigSetFd(int(fs.f.Fd()), key, int(f.Fd()))
	runtime.KeepAlive(f)
	return fs.explain(key+"="+f.Name(), err)
}

// SetPath sets a parameter to a path below dir (nil: the working directory).
func (fs *FS) SetPath(key string, dir *os.File, path string) error {
	at := unix.AT_FDCWD
	if dir != nil {
		at = int(dir.Fd())
	}
	err := unix.FsconfigSetPath(int(fs.f.Fd()), key, path, at)
	runtime.KeepAlive(dir)
	return fs.explain(key+"="+path, err)
}

// Mount makes the file system (at the first call) and returns a new detached
// mount of it.
func (fs *FS) Mount(a Attr) (*os.File, error) {
	if !fs.created {
		if err := fs.explain("create", unix.FsconfigCreate(int(fs.f.Fd()))); err != nil {
			return nil, err
		}
		fs.created = true
	}
	fd, err := unix.Fsmount(int(fs.f.Fd()), unix.FSMOUNT_CLOEXEC, int(a))
	if err != nil {
		return nil, fs.explain("fsmount", err)
	}
	return os.NewFile(uintptr(fd), fs.f.Name()), nil
}

// Reconfigure applies the parameters that were set to the mounted file
// system. Even with none the kernel drops what it remembers of its names and
// nobody uses.
func (fs *FS) Reconfigure() error {
	return fs.explain("reconfigure", unix.FsconfigReconfigure(int(fs.f.Fd())))
}

// explain adds what the kernel wrote into the context's log: one message a
// read, beginning with its severity.
func (fs *FS) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s: %s: %w", fs.f.Name(), what, err)
	var b [512]byte
	var said []string
	for {
		n, rerr := unix.Read(int(fs.f.Fd()), b[:])
		if rerr != nil || n <= 0 {
			break
		}
		said = append(said, strings.TrimSpace(strings.TrimLeft(string(b[:n]), "eiw ")))
	}
	runtime.KeepAlive(fs)
	if len(said) == 0 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.Join(said, "; "))
}

// Unsupported reports whether err says that the kernel lacks the call or the
// file system type.
func Unsupported(err error) bool {
	return errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENODEV)
}
