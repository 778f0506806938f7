package confine

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// minLandlock is the first ABI that can allow links and renames between
// directories (LANDLOCK_ACCESS_FS_REFER).
const minLandlock = 2

// Landlock returns the version of the kernel's Landlock ABI, 0 if it has none
// or it is switched off.
var Landlock = sync.OnceValue(func() int {
	if os.Getenv("TARE_PROBE") == "5.10" {
		return 0
	}
	n, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(n)
})

// Rights on files by ABI: 14 up to the second, truncation since 3, ioctls of
// devices since 5.
const (
	fsRights2 = 1<<14 - 1
	fsRights3 = fsRights2 | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	fsRights5 = fsRights3 | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV

	// What nobody needs who unpacks files.
	fsNever = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// restrict puts the thread into a Landlock domain: files below dir only, no
// TCP (ABI 4), no abstract sockets of others (ABI 6). Signals stay possible:
// the Go runtime sends them between threads, which kernels before 6.15 count as
// leaving the domain.
func restrict(dir *os.File) error {
	abi := Landlock()
	a := unix.LandlockRulesetAttr{Handled_access_fs: fsRights2}
	if abi >= 3 {
		a.Handled_access_fs = fsRights3
	}
	if abi >= 5 {
		a.Handled_access_fs = fsRights5
	}
	size := unsafe.Offsetof(a.Handled_access_net)
	if abi >= 4 {
		a.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
		size = unsafe.Offsetof(a.Scoped)
	}
	if abi >= 6 {
		a.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
		size = unsafe.Offsetof(a.Quiet_access_fs)
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&a)), size, 0)
	if errno != 0 {
		return fmt.Errorf("landlock ruleset: %w", errno)
	}
	defer unix.Close(int(fd))
	below := unix.LandlockPathBeneathAttr{Allowed_access: a.Handled_access_fs &^ fsNever, Parent_fd: int32(dir.Fd())}
	_, _, errno = unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, fd, unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&below)), 0, 0, 0)
	runtime.KeepAlive(dir)
	if errno != 0 {
		return fmt.Errorf("landlock rule for %s: %w", dir.Name(), errno)
	}
	if _, _, errno = unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return fmt.Errorf("landlock domain: %w", errno)
	}
	return nil
}
