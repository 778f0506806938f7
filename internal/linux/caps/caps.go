// Package caps knows the names and numbers of capabilities and packs sets of
// them as the kernel takes them.
package caps

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Set is a set of capabilities: bit n stands for number n.
type Set uint64

// names in the order of their numbers.
var names = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
	LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
	SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
	AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON
	BPF CHECKPOINT_RESTORE`)

// SysAdmin may install a seccomp filter without no_new_privs.
const SysAdmin = Set(1) << unix.CAP_SYS_ADMIN

var numbers = sync.OnceValue(func() map[string]uint {
	m := make(map[string]uint, len(names))
	for i, n := range names {
		m["CAP_"+n] = uint(i)
	}
	return m
})

// Of returns the set of the named capabilities ("CAP_CHOWN").
func Of(list []string) (Set, error) {
	var s Set
	m := numbers()
	for _, n := range list {
		i, ok := m[n]
		if !ok {
			return 0, fmt.Errorf("unknown capability %q", n)
		}
		s |= 1 << i
	}
	return s, nil
}

// Names returns the names of the set's members, ascending by number.
func (s Set) Names() []string {
	out := make([]string, 0, bits.OnesCount64(uint64(s)))
	for i, n := range names {
		if s&(1<<i) != 0 {
			out = append(out, "CAP_"+n)
		}
	}
	return out
}

// Last is the highest capability of the running kernel.
var Last = sync.OnceValue(func() int {
	b, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && n > 0 && n < 64 {
			return n
		}
	}
	return len(names) - 1
})

// Available is the set of capabilities that a child of this process can have:
// its bounding set. In a container or a small machine some may be missing.
var Available = sync.OnceValue(func() Set {
	var s Set
	for i := range Last() + 1 {
		if n, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(i), 0, 0, 0); err == nil && n == 1 {
			s |= 1 << i
		}
	}
	return s
})

// Supported returns the names of the available capabilities.
func Supported() []string { return Available().Names() }

// Header is the first argument of the capset call: version 3, this thread.
func Header() []byte {
	return binary.LittleEndian.AppendUint64(nil, unix.LINUX_CAPABILITY_VERSION_3)
}

// Data is the second argument of the capset call.
func Data(effective, permitted, inheritable Set) []byte {
	b := make([]byte, 0, 24)
	for shift := 0; shift <= 32; shift += 32 {
		for _, s := range []Set{effective, permitted, inheritable} {
			b = binary.LittleEndian.AppendUint32(b, uint32(s>>shift))
		}
	}
	return b
}

// Commands of prctl about capabilities.
const (
	DropBounding = unix.PR_CAPBSET_DROP
	KeepCaps     = unix.PR_SET_KEEPCAPS
	Ambient      = unix.PR_CAP_AMBIENT
	AmbientClear = unix.PR_CAP_AMBIENT_CLEAR_ALL
	AmbientRaise = unix.PR_CAP_AMBIENT_RAISE
	NoNewPrivs   = unix.PR_SET_NO_NEW_PRIVS
)
