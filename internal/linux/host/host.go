// Package host tells what machine and kernel this is.
package host

import (
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// KernelRelease is what `uname -r` prints.
func KernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// Memory is the machine's memory in bytes.
func Memory() int64 {
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) != nil {
		return 0
	}
	return int64(s.Totalram) * int64(s.Unit)
}

// OpenFiles is how many descriptors this process has.
func OpenFiles() int {
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(d) - 1 // the one for reading the directory
}

// BootID names this boot of the machine: what is known of processes and of
// kernel objects under another one means nothing.
var BootID = sync.OnceValues(func() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
})
