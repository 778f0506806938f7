package spawn

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// System call numbers for plans, so that builders need not know the kernel's
// headers.
const (
	SysAccess                uintptr = unix.SYS_ACCESS
	SysBind                  uintptr = unix.SYS_BIND
	SysCapset                uintptr = unix.SYS_CAPSET
	SysChdir                 uintptr = unix.SYS_CHDIR
	SysChmod                 uintptr = unix.SYS_CHMOD
	SysChown                 uintptr = unix.SYS_CHOWN
	SysChroot                uintptr = unix.SYS_CHROOT
	SysClone                 uintptr = unix.SYS_CLONE
	SysClone3                uintptr = unix.SYS_CLONE3
	SysClose                 uintptr = unix.SYS_CLOSE
	SysCloseRange            uintptr = unix.SYS_CLOSE_RANGE
	SysDup                   uintptr = unix.SYS_DUP
	SysDup2                  uintptr = unix.SYS_DUP2
	SysDup3                  uintptr = unix.SYS_DUP3
	SysExecve                uintptr = unix.SYS_EXECVE
	SysExecveat              uintptr = unix.SYS_EXECVEAT
	SysExitGroup             uintptr = unix.SYS_EXIT_GROUP
	SysFaccessat             uintptr = unix.SYS_FACCESSAT
	SysFchdir                uintptr = unix.SYS_FCHDIR
	SysFchmod                uintptr = unix.SYS_FCHMOD
	SysFchown                uintptr = unix.SYS_FCHOWN
	SysFchownat              uintptr = unix.SYS_FCHOWNAT
	SysFcntl                 uintptr = unix.SYS_FCNTL
	SysFsconfig              uintptr = unix.SYS_FSCONFIG
	SysFsmount               uintptr = unix.SYS_FSMOUNT
	SysFsopen                uintptr = unix.SYS_FSOPEN
	SysFspick                uintptr = unix.SYS_FSPICK
	SysFstat                 uintptr = unix.SYS_FSTAT
	SysFstatfs               uintptr = unix.SYS_FSTATFS
	SysFtruncate             uintptr = unix.SYS_FTRUNCATE
	SysGetpid                uintptr = unix.SYS_GETPID
	SysGetppid               uintptr = unix.SYS_GETPPID
	SysGettid                uintptr = unix.SYS_GETTID
	SysIoctl                 uintptr = unix.SYS_IOCTL
	SysIoprioSet             uintptr = unix.SYS_IOPRIO_SET
	SysKeyctl                uintptr = unix.SYS_KEYCTL
	SysKill                  uintptr = unix.SYS_KILL
	SysLandlockAddRule       uintptr = unix.SYS_LANDLOCK_ADD_RULE
	SysLandlockCreateRuleset uintptr = unix.SYS_LANDLOCK_CREATE_RULESET
	SysLandlockRestrictSelf  uintptr = unix.SYS_LANDLOCK_RESTRICT_SELF
	SysLchown                uintptr = unix.SYS_LCHOWN
	SysLinkat                uintptr = unix.SYS_LINKAT
	SysLseek                 uintptr = unix.SYS_LSEEK
	SysMadvise               uintptr = unix.SYS_MADVISE
	SysMemfdCreate           uintptr = unix.SYS_MEMFD_CREATE
	SysMkdir                 uintptr = unix.SYS_MKDIR
	SysMkdirat               uintptr = unix.SYS_MKDIRAT
	SysMknod                 uintptr = unix.SYS_MKNOD
	SysMknodat               uintptr = unix.SYS_MKNODAT
	SysMlockall              uintptr = unix.SYS_MLOCKALL
	SysMmap                  uintptr = unix.SYS_MMAP
	SysMount                 uintptr = unix.SYS_MOUNT
	SysMountSetattr          uintptr = unix.SYS_MOUNT_SETATTR
	SysMoveMount             uintptr = unix.SYS_MOVE_MOUNT
	SysMremap                uintptr = unix.SYS_MREMAP
	SysMunmap                uintptr = unix.SYS_MUNMAP
	SysNewfstatat            uintptr = unix.SYS_NEWFSTATAT
	SysOpen                  uintptr = unix.SYS_OPEN
	SysOpenTree              uintptr = unix.SYS_OPEN_TREE
	SysOpenat                uintptr = unix.SYS_OPENAT
	SysOpenat2               uintptr = unix.SYS_OPENAT2
	SysPersonality           uintptr = unix.SYS_PERSONALITY
	SysPidfdOpen             uintptr = unix.SYS_PIDFD_OPEN
	SysPidfdSendSignal       uintptr = unix.SYS_PIDFD_SEND_SIGNAL
	SysPivotRoot             uintptr = unix.SYS_PIVOT_ROOT
	SysPoll                  uintptr = unix.SYS_POLL
	SysPpoll                 uintptr = unix.SYS_PPOLL
	SysPrctl                 uintptr = unix.SYS_PRCTL
	SysPrlimit64             uintptr = unix.SYS_PRLIMIT64
	SysRead                  uintptr = unix.SYS_READ
	SysRecvmsg               uintptr = unix.SYS_RECVMSG
	SysRename                uintptr = unix.SYS_RENAME
	SysRtSigaction           uintptr = unix.SYS_RT_SIGACTION
	SysRtSigprocmask         uintptr = unix.SYS_RT_SIGPROCMASK
	SysSchedSetaffinity      uintptr = unix.SYS_SCHED_SETAFFINITY
	SysSchedSetattr          uintptr = unix.SYS_SCHED_SETATTR
	SysSchedSetscheduler     uintptr = unix.SYS_SCHED_SETSCHEDULER
	SysSeccomp               uintptr = unix.SYS_SECCOMP
	SysSendmsg               uintptr = unix.SYS_SENDMSG
	SysSendto                uintptr = unix.SYS_SENDTO
	SysSetMempolicy          uintptr = unix.SYS_SET_MEMPOLICY
	SysSetTidAddress         uintptr = unix.SYS_SET_TID_ADDRESS
	SysSetdomainname         uintptr = unix.SYS_SETDOMAINNAME
	SysSetgroups             uintptr = unix.SYS_SETGROUPS
	SysSethostname           uintptr = unix.SYS_SETHOSTNAME
	SysSetns                 uintptr = unix.SYS_SETNS
	SysSetpgid               uintptr = unix.SYS_SETPGID
	SysSetpriority           uintptr = unix.SYS_SETPRIORITY
	SysSetresgid             uintptr = unix.SYS_SETRESGID
	SysSetresuid             uintptr = unix.SYS_SETRESUID
	SysSetsid                uintptr = unix.SYS_SETSID
	SysSetxattr              uintptr = unix.SYS_SETXATTR
	SysSigaltstack           uintptr = unix.SYS_SIGALTSTACK
	SysSocket                uintptr = unix.SYS_SOCKET
	SysStatfs                uintptr = unix.SYS_STATFS
	SysSymlink               uintptr = unix.SYS_SYMLINK
	SysSymlinkat             uintptr = unix.SYS_SYMLINKAT
	SysUmask                 uintptr = unix.SYS_UMASK
	SysUmount2               uintptr = unix.SYS_UMOUNT2
	SysUnlinkat              uintptr = unix.SYS_UNLINKAT
	SysUnshare               uintptr = unix.SYS_UNSHARE
	SysWrite                 uintptr = unix.SYS_WRITE
)

