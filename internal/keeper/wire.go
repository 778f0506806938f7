package keeper

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/memfd"
)

// A message is one packet:
//
//	0  operation (2 bytes)  2  flags (2)  4  length of the document (4)
//	8  request (8)         16  length of the payload (4)
//	20 document (JSON; fields are only ever added), payload
//
// with descriptors beside it. A payload that would make the packet large
// travels in a memory file, the last descriptor.
const (
	wireHeader = 20
	maxPacket  = 60 << 10
	maxDoc     = 48 << 10
	maxPayload = 9 << 20 // two plans and what goes with them
	maxFiles   = 253     // the kernel's limit for one packet

	flagPayloadFile = 1
)

type message struct {
	op      op
	request uint64
	doc     []byte
	payload []byte
	files   []*os.File // of a received message: the receiver's
}

// close closes the descriptors that nobody has taken.
func (m *message) close() {
	for _, f := range m.files {
		if f != nil {
			f.Close()
		}
	}
	m.files = nil
}

// take hands descriptor i to the caller, nil if there is none.
func (m *message) take(i int) *os.File {
	if i < 0 || i >= len(m.files) {
		return nil
	}
	f := m.files[i]
	m.files[i] = nil
	return f
}

// wire is one end of a connection. Any goroutine may send; one receives.
type wire struct {
	c   *net.UnixConn
	buf []byte
	oob []byte

	mu sync.Mutex // held while sending
}

func newWire(c *net.UnixConn) *wire {
	return &wire{c: c, buf: make([]byte, maxPacket), oob: make([]byte, syscall.CmsgSpace(4*maxFiles))}
}

func (w *wire) close() error { return w.c.Close() }

// send sends m. Its files stay the caller's.
func (w *wire) send(m *message) error {
	flags := uint16(0)
	payload, files := m.payload, m.files
	if wireHeader+len(m.doc)+len(payload) > maxPacket {
		f, err := payloadFile(payload)
		if err != nil {
			return err
		}
		defer f.Close()
		flags |= flagPayloadFile
		payload, files = nil, append(files[:len(files):len(files)], f)
	}
	if len(m.doc) > maxDoc || len(m.payload) > maxPayload || len(files) > maxFiles {
		return fmt.Errorf("message of %d and %d bytes with %d descriptors is too large", len(m.doc), len(m.payload), len(files))
	}
	b := make([]byte, wireHeader, wireHeader+len(m.doc)+len(payload))
	le := binary.LittleEndian
	le.PutUint16(b, uint16(m.op))
	le.PutUint16(b[2:], flags)
	le.PutUint32(b[4:], uint32(len(m.doc)))
	le.PutUint64(b[8:], m.request)
	le.PutUint32(b[16:], uint32(len(m.payload)))
	b = append(append(b, m.doc...), payload...)
	return w.write(b, files)
}

func (w *wire) write(b []byte, files []*os.File) error {
	fds := make([]int, len(files))
	for i, f := range files {
		n, err := descriptor(f)
		if err != nil {
			return err
		}
		fds[i] = n
	}
	var oob []byte
	if len(fds) > 0 {
		oob = syscall.UnixRights(fds...)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _, err := w.c.WriteMsgUnix(b, oob, nil)
	return err
}

func payloadFile(payload []byte) (*os.File, error) {
	f, err := memfd.New("payload")
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(payload); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// receive waits for the next message. Any error ends the connection.
func (w *wire) receive() (*message, error) {
	n, oobn, flags, _, err := w.c.ReadMsgUnix(w.buf, w.oob)
	if err != nil {
		return nil, err
	}
	files, err := received(w.oob[:oobn])
	m := &message{files: files}
	if err == nil && flags&(syscall.MSG_CTRUNC|syscall.MSG_TRUNC) != 0 {
		err = errors.New("message was cut")
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err == nil {
		err = m.decode(w.buf[:n])
	}
	if err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

// received turns control messages into files. On error too it returns what
// must be closed.
func received(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	ms, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range ms {
		fds, err := syscall.ParseUnixRights(&ms[i])
		if err != nil {
			return files, err
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

// decode reads the packet b, and the payload file if there is one.
func (m *message) decode(b []byte) error {
	if len(b) < wireHeader {
		return errors.New("short message")
	}
	le := binary.LittleEndian
	m.op, m.request = op(le.Uint16(b)), le.Uint64(b[8:])
	flags, doc, payload := le.Uint16(b[2:]), le.Uint32(b[4:]), le.Uint32(b[16:])
	b = b[wireHeader:]
	if doc > maxDoc || payload > maxPayload || int(doc) > len(b) {
		return fmt.Errorf("message with %d and %d bytes", doc, payload)
	}
	m.doc = append([]byte(nil), b[:doc]...)
	b = b[doc:]
	if flags&flagPayloadFile == 0 {
		if len(b) != int(payload) {
			return fmt.Errorf("payload of %d bytes, not %d", len(b), payload)
		}
		m.payload = append([]byte(nil), b...)
		return nil
	}
	if len(m.files) == 0 || len(b) > 0 {
		return errors.New("no payload file")
	}
	f := m.files[len(m.files)-1]
	m.files = m.files[:len(m.files)-1]
	defer f.Close()
	m.payload = make([]byte, payload)
	_, err := f.ReadAt(m.payload, 0)
	return err
}

// unmarshal decodes the message's document.
func (m *message) unmarshal(v any) error {
	if err := json.Unmarshal(m.doc, v); err != nil {
		return fmt.Errorf("%v: %w", m.op, err)
	}
	return nil
}

// descriptor is f's number. File.Fd would make the open file blocking for all
// who share it. It is valid while f is open.
func descriptor(f *os.File) (int, error) {
	if f == nil {
		return -1, os.ErrInvalid
	}
	c, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	n := -1
	err = c.Control(func(fd uintptr) { n = int(fd) })
	return n, err
}
