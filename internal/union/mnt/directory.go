package mnt

import (
	"fmt"
	"os"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/union"
)

func cloneAll(list []union.Branch, ids IDs) ([]*os.File, error) {
	var dirs []*os.File
	for i, b := range list {
		var ns *os.File
		if i >= ids.From {
			ns = ids.NS
		}
		d, err := clone(b, ns, nil)
		if err != nil {
			return dirs, err
		}
		dirs = append(dirs, d)
	}
	return dirs, nil
}

// clone opens a branch by a mount of its own. ns maps its ids, or is nil; in is the
// root of the union that it is for, if that is mounted already.
func clone(b union.Branch, ns, in *os.File) (*os.File, error) {
	dir, err := os.OpenFile(b.Dir, oPath|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("branch %w", err)
	}
	defer dir.Close()
	if err := suits(b, dir, in); err != nil {
		return nil, fmt.Errorf("branch %s: %w", b.Dir, err)
	}
	m, err := mount.CloneOf(dir, false)
	if err != nil {
		return nil, fmt.Errorf("branch %s: %w", b.Dir, err)
	}
	change := mount.Change{Propagation: mount.Private, UserNS: ns}
	if b.Perm != union.RW {
		change.Clear, change.Set = mount.AtimeMask, mount.ReadOnly|mount.NoAtime
	}
	if err := mount.SetAttr(m, change); err != nil {
		m.Close()
		return nil, fmt.Errorf("branch %s: %w", b.Dir, err)
	}
	return m, nil
}

// suits refuses what cannot be a branch: what is no directory, what lies in the union
// itself, and where files are not what they seem.
func suits(b union.Branch, dir, in *os.File) error {
	var st, root syscall.Stat_t
	if err := syscall.Fstat(int(dir.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		return fmt.Errorf("it is not a directory")
	}
	if in != nil {
		if err := syscall.Fstat(int(in.Fd()), &root); err != nil {
			return os.NewSyscallError("fstat", err)
		}
		if st.Dev == root.Dev {
			return fmt.Errorf("it lies in this union itself")
		}
	}
	kind, err := mount.KernelFS(dir, b.Perm != union.RR) // nobody takes devices for layers
	if err != nil || kind == "" {
		return err
	}
	return fmt.Errorf("it is of a file system of the kernel (%s), whose files cannot be copied or made anew", kind)
}