var sysNames = map[uintptr]string{
	SysAccess:                "access",
	SysBind:                  "bind",
	SysCapset:                "capset",
	SysChdir:                 "chdir",
	SysChmod:                 "chmod",
	SysChown:                 "chown",
	SysChroot:                "chroot",
	SysClone:                 "clone",
	SysClone3:                "clone3",
	SysClose:                 "close",
	SysCloseRange:            "close_range",
	SysDup:                   "dup",
	SysDup2:                  "dup2",
	SysDup3:                  "dup3",
	SysExecve:                "execve",
	SysExecveat:              "execveat",
	SysExitGroup:             "exit_group",
	SysFaccessat:             "faccessat",
	SysFchdir:                "fchdir",
	SysFchmod:                "fchmod",
	SysFchown:                "fchown",
	SysFchownat:              "fchownat",
	SysFcntl:                 "fcntl",
	SysFsconfig:              "fsconfig",
	SysFsmount:               "fsmount",
	SysFsopen:                "fsopen",
	SysFspick:                "fspick",
	SysFstat:                 "fstat",
	SysFstatfs:               "fstatfs",
	SysFtruncate:             "ftruncate",
	SysGetpid:                "getpid",
	SysGetppid:               "getppid",
	SysGettid:                "gettid",
	SysIoctl:                 "ioctl",
	SysIoprioSet:             "ioprio_set",
	SysKeyctl:                "keyctl",
	SysKill:                  "kill",
	SysLandlockAddRule:       "landlock_add_rule",
	SysLandlockCreateRuleset: "landlock_create_ruleset",
	SysLandlockRestrictSelf:  "landlock_restrict_self",
	SysLchown:                "lchown",
	SysLinkat:                "linkat",
	SysLseek:                 "lseek",
	SysMadvise:               "madvise",
	SysMemfdCreate:           "memfd_create",
	SysMkdir:                 "mkdir",
	SysMkdirat:               "mkdirat",
	SysMknod:                 "mknod",
	SysMknodat:               "mknodat",
	SysMlockall:              "mlockall",
	SysMmap:                  "mmap",
	SysMount:                 "mount",
	SysMountSetattr:          "mount_setattr",
	SysMoveMount:             "move_mount",
	SysMremap:                "mremap",
	SysMunmap:                "munmap",
	SysNewfstatat:            "newfstatat",
	SysOpen:                  "open",
	SysOpenTree:              "open_tree",
	SysOpenat:                "openat",
	SysOpenat2:               "openat2",
	SysPersonality:           "personality",
	SysPidfdOpen:             "pidfd_open",
	SysPidfdSendSignal:       "pidfd_send_signal",
	SysPivotRoot:             "pivot_root",
	SysPoll:                  "poll",
	SysPpoll:                 "ppoll",
	SysPrctl:                 "prctl",
	SysPrlimit64:             "prlimit64",
	SysRead:                  "read",
	SysRecvmsg:               "recvmsg",
	SysRename:                "rename",
	SysRtSigaction:           "rt_sigaction",
	SysRtSigprocmask:         "rt_sigprocmask",
	SysSchedSetaffinity:      "sched_setaffinity",
	SysSchedSetattr:          "sched_setattr",
	SysSchedSetscheduler:     "sched_setscheduler",
	SysSeccomp:               "seccomp",
	SysSendmsg:               "sendmsg",
	SysSendto:                "sendto",
	SysSetMempolicy:          "set_mempolicy",
	SysSetTidAddress:         "set_tid_address",
	SysSetdomainname:         "setdomainname",
	SysSetgroups:             "setgroups",
	SysSethostname:           "sethostname",
	SysSetns:                 "setns",
	SysSetpgid:               "setpgid",
	SysSetpriority:           "setpriority",
	SysSetresgid:             "setresgid",
	SysSetresuid:             "setresuid",
	SysSetsid:                "setsid",
	SysSetxattr:              "setxattr",
	SysSigaltstack:           "sigaltstack",
	SysSocket:                "socket",
	SysStatfs:                "statfs",
	SysSymlink:               "symlink",
	SysSymlinkat:             "symlinkat",
	SysUmask:                 "umask",
	SysUmount2:               "umount2",
	SysUnlinkat:              "unlinkat",
	SysUnshare:               "unshare",
	SysWrite:                 "write",
	NrSwitch:                 "(switch)",
	NrStore:                  "(store)",
	NrNotFound:               "(not found)",
	nrCopy:                   "(copy)",
	nrMove:                   "(move)",
}

func sysName(nr uint64) string {
	if n, ok := sysNames[uintptr(nr)]; ok {
		return n
	}
	return fmt.Sprintf("syscall_%d", int64(nr))
}
