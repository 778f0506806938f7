package overlay

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// errNoMapping is why kernels before 5.19 cannot do it.
var errNoMapping = fmt.Errorf("overlayfs on id-mapped layers needs kernel 5.19: %w", errors.ErrUnsupported)

// attachedOnly is set when the kernel has refused lower directories that are
// mounts attached nowhere, which it takes since 6.15.
var attachedOnly atomic.Bool

// mountMapped mounts over copies of the lower directories' mounts in which ids
// are mapped.
func mountMapped(o Options) (*os.File, error) {
	if os.Getenv("TARE_PROBE") == "5.10" {
		return nil, errNoMapping
	}
	mapped, err := mapAll(o.Lower, o.Unmapped, o.UserNS)
	defer closeAll(mapped)
	if err != nil {
		return nil, err
	}
	if os.Getenv("TARE_PROBE") != "6.1" && !attachedOnly.Load() {
		m, err := mountByFD(o, mapped)
		if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EOPNOTSUPP) { // the latter before 6.5
			return m, err
		}
		attachedOnly.Store(true)
	}
	m, err := mountPaged(o, mapped)
	if errors.Is(err, unix.EINVAL) && before519() {
		return nil, errNoMapping
	}
	return m, err
}

// mountByFD hands the layers over as descriptors (Linux 6.13).
func mountByFD(o Options, lower []*os.File) (*os.File, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("fsopen overlay: %w", err)
	}
	defer unix.Close(fs)
	for _, f := range lower {
		if err := unix.FsconfigSetFd(fs, "lowerdir+", int(f.Fd())); err != nil {
			return nil, fmt.Errorf("overlay: lower directory %s: %w", f.Name(), err)
		}
	}
	return create(fs, o)
}

// mapAll returns detached mounts of directories, with mapped ids but for the
// first few. After an error those that were made are returned too.
func mapAll(dirs []string, unmapped int, ns *os.File) (mounts []*os.File, err error) {
	for i, dir := range dirs {
		fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return mounts, &os.PathError{Op: "open_tree", Path: dir, Err: err}
		}
		mounts = append(mounts, os.NewFile(uintptr(fd), dir))
		if i < unmapped {
			continue
		}
		a := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Propagation: unix.MS_PRIVATE, Userns_fd: uint64(ns.Fd())}
		err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &a)
		runtime.KeepAlive(ns)
		switch {
		case errors.Is(err, unix.ENOSYS):
			return mounts, errNoMapping
		case err != nil:
			return mounts, fmt.Errorf("map the ids of %s (can its file system do that?): %w", dir, err)
		}
	}
	return mounts, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// before519 reports whether the kernel's release is before 5.19.
func before519() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	release := unix.ByteSliceToString(u.Release[:])
	major, rest := number(release)
	minor := 0
	if rest != "" {
		minor, _ = number(rest[1:])
	}
	return major < 5 || major == 5 && minor < 19
}

// number cuts the digits off the beginning of s.
func number(s string) (n int, rest string) {
	i := 0
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	n, _ = strconv.Atoi(s[:i])
	return n, s[i:]
}
