package mnt

import (
	"fmt"
	"os"
	"syscall"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

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
	var st, root unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		return fmt.Errorf("it is not a directory")
	}
	if in != nil {
		if err := unix.Fstat(int(in.Fd()), &root); err != nil {
			return os.NewSyscallError("fstat", err)
		}
		if st.Dev == root.Dev {
			return fmt.Errorf("it lies in this union itself")
		}
	}
	kind, err := pseudo(b, dir, st.Dev)
	if err != nil || kind == "" {
		return err
	}
	return fmt.Errorf("it is of a file system of the kernel (%s), whose files cannot be copied or made anew", kind)
}

// pseudo names the file system of a directory if its files stand for something in the
// kernel.
func pseudo(b union.Branch, dir *os.File, dev uint64) (string, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &fs); err != nil {
		return "", os.NewSyscallError("fstatfs", err)
	}
	kind := pseudos[uint32(fs.Type)]
	if kind != "" || fs.Type != unix.TMPFS_MAGIC || b.Perm == union.RR { // nobody takes devices for layers
		return kind, nil
	}
	// devtmpfs has the number of tmpfs.
	of := fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))
	list, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return m.FSType != "devtmpfs" || fmt.Sprintf("%d:%d", m.Major, m.Minor) != of, false
	})
	if err == nil && len(list) > 0 {
		kind = list[0].FSType
	}
	return kind, err
}

// pseudos are the file systems without files of their own, by their numbers.
var pseudos = map[uint32]string{
	unix.PROC_SUPER_MAGIC: "proc", unix.SYSFS_MAGIC: "sysfs", unix.DEVPTS_SUPER_MAGIC: "devpts", unix.CGROUP_SUPER_MAGIC: "cgroup",
	unix.CGROUP2_SUPER_MAGIC: "cgroup2", unix.DEBUGFS_MAGIC: "debugfs", unix.TRACEFS_MAGIC: "tracefs", unix.SECURITYFS_MAGIC: "securityfs",
	unix.BPF_FS_MAGIC: "bpf", unix.PSTOREFS_MAGIC: "pstore", unix.SELINUX_MAGIC: "selinuxfs", unix.SMACK_MAGIC: "smackfs",
	unix.EFIVARFS_MAGIC: "efivarfs", unix.BINFMTFS_MAGIC: "binfmt_misc", unix.NSFS_MAGIC: "nsfs", unix.HUGETLBFS_MAGIC: "hugetlbfs",
	unix.AUTOFS_SUPER_MAGIC: "autofs", unix.RDTGROUP_SUPER_MAGIC: "resctrl", unix.SOCKFS_MAGIC: "sockfs",
	0x19800202: "mqueue", 0x62656570: "configfs", 0x67596969: "rpc_pipefs", 0x65735543: "fusectl",
}
