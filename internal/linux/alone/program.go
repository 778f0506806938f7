package alone

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Placed is a mount that is attached nowhere yet, and the path that it is for.
type Placed struct {
	Path  string
	Mount *os.File
}

// RootFor gives the calling thread, which is about to execute a program and is locked to
// its goroutine, mounts and IPC of its own: a root directory, read-only, in which there
// are these places and an empty /tmp. The working directory stays where it is if it is in
// one of them. passwd is what /etc/passwd says.
func RootFor(places []Placed, passwd string) error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWIPC); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	const at = "/proc" // any directory will do, until it is the root
	if err := unix.Mount("tmpfs", at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=1m"); err != nil {
		return fmt.Errorf("mount the new root: %w", err)
	}
	for _, name := range []string{"etc", "tmp"} {
		if err := os.Mkdir(filepath.Join(at, name), 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("tmpfs", at+"/tmp", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777,size=64m"); err != nil {
		return fmt.Errorf("mount /tmp: %w", err)
	}
	if err := os.WriteFile(filepath.Join(at, "etc/passwd"), []byte(passwd), 0o644); err != nil {
		return err
	}
	for _, p := range places {
		if err := put(p.Mount, filepath.Join(at, p.Path)); err != nil {
			return fmt.Errorf("mount %s: %w", p.Path, err)
		}
	}
	if err := pivot(at); err != nil {
		return err
	}
	if unix.Chdir(dir) == nil {
		return nil
	}
	return unix.Chdir("/")
}

// put mounts m at a path that may have to be made.
func put(m *os.File, path string) error {
	st, err := m.Stat()
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); err == nil { // it lies in a place that is there already
		return moveTo(m, path)
	}
	dir := path
	if !st.IsDir() {
		dir = filepath.Dir(path)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if !st.IsDir() {
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			return err
		}
	}
	return moveTo(m, path)
}

func moveTo(m *os.File, path string) error {
	return unix.MoveMount(int(m.Fd()), "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// As makes the process one of this user and group, of no other group and without
// capabilities, for good. It ends with its parent, as it was to before.
func As(id int) error {
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := syscall.Setresgid(id, id, id); err != nil {
		return fmt.Errorf("setresgid: %w", err)
	}
	if err := syscall.Setresuid(id, id, id); err != nil {
		return fmt.Errorf("setresuid: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0) // forgotten with the ids
}
