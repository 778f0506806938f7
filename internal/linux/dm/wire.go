package dm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Op is what the driver is asked to do.
type Op uint8

// Operations. Those that end the list have no request of their own.
const (
	OpVersion Op = iota
	OpRemoveAll
	OpList
	OpCreate
	OpRemove
	OpRename
	OpSuspend // also resume: a flag tells
	OpInfo
	OpWait
	OpLoad
	OpClear
	OpDeps
	OpStatus // also table: a flag tells
	OpTargets
	OpMessage
	OpGeometry
	OpArm
	OpTargetVersion

	OpResume
	OpTable
	OpOpen
	OpNode
	OpUdev
)

var opNames = [...]string{
	"version", "remove all", "list", "create", "remove", "rename", "suspend", "info", "wait", "load", "clear", "deps", "status",
	"targets", "message", "set geometry", "arm", "target version", "resume", "table", "open", "node of", "udev",
}

func (o Op) String() string { return opNames[o] }

// command is the number of the ioctl.
func (o Op) command() uint32 {
	switch o {
	case OpResume:
		return uint32(OpSuspend)
	case OpTable:
		return uint32(OpStatus)
	}
	return uint32(o)
}

// grows reports whether the answer may need more room than the request.
func (o Op) grows() bool {
	switch o {
	case OpList, OpTargets, OpDeps, OpStatus, OpTable, OpWait, OpMessage, OpTargetVersion:
		return true
	}
	return false
}

// Flags of requests and answers.
const (
	flagReadOnly      = 1 << 0
	flagSuspend       = 1 << 1
	flagPersistent    = 1 << 3
	flagTable         = 1 << 4
	flagLive          = 1 << 5
	flagInactive      = 1 << 6
	flagBufferFull    = 1 << 8
	flagNoOpenCount   = 1 << 9
	flagNoLockFS      = 1 << 10
	flagNoFlush       = 1 << 11
	flagQueryInactive = 1 << 12
	flagUevent        = 1 << 13
	flagUUID          = 1 << 14
	flagSecure        = 1 << 15
	flagDataOut       = 1 << 16
	flagDeferred      = 1 << 17
	flagInternal      = 1 << 18
	flagIMA           = 1 << 19
)

// Offsets in struct dm_ioctl, and its sizes.
const (
	offVersion   = 0
	offDataSize  = 12
	offDataStart = 16
	offTargets   = 20
	offOpen      = 24
	offFlags     = 28
	offEvent     = 32
	offDev       = 40
	offName      = 48
	offUUID      = offName + nameSize
	headerSize   = 312

	nameSize = 128
	uuidSize = 129
	typeSize = 16

	lineHeader = 40 // struct dm_target_spec
)

// Sizes of buffers: what most answers fit into, and what no honest answer needs.
const (
	firstBuffer = 16 << 10
	lastBuffer  = 256 << 20
)

var native = binary.NativeEndian

// kernel is the boundary to the driver, which tests have another one of.
type kernel interface {
	// ioctl makes a request; buf has its header and its data, and the answer then.
	ioctl(command uint32, buf []byte) error
	Close() error
}

// device is the control device.
type device struct{ *os.File }

// ioctlBase is _IOWR(0xfd, 0, struct dm_ioctl).
const ioctlBase = 3<<30 | headerSize<<16 | 0xfd<<8

func (d device) ioctl(command uint32, buf []byte) error {
	raw, err := d.SyscallConn()
	if err != nil {
		return err
	}
	var e unix.Errno
	err = raw.Control(func(fd uintptr) {
		for {
			_, _, e = unix.Syscall(unix.SYS_IOCTL, fd, uintptr(ioctlBase|command), uintptr(unsafe.Pointer(&buf[0])))
			runtime.KeepAlive(buf)
			if e != unix.EINTR {
				return
			}
		}
	})
	if err == nil && e != 0 {
		err = e
	}
	return err
}

// request is one call of the driver.
type request struct {
	op      Op
	ref     Ref
	flags   uint32
	event   uint32 // or a cookie
	dev     uint64 // of a device to be made
	targets uint32 // how many are in data
	data    []byte
}

// answer is the buffer that came back.
type answer struct{ buf []byte }

