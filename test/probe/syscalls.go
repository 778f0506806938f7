package main

import (
	"errors"
	"fmt"
	"runtime/debug"
	"syscall"
	"unsafe"
)

func int80(nr, a, b uintptr) int32

type call struct {
	name string
	nr   uintptr
	args [6]uintptr
}

const cloneNewUser = 0x10000000

var (
	proc  = cstring("proc")
	slash = cstring("/")
	tmp   = cstring("/tmp")
	zeros [256]byte
	zero  = uintptr(unsafe.Pointer(&zeros[0]))
)

func cstring(s string) uintptr {
	b := append([]byte(s), 0)
	return uintptr(unsafe.Pointer(&b[0]))
}

// refused are calls that Docker's profile and capabilities refuse. Arguments
// are such that an allowed call does no harm; the answer to it then is not
// EPERM or ENOSYS.
func refused() []call {
	return []call{
		{"io_uring_setup", 425, [6]uintptr{1, zero}},
		{"io_uring_enter", 426, [6]uintptr{^uintptr(0)}},
		{"io_uring_register", 427, [6]uintptr{^uintptr(0)}},
		{"userfaultfd", 323, [6]uintptr{1}},
		{"bpf", 321, [6]uintptr{99, zero, 8}},
		{"perf_event_open", 298, [6]uintptr{zero, 0, ^uintptr(0), ^uintptr(0)}},
		{"keyctl", 250, [6]uintptr{0, ^uintptr(2)}},
		{"add_key", 248, [6]uintptr{slash, slash, 0, 0, ^uintptr(2)}},
		{"request_key", 249, [6]uintptr{slash, slash}},
		{"open_by_handle_at", 304, [6]uintptr{0, zero}},
		{"mount", 165, [6]uintptr{proc, tmp, proc}},
		{"remount", 165, [6]uintptr{0, slash, 0, 32}},
		{"umount2", 166, [6]uintptr{tmp}},
		{"pivot_root", 155, [6]uintptr{slash, slash}},
		{"open_tree", 428, [6]uintptr{^uintptr(99), slash, 1}},
		{"move_mount", 429, [6]uintptr{^uintptr(99), slash, ^uintptr(99), tmp}},
		{"fsopen", 430, [6]uintptr{proc}},
		{"fsconfig", 431, [6]uintptr{0}},
		{"fsmount", 432, [6]uintptr{0}},
		{"fspick", 433, [6]uintptr{^uintptr(99), slash}},
		{"mount_setattr", 442, [6]uintptr{^uintptr(99), slash, 0, zero, 32}},
		{"open_tree_attr", 467, [6]uintptr{^uintptr(99), slash, 1}},
		{"unshare mount", syscall.SYS_UNSHARE, [6]uintptr{syscall.CLONE_NEWNS}},
		{"unshare user", syscall.SYS_UNSHARE, [6]uintptr{cloneNewUser}},
		{"unshare net", syscall.SYS_UNSHARE, [6]uintptr{syscall.CLONE_NEWNET}},
		{"clone user", syscall.SYS_CLONE, [6]uintptr{cloneNewUser | syscall.CLONE_THREAD}}, // EINVAL if allowed
		{"clone3", 435, [6]uintptr{zero, 1}},
		{"setns", 308, [6]uintptr{0}},
		{"init_module", 175, [6]uintptr{zero, 0, slash}},
		{"finit_module", 313, [6]uintptr{0, slash}},
		{"delete_module", 176, [6]uintptr{slash}},
		{"kexec_load", 246, [6]uintptr{0, 999}},
		{"kexec_file_load", 320, [6]uintptr{0}},
		{"reboot", 169, [6]uintptr{0}},
		{"swapon", 167, [6]uintptr{slash}},
		{"swapoff", 168, [6]uintptr{slash}},
		{"acct", 163, [6]uintptr{slash}},
		{"settimeofday", 164, [6]uintptr{zero}},
		{"clock_settime", 227, [6]uintptr{99, zero}},
		{"quotactl", 179, [6]uintptr{0}},
		{"syslog", 103, [6]uintptr{3, zero, 10}},
		{"vhangup", 153, [6]uintptr{}},
		{"ioperm", 173, [6]uintptr{0, 1, 1}},
		{"iopl", 172, [6]uintptr{3}},
		{"lookup_dcookie", 212, [6]uintptr{}},
		{"move_pages", 279, [6]uintptr{1}},
		{"set_mempolicy", 238, [6]uintptr{99}},
		{"mbind", 237, [6]uintptr{0, 0, 99}},
		{"nfsservctl", 180, [6]uintptr{}},
		{"_sysctl", 156, [6]uintptr{}},
		{"sysfs", 139, [6]uintptr{3}},
		{"ustat", 136, [6]uintptr{1, zero}},
		{"uselib", 134, [6]uintptr{slash}},
		{"personality of another kind", 135, [6]uintptr{0x0040000}},
		{"socket AF_VSOCK", syscall.SYS_SOCKET, [6]uintptr{40, 1}},
		{"fanotify_init", 300, [6]uintptr{0}},
		{"setdomainname", 171, [6]uintptr{zero, 1}},
		{"sethostname", 170, [6]uintptr{zero, 0}},
		{"x32 getpid", 0x40000000 | 39, [6]uintptr{}},
		{"x32 mount", 0x40000000 | 165, [6]uintptr{proc, tmp, proc}},
		{"no such call", 1000, [6]uintptr{}},
	}
}

func (c call) do() syscall.Errno {
	_, _, e := syscall.RawSyscall6(c.nr, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
	return e
}

func isRefusal(e syscall.Errno) bool { return e == syscall.EPERM || e == syscall.ENOSYS }

func checkSyscalls() {
	for _, c := range refused() {
		if e := c.do(); !isRefusal(e) {
			hole("syscall", "%s answers %v", c.name, errnoText(e))
		}
	}
	checkOldDoor()
}

// checkOldDoor makes 32-bit calls, which have other numbers. A kernel without
// them answers with a fault.
func checkOldDoor() {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { _ = recover() }()
	for name, nr := range map[string]uintptr{"io_uring_setup": 425, "keyctl": 288, "mount": 21, "unshare": 310, "umount": 22, "bpf": 357, "fsopen": 430, "clone3": 435, "setns": 346} {
		arg := uintptr(0)
		if name == "unshare" {
			arg = cloneNewUser
		}
		if e := syscall.Errno(-int80(nr, arg, 0)); !isRefusal(e) {
			hole("syscall", "32-bit %s answers %v", name, errnoText(e))
		}
	}
}

func errnoText(e syscall.Errno) error {
	if e == 0 {
		return errors.New("success")
	}
	return fmt.Errorf("%d %w", int(e), e)
}
