package mount

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Legacy reports whether the kernel lacks mount_setattr(2) (before 5.12): then
// attributes are changed by mount(2), which wants the mount attached to the
// caller's namespace. TARE_PROBE=5.10 says so on any kernel.
func Legacy() bool { return os.Getenv("TARE_PROBE") == "5.10" || lacksSetAttr() }

var lacksSetAttr = sync.OnceValue(func() bool {
	return unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{}) == unix.ENOSYS
})

// RemountFlags are the flags with which mount(2) gives one mount exactly these
// attributes.
func RemountFlags(a Attr) uint64 {
	flags := uint64(unix.MS_REMOUNT | unix.MS_BIND)
	for attr, flag := range map[Attr]uint64{
		ReadOnly: unix.MS_RDONLY, NoSuid: unix.MS_NOSUID, NoDev: unix.MS_NODEV, NoExec: unix.MS_NOEXEC,
		NoDirAtime: unix.MS_NODIRATIME, NoSymFollow: unix.MS_NOSYMFOLLOW,
	} {
		if a&attr != 0 {
			flags |= flag
		}
	}
	switch a & AtimeMask {
	case NoAtime:
		return flags | unix.MS_NOATIME
	case StrictAtime:
		return flags | unix.MS_STRICTATIME
	}
	return flags | unix.MS_RELATIME
}

// AttrOf returns the attributes that the mount f lies on has, its file
// system's read-only included.
func AttrOf(f *os.File) (Attr, error) {
	var st unix.Statfs_t
	err := unix.Fstatfs(int(f.Fd()), &st)
	runtime.KeepAlive(f)
	if err != nil {
		return 0, fmt.Errorf("statfs %s: %w", f.Name(), err)
	}
	return attrOfFlags(uint64(st.Flags)), nil
}

func attrOfFlags(flags uint64) Attr {
	var a Attr
	for flag, attr := range map[uint64]Attr{
		unix.ST_RDONLY: ReadOnly, unix.ST_NOSUID: NoSuid, unix.ST_NODEV: NoDev, unix.ST_NOEXEC: NoExec,
		unix.ST_NODIRATIME: NoDirAtime, 0x2000: NoSymFollow,
	} {
		if flags&flag != 0 {
			a |= attr
		}
	}
	switch {
	case flags&unix.ST_NOATIME != 0:
		a |= NoAtime
	case flags&unix.ST_RELATIME == 0:
		a |= StrictAtime
	}
	return a
}

// setAttrLegacy changes the detached tree m by attaching it where nobody else
// looks, in a mount namespace of its own, and taking a copy: m's descriptor is
// that copy afterwards.
func setAttrLegacy(m *os.File, c Change) error {
	if c.UserNS != nil {
		return fmt.Errorf("id-mapped mount %s: kernel 5.12: %w", m.Name(), errors.ErrUnsupported)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with the goroutine
		done <- changeInPrivate(m, c)
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("change mount %s without mount_setattr: %w", m.Name(), err)
	}
	return nil
}

func changeInPrivate(m *os.File, c Change) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := SetPropagation("/", Private, true); err != nil {
		return err
	}
	if err := stage(m); err != nil {
		return err
	}
	if c.Set|c.Clear != 0 {
		if err := remount(place, c); err != nil {
			return err
		}
		if err := remountBelow(c); err != nil {
			return err
		}
	}
	if c.Propagation != 0 {
		if err := SetPropagation(place, c.Propagation, c.Recursive); err != nil {
			return err
		}
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, place, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Dup3(fd, int(m.Fd()), unix.O_CLOEXEC)
}

// place is where the tree is, in the working directory of the thread.
const place = "tree"

// stage attaches m in a tmpfs that becomes the thread's working directory.
func stage(m *os.File) error {
	fs, err := OpenFS("tmpfs")
	if err != nil {
		return err
	}
	defer fs.Close()
	top, err := fs.Mount(0)
	if err != nil {
		return err
	}
	defer top.Close()
	if err := MoveTo(top, "/"); err != nil {
		return err
	}
	if err := unix.Fchdir(int(top.Fd())); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(m.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = unix.Mkdir(place, 0o700)
	} else {
		err = unix.Mknod(place, unix.S_IFREG|0o600, 0)
	}
	if err != nil {
		return err
	}
	return MoveTo(m, place)
}

// remount changes the attributes of the mount at path, below the working
// directory.
func remount(path string, c Change) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	a := attrOfFlags(uint64(st.Flags))&^c.Clear | c.Set
	if err := unix.Mount("", path, "", uintptr(RemountFlags(a)), ""); err != nil {
		return &os.PathError{Op: "remount", Path: path, Err: err}
	}
	return nil
}

// remountBelow changes the mounts below the first one, if that is asked for,
// and checks that each has become read-only if it is to be that: a user of the
// tree may have moved a directory under the path that was looked up.
func remountBelow(c Change) error {
	if !c.Recursive {
		return nil
	}
	below, err := mountsBelow()
	if err != nil {
		return err
	}
	for path := range below {
		if err := remount(path, c); err != nil {
			return err
		}
	}
	if below, err = mountsBelow(); err != nil || c.Set&ReadOnly == 0 {
		return err
	}
	for path, readOnly := range below {
		if !readOnly {
			return fmt.Errorf("mount at %s is not read-only", path)
		}
	}
	return nil
}

// mountsBelow returns the mounts below the place, as paths from the working
// directory, and whether each is read-only.
func mountsBelow() (map[string]bool, error) {
	f, err := os.Open("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	found := map[string]bool{}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	s := bufio.NewScanner(f)
	for s.Scan() {
		// ID parent major:minor root mount-point options ...
		fields := strings.Fields(s.Text())
		if len(fields) > 5 && strings.HasPrefix(fields[4], "/"+place+"/") {
			found[unescape.Replace(fields[4][1:])] = fields[5] == "ro" || strings.HasPrefix(fields[5], "ro,")
		}
	}
	return found, s.Err()
}
