// Package alone takes from a process what it does not need: other people's
// files, networks and the capabilities of root.
//
// The process is started in Namespaces. Then it calls Root and Capabilities; both
// hold for all of its threads. What it needs of files it has open before. One that is
// about to become a program of the host calls RootFor, with the files of that, and As.
package alone

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Namespaces are the flags of clone(2) with which the process is started.
const Namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// Capabilities that can be kept.
const (
	Chown       = unix.CAP_CHOWN
	DACOverride = unix.CAP_DAC_OVERRIDE
	FOwner      = unix.CAP_FOWNER
	FSetID      = unix.CAP_FSETID
	Mknod       = unix.CAP_MKNOD
	SetFCap     = unix.CAP_SETFCAP
	SysAdmin    = unix.CAP_SYS_ADMIN
)

// Root gives the process a root directory of its own, read-only, in which there
// is nothing but /proc/self/fd, which leads to its own descriptors.
func Root() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	fds, err := unix.OpenTree(unix.AT_FDCWD, "/proc/self/fd", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("clone /proc/self/fd: %w", err)
	}
	defer unix.Close(fds)
	// Any directory will do to mount the new root on, until it is the root.
	const place = "/proc"
	if err := unix.Mount("tmpfs", place, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0555,size=64k"); err != nil {
		return fmt.Errorf("mount the new root: %w", err)
	}
	dir := place + "/proc/self/fd"
	if err := os.MkdirAll(dir, 0o555); err != nil {
		return err
	}
	if err := unix.MoveMount(fds, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	return pivot(place)
}

// Descriptors makes /proc/self/fd lead to this process's descriptors, in a root that
// another process has made with Root. It can be called again after a process was killed
// in it.
func Descriptors() error {
	if err := unmountAll("/proc"); err != nil {
		return err
	}
	fs, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("fsopen proc: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return fmt.Errorf("make procfs: %w", err)
	}
	m, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return fmt.Errorf("mount procfs: %w", err)
	}
	defer unix.Close(m)
	if err := unix.MoveMount(m, "", unix.AT_FDCWD, "/proc", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	fds, err := unix.OpenTree(unix.AT_FDCWD, "/proc/self/fd", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if e := unix.Unmount("/proc", unix.MNT_DETACH); e != nil || err != nil {
		return fmt.Errorf("clone /proc/self/fd: %w", errors.Join(err, e))
	}
	defer unix.Close(fds)
	if err := unmountAll("/proc/self/fd"); err != nil {
		return err
	}
	if err := unix.MoveMount(fds, "", unix.AT_FDCWD, "/proc/self/fd", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount /proc/self/fd: %w", err)
	}
	return nil
}

// unmountAll unmounts what is mounted at a place, one above the other.
func unmountAll(place string) error {
	for {
		switch err := unix.Unmount(place, unix.MNT_DETACH); err {
		case nil:
		case unix.EINVAL: // it is no mount point
			return nil
		default:
			return fmt.Errorf("unmount %s: %w", place, err)
		}
	}
}

func pivot(place string) error {
	if err := unix.Chdir(place); err != nil {
		return fmt.Errorf("chdir %s: %w", place, err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("chdir /: %w", err)
	}
	err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if err != nil {
		return fmt.Errorf("make the root read-only: %w", err)
	}
	return nil
}

// Capabilities takes all capabilities but those from all threads, for good.
func Capabilities(keep ...int) error {
	var set [2]unix.CapUserData
	kept := map[int]bool{}
	for _, c := range keep {
		set[c/32].Permitted |= 1 << (c % 32)
		set[c/32].Effective |= 1 << (c % 32)
		kept[c] = true
	}
	for c := 0; c <= 63; c++ {
		if kept[c] {
			continue
		}
		if err := all(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c), 0); err != nil && err != unix.EINVAL { // EINVAL: the kernel has no such
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	if err := all(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := all(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&set[0])), 0); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return nil
}

// all makes a call on every thread.
func all(no, a, b, c uintptr) error {
	if _, _, err := syscall.AllThreadsSyscall(no, a, b, c); err != 0 {
		return err
	}
	return nil
}

// CloseOnExec keeps programs that are started from now on from inheriting what
// this one has open or has inherited, but for standard input, output and error.
func CloseOnExec() error {
	err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC)
	if err != unix.ENOSYS && err != unix.EINVAL {
		return err
	}
	// Kernels before 5.11.
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range fds {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}
