package wire

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
	"github.com/tare-engine/tare/internal/linux/rawfd"
)

// A Message is one packet:
//
//	0  operation (2 bytes)  2  flags (2)  4  length of the document (4)
//	8  request (8)         16  length of the payload (4)
//	20 document (JSON; fields are only ever added), payload
//
// with descriptors beside it. A payload that would make the packet large
// travels in a memory file, the last descriptor.
const (
	HeaderSize = 20
	MaxPacket  = 60 << 10
	MaxDoc     = 48 << 10
	MaxPayload = 9 << 20 // two plans and what goes with them
	MaxFiles   = 253     // the kernel's limit for one packet

	flagPayloadFile = 1
)

// Message goes one way; a request is answered by one with its number.
type Message struct {
	Op      Op
	Request uint64
	Doc     []byte
	Payload []byte
	Files   []*os.File // of a received message: the receiver's
}

// Close closes the descriptors that nobody has taken.
func (m *Message) Close() {
	for _, f := range m.Files {
		if f != nil {
			f.Close()
		}
	}
	m.Files = nil
}

// Take hands descriptor i to the caller, nil if there is none.
func (m *Message) Take(i int) *os.File {
	if i < 0 || i >= len(m.Files) {
		return nil
	}
	f := m.Files[i]
	m.Files[i] = nil
	return f
}

// Socket is one end of a connection. Any goroutine may send; one receives.
type Socket struct {
	c   *net.UnixConn
	buf []byte
	oob []byte

	mu sync.Mutex // held while sending
}

// NewSocket takes over a connection.
func NewSocket(c *net.UnixConn) *Socket {
	return &Socket{c: c, buf: make([]byte, MaxPacket), oob: make([]byte, syscall.CmsgSpace(4*MaxFiles))}
}

// Close ends the connection; who receives then gets an error.
func (w *Socket) Close() error { return w.c.Close() }

// Net is the connection beneath.
func (w *Socket) Net() *net.UnixConn { return w.c }

// Send sends m. Its files stay the caller's.
func (w *Socket) Send(m *Message) error {
	flags := uint16(0)
	payload, files := m.Payload, m.Files
	if HeaderSize+len(m.Doc)+len(payload) > MaxPacket {
		f, err := payloadFile(payload)
		if err != nil {
			return err
		}
		defer f.Close()
		flags |= flagPayloadFile
		payload, files = nil, append(files[:len(files):len(files)], f)
	}
	if len(m.Doc) > MaxDoc || len(m.Payload) > MaxPayload || len(files) > MaxFiles {
		return fmt.Errorf("message of %d and %d bytes with %d descriptors is too large", len(m.Doc), len(m.Payload), len(files))
	}
	b := make([]byte, HeaderSize, HeaderSize+len(m.Doc)+len(payload))
	le := binary.LittleEndian
	le.PutUint16(b, uint16(m.Op))
	le.PutUint16(b[2:], flags)
	le.PutUint32(b[4:], uint32(len(m.Doc)))
	le.PutUint64(b[8:], m.Request)
	le.PutUint32(b[16:], uint32(len(m.Payload)))
	b = append(append(b, m.Doc...), payload...)
	return w.write(b, files)
}

func (w *Socket) write(b []byte, files []*os.File) error {
	fds := make([]int, len(files))
	for i, f := range files {
		n, err := rawfd.Number(f)
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

// Receive waits for the next message. Any error ends the connection.
func (w *Socket) Receive() (*Message, error) {
	n, oobn, flags, _, err := w.c.ReadMsgUnix(w.buf, w.oob)
	if err != nil {
		return nil, err
	}
	files, err := received(w.oob[:oobn])
	m := &Message{Files: files}
	if err == nil && flags&(syscall.MSG_CTRUNC|syscall.MSG_TRUNC) != 0 {
		err = errors.New("message was cut")
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err == nil {
		err = m.Decode(w.buf[:n])
	}
	if err != nil {
		m.Close()
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

// Decode reads the packet b, and the payload file if there is one.
func (m *Message) Decode(b []byte) error {
	if len(b) < HeaderSize {
		return errors.New("short message")
	}
	le := binary.LittleEndian
	m.Op, m.Request = Op(le.Uint16(b)), le.Uint64(b[8:])
	flags, doc, payload := le.Uint16(b[2:]), le.Uint32(b[4:]), le.Uint32(b[16:])
	b = b[HeaderSize:]
	if doc > MaxDoc || payload > MaxPayload || int(doc) > len(b) {
		return fmt.Errorf("message with %d and %d bytes", doc, payload)
	}
	m.Doc = append([]byte(nil), b[:doc]...)
	b = b[doc:]
	if flags&flagPayloadFile == 0 {
		if len(b) != int(payload) {
			return fmt.Errorf("payload of %d bytes, not %d", len(b), payload)
		}
		m.Payload = append([]byte(nil), b...)
		return nil
	}
	if len(m.Files) == 0 || len(b) > 0 {
		return errors.New("no payload file")
	}
	f := m.Files[len(m.Files)-1]
	m.Files = m.Files[:len(m.Files)-1]
	defer f.Close()
	m.Payload = make([]byte, payload)
	_, err := f.ReadAt(m.Payload, 0)
	return err
}

// Unmarshal decodes the message's document.
func (m *Message) Unmarshal(v any) error {
	if err := json.Unmarshal(m.Doc, v); err != nil {
		return fmt.Errorf("%v: %w", m.Op, err)
	}
	return nil
}
