package mount

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// KernelFS names the file system of a directory if its files are no files, but stand for
// something in the kernel. Devtmpfs is one only if devices are to be looked for, which
// takes a look at all mounts.
func KernelFS(dir *os.File, devices bool) (string, error) {
	var fs unix.Statfs_t
	err := unix.Fstatfs(int(dir.Fd()), &fs)
	runtime.KeepAlive(dir)
	if err != nil {
		return "", &os.PathError{Op: "fstatfs", Path: dir.Name(), Err: err}
	}
	if name := kernelFS[uint32(fs.Type)]; name != "" || fs.Type != unix.TMPFS_MAGIC || !devices {
		return name, nil
	}
	return devtmpfs(dir) // which has the number of tmpfs
}

func devtmpfs(dir *os.File) (string, error) {
	id, err := idOf(dir)
	if err != nil {
		return "", err
	}
	host, err := proc()
	if err != nil {
		return "", err
	}
	list, err := mounts(host)
	for _, m := range list {
		if m.id == id && m.fstype == "devtmpfs" {
			return m.fstype, nil
		}
	}
	return "", err
}

// kernelFS are the file systems without files of their own, by their numbers.
var kernelFS = map[uint32]string{
	unix.PROC_SUPER_MAGIC: "proc", unix.SYSFS_MAGIC: "sysfs", unix.DEVPTS_SUPER_MAGIC: "devpts", unix.CGROUP_SUPER_MAGIC: "cgroup",
	unix.CGROUP2_SUPER_MAGIC: "cgroup2", unix.DEBUGFS_MAGIC: "debugfs", unix.TRACEFS_MAGIC: "tracefs", unix.SECURITYFS_MAGIC: "securityfs",
	unix.BPF_FS_MAGIC: "bpf", unix.PSTOREFS_MAGIC: "pstore", unix.SELINUX_MAGIC: "selinuxfs", unix.SMACK_MAGIC: "smackfs",
	unix.EFIVARFS_MAGIC: "efivarfs", unix.BINFMTFS_MAGIC: "binfmt_misc", unix.NSFS_MAGIC: "nsfs", unix.HUGETLBFS_MAGIC: "hugetlbfs",
	unix.AUTOFS_SUPER_MAGIC: "autofs", unix.RDTGROUP_SUPER_MAGIC: "resctrl", unix.SOCKFS_MAGIC: "sockfs",
	0x19800202: "mqueue", 0x62656570: "configfs", 0x67596969: "rpc_pipefs", 0x65735543: "fusectl",
}
