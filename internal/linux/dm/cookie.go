package dm

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Cookie is how udev says that it is done: a System V semaphore whose key goes with
// each change to udev's rules, which run `dmsetup udevcomplete KEY` at their end.
//
//	NewCookie    1, for the one who waits
//	a change     +1
//	udev is done -1
//	Wait         -1, then it waits for 0 and removes the semaphore
//
// The upper half of the key is the same for all; in the event it is replaced by flags.
type Cookie uint32

const (
	cookieMagic = 0x0d4d
	cookieMask  = 0xffff
)

// ParseCookie reads a cookie as programs print it: decimal, hexadecimal or octal.
func ParseCookie(s string) (Cookie, error) {
	n, err := strconv.ParseUint(s, 0, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no cookie", s)
	}
	return Cookie(n), nil
}

// FromEvent is the cookie that an event of udev is about, whose value has flags in
// its upper half; 0 if nobody waits for it.
func (k Cookie) FromEvent() Cookie {
	if k &= cookieMask; k != 0 {
		k |= cookieMagic << udevFlagsShift
	}
	return k
}

func (k Cookie) String() string { return fmt.Sprintf("0x%08X", uint32(k)) }

// Operations of semctl(2).
const (
	ipcRemove = 0
	getValue  = 12
	setValue  = 16
)

// NewCookie makes a semaphore that no other has the key of.
func NewCookie() (Cookie, error) {
	for {
		var b [2]byte
		rand.Read(b[:])
		k := Cookie(binary.NativeEndian.Uint16(b[:])).FromEvent()
		if k == 0 {
			continue
		}
		id, err := semget(k, unix.IPC_CREAT|unix.IPC_EXCL|0o600)
		switch {
		case err == unix.EEXIST:
			continue
		case err == unix.ENOSPC:
			return 0, fmt.Errorf("make a cookie: %w: all semaphores that /proc/sys/kernel/sem allows are in use", err)
		case err != nil:
			return 0, fmt.Errorf("make a cookie: %w", err)
		}
		if _, err := semctl(id, setValue, 1); err != nil {
			return 0, joined(k.wrap("set", err), k.Destroy())
		}
		return k, nil
	}
}

func (k Cookie) wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s cookie %s: %w", op, k, err)
}

// id is that of the semaphore.
func (k Cookie) id() (int, error) {
	if k>>udevFlagsShift != cookieMagic {
		return 0, errors.New("it does not begin with 0x0D4D")
	}
	return semget(k, 0)
}

// add counts a change.
func (k Cookie) add() error {
	id, err := k.id()
	if err == nil {
		err = semop(id, 1, 0, nil)
	}
	return k.wrap("count up", err)
}

// Complete tells the one who waits that one change is done.
func (k Cookie) Complete() error {
	id, err := k.id()
	if err == nil {
		err = semop(id, -1, unix.IPC_NOWAIT, nil)
	}
	return k.wrap("complete", err)
}

// Destroy removes the semaphore. Who waits for it goes on.
func (k Cookie) Destroy() error {
	id, err := k.id()
	if err == nil {
		_, err = semctl(id, ipcRemove, 0)
	}
	return k.wrap("remove", err)
}

// look is how often Wait looks whether udev is still there.
var look = unix.Timespec{Sec: 1}

// Wait waits until all changes are done, and removes the semaphore. It does not wait
// for a udev that has ended.
func (k Cookie) Wait() error {
	id, err := k.id()
	if err == nil {
		err = semop(id, -1, unix.IPC_NOWAIT, nil)
	}
	if err != nil {
		return k.wrap("wait for", err)
	}
	for {
		err := semop(id, 0, 0, &look)
		switch {
		case err == unix.EIDRM || err == unix.EINVAL: // somebody has removed it
			return nil
		case err == unix.EAGAIN && UdevRuns():
		case err == nil || err == unix.EAGAIN:
			return k.Destroy()
		default:
			return joined(k.wrap("wait for", err), k.Destroy())
		}
	}
}

// Semaphore is the state of a cookie.
type Semaphore struct {
	Cookie          Cookie
	ID, Value       int
	LastOp, Changed time.Time // LastOp is 0 seconds after 1970 if there was none
}

// Cookies lists the cookies of all programs.
func Cookies() ([]Semaphore, error) {
	f, err := os.Open("/proc/sysvipc/sem")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []Semaphore
	for s := bufio.NewScanner(f); s.Scan(); err = s.Err() {
		w := strings.Fields(s.Text()) // key semid perms nsems uid gid cuid cgid otime ctime
		if len(w) < 10 {
			continue
		}
		key, keyErr := strconv.ParseInt(w[0], 10, 64)
		k := Cookie(uint32(key))
		if keyErr != nil || k>>udevFlagsShift != cookieMagic {
			continue
		}
		id, _ := strconv.Atoi(w[1])
		op, _ := strconv.ParseInt(w[8], 10, 64)
		change, _ := strconv.ParseInt(w[9], 10, 64)
		value, valueErr := semctl(id, getValue, 0)
		if valueErr != nil { // it is gone
			continue
		}
		all = append(all, Semaphore{k, id, value, time.Unix(op, 0), time.Unix(change, 0)})
	}
	return all, err
}

// joined is errors.Join that leaves one error as it is.
func joined(a, b error) error {
	if b == nil {
		return a
	}
	return errors.Join(a, b)
}

func semget(k Cookie, flags int) (int, error) {
	id, _, e := unix.Syscall(unix.SYS_SEMGET, uintptr(k), 1, uintptr(flags))
	if e != 0 {
		return 0, e
	}
	return int(id), nil
}

func semctl(id, op, arg int) (int, error) {
	n, _, e := unix.Syscall6(unix.SYS_SEMCTL, uintptr(id), 0, uintptr(op), uintptr(arg), 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// semop is semtimedop(2) of one operation.
func semop(id int, op int16, flags uint16, timeout *unix.Timespec) error {
	buf := struct {
		num   uint16
		op    int16
		flags int16
	}{op: op, flags: int16(flags)}
	for {
		_, _, e := unix.Syscall6(unix.SYS_SEMTIMEDOP, uintptr(id), uintptr(unsafe.Pointer(&buf)), 1, uintptr(unsafe.Pointer(timeout)), 0, 0)
		if e == 0 {
			return nil
		}
		if e != unix.EINTR {
			return e
		}
	}
}