// do makes a request, with more room for the answer until it fits. The caller wipes
// the answer.
func (c *Conn) do(r *request) (*answer, error) {
	if err := r.ref.check(); err != nil {
		return nil, &Error{Op: r.op, Ref: r.ref, Err: err}
	}
	if c.opts.Trace != nil {
		c.opts.Trace(r.String())
	}
	size := max(firstBuffer, headerSize+len(r.data)+1)
	for {
		buf := make([]byte, size)
		r.encode(buf)
		err := c.kernel.ioctl(r.op.command(), buf)
		a := &answer{buf}
		switch {
		case err != nil:
			a.wipe()
			return nil, &Error{Op: r.op, Ref: r.ref, Err: err}
		case a.flags()&flagBufferFull == 0 || !r.op.grows():
			return a, nil
		}
		a.wipe()
		if size *= 2; size > lastBuffer {
			return nil, &Error{Op: r.op, Ref: r.ref, Err: errors.New("the answer is too long")}
		}
	}
}

func (r *request) encode(buf []byte) {
	native.PutUint32(buf[offVersion:], 4)
	native.PutUint32(buf[offDataSize:], uint32(len(buf)))
	native.PutUint32(buf[offDataStart:], headerSize)
	native.PutUint32(buf[offTargets:], r.targets)
	native.PutUint32(buf[offEvent:], r.event)
	flags, dev := r.flags, r.dev
	if r.ref.Dev != (Dev{}) {
		dev = r.ref.Dev.encode()
		flags |= flagPersistent
	}
	switch r.op {
	case OpSuspend:
		flags |= flagSuspend
	case OpTable:
		flags |= flagTable
	}
	native.PutUint32(buf[offFlags:], flags)
	native.PutUint64(buf[offDev:], dev)
	copy(buf[offName:offName+nameSize-1], r.ref.Name)
	copy(buf[offUUID:offUUID+uuidSize-1], r.ref.UUID)
	copy(buf[headerSize:], r.data)
}

// String is the request without its data, in which a key may be.
func (r *request) String() string {
	s := fmt.Sprintf("dm %s", r.op)
	if ref := r.ref.String(); ref != "" {
		s += " " + ref
	}
	return fmt.Sprintf("%s flags 0x%x event 0x%x [%d bytes, %d targets]", s, r.flags, r.event, len(r.data), r.targets)
}

func (a *answer) wipe()         { clear(a.buf) }
func (a *answer) flags() uint32 { return native.Uint32(a.buf[offFlags:]) }

func (a *answer) version() (v Version) {
	for i := range v {
		v[i] = native.Uint32(a.buf[offVersion+4*i:])
	}
	return v
}

// errAnswer is about answers that no kernel gives.
var errAnswer = errors.New("the kernel's answer makes no sense")

// data is what follows the header. The size of an answer without any is less than
// where it would begin.
func (a *answer) data() ([]byte, error) {
	start, size := native.Uint32(a.buf[offDataStart:]), native.Uint32(a.buf[offDataSize:])
	if uint64(max(start, size)) > uint64(len(a.buf)) {
		return nil, errAnswer
	}
	if start > size {
		return nil, nil
	}
	return a.buf[start:size], nil
}

// info is what the header says of the device.
func (a *answer) info() Info {
	f := a.flags()
	return Info{
		Name:            text(a.buf[offName : offName+nameSize]),
		UUID:            text(a.buf[offUUID : offUUID+uuidSize]),
		Dev:             decodeDev(native.Uint64(a.buf[offDev:])),
		OpenCount:       int32(native.Uint32(a.buf[offOpen:])),
		Targets:         int32(native.Uint32(a.buf[offTargets:])),
		Event:           native.Uint32(a.buf[offEvent:]),
		Suspended:       f&flagSuspend != 0,
		ReadOnly:        f&flagReadOnly != 0,
		Live:            f&flagLive != 0,
		Inactive:        f&flagInactive != 0,
		DeferredRemove:  f&flagDeferred != 0,
		InternalSuspend: f&flagInternal != 0,
	}
}

// text is what stands before the first zero.
func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

// align is n rounded up to where the kernel puts the next structure.
func align(n int) int { return (n + 7) &^ 7 }
