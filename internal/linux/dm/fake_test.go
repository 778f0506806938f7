package dm

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fake is a driver in memory: devices with two tables, as the kernel has them.
type fake struct {
	t       *testing.T
	devices []*fakeDevice
	next    uint32
	version Version
	fail    map[Op]error            // what a request answers instead
	before  func(op Op, buf []byte) // sees each request
	answers int                     // bytes that an answer has at least, beyond the header
	buffers [][]byte                // of all requests: they are wiped in the end
	quiet   bool                    // no event of udev is made
}

type fakeDevice struct {
	name, uuid     string
	minor          uint32
	live, inactive Table
	suspended, ro  bool
	open           bool
	event          uint32
}

const fakeMajor = 253

// newFake is a connection with it, whose nodes are udev's business.
func newFake(t *testing.T) (*Conn, *fake) {
	t.Helper()
	f := &fake{t: t, version: Version{4, 47, 0}, fail: map[Op]error{}}
	dir := t.TempDir()
	n, err := openNodes(dir, NodeMode{})
	if err != nil {
		t.Fatal(err)
	}
	udev := filepath.Join(dir, "udev")
	if err := os.WriteFile(udev, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	old := udevControl
	udevControl = udev
	t.Cleanup(func() { udevControl = old })
	c := &Conn{opts: Options{Dir: dir, Udev: UdevNoWait}, kernel: f, nodes: n, reasons: func() func() []string { return func() []string { return nil } }}
	if err := c.checkVersion(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, f
}

func (f *fake) Close() error { return nil }

func (f *fake) find(buf []byte) *fakeDevice {
	name, uuid := text(buf[offName:offName+nameSize]), text(buf[offUUID:offUUID+uuidSize])
	dev := decodeDev(native.Uint64(buf[offDev:]))
	for _, d := range f.devices {
		if name != "" && d.name == name || uuid != "" && d.uuid == uuid || name == "" && uuid == "" && dev == (Dev{fakeMajor, d.minor}) {
			return d
		}
	}
	return nil
}

// op is the operation of a request, told from its flags where two have one number.
func (f *fake) op(command uint32, flags uint32) Op {
	op := Op(command)
	switch {
	case op == OpSuspend && flags&flagSuspend == 0:
		return OpResume
	case op == OpStatus && flags&flagTable != 0:
		return OpTable
	}
	return op
}

func (f *fake) ioctl(command uint32, buf []byte) error {
	flags := native.Uint32(buf[offFlags:])
	op := f.op(command, flags)
	f.buffers = append(f.buffers, buf)
	if f.before != nil {
		f.before(op, buf)
	}
	if err := f.fail[op]; err != nil {
		return err
	}
	for i, n := range f.version {
		native.PutUint32(buf[4*i:], n)
	}
	data := bytes.Clone(buf[headerSize:])
	native.PutUint32(buf[offDataSize:], bareSize)
	if f.answers > 0 && op.grows() {
		if headerSize+f.answers > len(buf) {
			native.PutUint32(buf[offFlags:], flags|flagBufferFull)
			return nil
		}
	}
	switch op {
	case OpVersion, OpArm:
		return nil
	case OpList:
		f.put(buf, f.list())
		return nil
	case OpTargets, OpTargetVersion:
		f.put(buf, fakeVersions)
		return nil
	case OpRemoveAll:
		f.devices = slices.DeleteFunc(f.devices, func(d *fakeDevice) bool { return !d.open })
		return nil
	case OpCreate:
		return f.create(buf)
	}
	d := f.find(buf)
	if d == nil {
		return unix.ENXIO
	}
	return f.on(d, op, flags, buf, data)
}

func (f *fake) create(buf []byte) error {
	d := &fakeDevice{name: text(buf[offName : offName+nameSize]), uuid: text(buf[offUUID : offUUID+uuidSize]), minor: f.next}
	for _, other := range f.devices {
		if other.name == d.name || d.uuid != "" && other.uuid == d.uuid {
			return unix.EBUSY
		}
	}
	f.next++
	f.devices = append(f.devices, d)
	f.header(d, buf, 0)
	return nil
}

func (f *fake) on(d *fakeDevice, op Op, flags uint32, buf, data []byte) error {
	out := uint32(0)
	switch op {
	case OpRemove:
		if d.open && flags&flagDeferred == 0 {
			return unix.EBUSY
		}
		f.devices = slices.DeleteFunc(f.devices, func(o *fakeDevice) bool { return o == d })
		out |= flagUevent
	case OpRename:
		if value := text(data); flags&flagUUID != 0 {
			d.uuid = value
		} else {
			d.name = value
		}
		out |= flagUevent
	case OpLoad:
		t, err := fakeTable(data, native.Uint32(buf[offTargets:]))
		if err != nil {
			return err
		}
		d.inactive, d.ro = t, flags&flagReadOnly != 0
	case OpClear:
		d.inactive = nil
	case OpSuspend:
		d.suspended = true
	case OpResume:
		if d.inactive != nil {
			d.live, d.inactive = d.inactive, nil
		}
		d.suspended = false
		d.event++
		out |= flagUevent
	case OpTable, OpStatus, OpWait:
		f.put(buf, fakeLines(d.live))
	case OpDeps:
		if d.live == nil {
			break
		}
		b := make([]byte, 24)
		native.PutUint32(b, 2)
		native.PutUint64(b[8:], Dev{7, 1}.encode())
		native.PutUint64(b[16:], Dev{fakeMajor, 300}.encode())
		f.put(buf, b)
	case OpMessage:
		if m := text(data[8:]); strings.HasPrefix(m, "answer ") {
			f.put(buf, append([]byte(m[7:]), 0))
			out |= flagDataOut
		}
	case OpGeometry, OpInfo:
	}
	if f.quiet {
		out &^= flagUevent
	}
	f.header(d, buf, out)
	return nil
}

// header is what an answer says of a device.
func (f *fake) header(d *fakeDevice, buf []byte, flags uint32) {
	for flag, is := range map[uint32]bool{flagReadOnly: d.ro, flagSuspend: d.suspended, flagLive: d.live != nil, flagInactive: d.inactive != nil} {
		if is {
			flags |= flag
		}
	}
	native.PutUint32(buf[offFlags:], flags|native.Uint32(buf[offFlags:])&flagBufferFull)
	native.PutUint32(buf[offTargets:], uint32(len(d.live)))
	native.PutUint32(buf[offEvent:], d.event)
	native.PutUint64(buf[offDev:], Dev{fakeMajor, d.minor}.encode())
	clear(buf[offName : offName+nameSize])
	copy(buf[offName:], d.name)
	copy(buf[offUUID:], d.uuid)
}

func (f *fake) put(buf, data []byte) {
	if headerSize+len(data) > len(buf) {
		native.PutUint32(buf[offFlags:], native.Uint32(buf[offFlags:])|flagBufferFull)
		return
	}
	if len(data) == 0 {
		return
	}
	copy(buf[headerSize:], data)
	native.PutUint32(buf[offDataSize:], uint32(headerSize+len(data)))
}

func (f *fake) list() []byte {
	var b []byte
	last := 0
	for _, d := range f.devices {
		last = len(b)
		row := make([]byte, align(12+len(d.name)+1)+8)
		native.PutUint64(row, Dev{fakeMajor, d.minor}.encode())
		copy(row[12:], d.name)
		native.PutUint32(row[len(row)-8:], d.event)
		if d.uuid != "" {
			native.PutUint32(row[len(row)-4:], 1)
			row = append(append(row, d.uuid...), 0)
		}
		row = append(row, make([]byte, align(len(row))-len(row))...)
		native.PutUint32(row[8:], uint32(len(row)))
		b = append(b, row...)
	}
	if b == nil {
		return nil
	}
	native.PutUint32(b[last+8:], 0)
	return b
}

// bareSize is the size of an answer without data: that of the header without padding.
const bareSize = 305

// fakeVersions are linear 1.4.0 and crypt 1.24.0.
var fakeVersions = func() []byte {
	b := make([]byte, 48)
	native.PutUint32(b, 24)
	native.PutUint32(b[4:], 1)
	native.PutUint32(b[8:], 4)
	copy(b[16:], "linear")
	native.PutUint32(b[28:], 1)
	native.PutUint32(b[32:], 24)
	copy(b[40:], "crypt")
	return b
}()

// fakeTable reads a table as the kernel does: each line is as far from the one
// before as that says, and a backslash quotes.
func fakeTable(b []byte, n uint32) (Table, error) {
	var t Table
	for range n {
		l := Line{Start: native.Uint64(b), Length: native.Uint64(b[8:]), Type: text(b[24:lineHeader])}
		params, _, _ := bytes.Cut(b[lineHeader:], []byte{0})
		for i := 0; i < len(params); i++ {
			if params[i] == '\\' {
				i++
			}
			l.Params = append(l.Params, params[i])
		}
		if l.Type == "nosuch" {
			return nil, unix.EINVAL
		}
		t = append(t, l)
		b = b[native.Uint32(b[20:]):]
	}
	return t, nil
}

// fakeLines is a table in an answer: each line says where the next begins, from the
// first on.
func fakeLines(t Table) []byte {
	var b []byte
	for _, l := range t {
		row := make([]byte, align(lineHeader+len(l.Params)+1))
		native.PutUint64(row, l.Start)
		native.PutUint64(row[8:], l.Length)
		copy(row[24:], l.Type)
		copy(row[lineHeader:], l.Params)
		native.PutUint32(row[20:], uint32(len(b)+len(row)))
		b = append(b, row...)
	}
	return b
}
