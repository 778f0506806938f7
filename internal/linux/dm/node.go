package dm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// NodeMode is the owner and mode of nodes. Without a mode they are root's alone.
type NodeMode struct {
	UID, GID int
	Mode     uint32
}

// nodes is the directory of block devices by name.
type nodes struct {
	dir  *os.File
	mode NodeMode
}

func openNodes(dir string, mode NodeMode) (*nodes, error) {
	if mode.Mode == 0 {
		mode.Mode = 0o600
	}
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return &nodes{f, mode}, nil
}

func (n *nodes) Close() error { return n.dir.Close() }

func (n *nodes) fd() int { return int(n.dir.Fd()) }

func (n *nodes) wrap(op, name string, err error) error {
	return &os.PathError{Op: op, Path: filepath.Join(n.dir.Name(), name), Err: err}
}

// add makes a node, if there is none that leads to the device.
func (n *nodes) add(name string, d Dev) error {
	if err := CheckName(name); err != nil {
		return err
	}
	var st unix.Stat_t
	switch err := unix.Fstatat(n.fd(), name, &st, 0); {
	case err == nil && st.Mode&unix.S_IFMT != unix.S_IFBLK:
		return n.wrap("mknod", name, fmt.Errorf("something that is no block device is there: %w", os.ErrExist))
	case err == nil && st.Rdev == d.encode():
		return nil
	}
	if err := n.remove(name); err != nil {
		return err
	}
	err := unix.Mknodat(n.fd(), name, unix.S_IFBLK|0o600, int(d.encode()))
	if err == unix.EEXIST { // somebody was faster
		return nil
	}
	if err != nil {
		return n.wrap("mknod", name, err)
	}
	if err := unix.Fchownat(n.fd(), name, n.mode.UID, n.mode.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return n.wrap("chown", name, err)
	}
	if err := unix.Fchmodat(n.fd(), name, n.mode.Mode, 0); err != nil {
		return n.wrap("chmod", name, err)
	}
	return nil
}

// remove takes a node away, or a link to one.
func (n *nodes) remove(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if err := unix.Unlinkat(n.fd(), name, 0); err != nil && err != unix.ENOENT {
		return n.wrap("remove", name, err)
	}
	return nil
}

// list has the names of all nodes but the control device's.
func (n *nodes) list() ([]string, error) {
	if _, err := n.dir.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	all, err := n.dir.Readdirnames(-1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	names := all[:0]
	for _, name := range all {
		if name != controlName {
			names = append(names, name)
		}
	}
	return names, nil
}
