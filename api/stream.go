package api

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Stream says what a frame of a multiplexed stream carries.
type Stream byte

// Streams of a process, and the engine's own words.
const (
	Stdin  Stream = 0 // never sent; readers take it as stdout, as Docker's do
	Stdout Stream = 1
	Stderr Stream = 2
	System Stream = 3
)

// HeaderLen is the length of what stands before each frame's bytes: the
// stream, three zeros, and the number of bytes as a big-endian 32-bit word.
const HeaderLen = 8

// maxSystemFrame bounds the frames that are kept in memory. A frame of the
// output is passed on as it comes and may be of any length.
const maxSystemFrame = 1 << 20

// Header returns the header of a frame of n bytes.
func Header(s Stream, n int) [HeaderLen]byte {
	h := [HeaderLen]byte{byte(s)}
	binary.BigEndian.PutUint32(h[4:], uint32(n))
	return h
}

// FrameWriter writes each slice it gets as one frame of a stream.
type FrameWriter struct {
	w   io.Writer
	s   Stream
	buf []byte
}

// NewFrameWriter returns a writer of frames of s to w. It makes one Write of w
// for each frame, so that writers of several streams may share a w that is
// safe for concurrent use.
func NewFrameWriter(w io.Writer, s Stream) *FrameWriter {
	return &FrameWriter{w: w, s: s}
}

func (f *FrameWriter) Write(p []byte) (int, error) {
	h := Header(f.s, len(p))
	f.buf = append(append(f.buf[:0], h[:]...), p...)
	n, err := f.w.Write(f.buf)
	return max(n-HeaderLen, 0), err
}

// SystemError is what the engine says in the System stream of an output.
type SystemError struct{ Text string }

func (e *SystemError) Error() string { return "error from daemon in stream: " + e.Text }

// Demux copies the frames of r to stdout and stderr and gives those of the
// System stream to system; a nil system makes the first of them a SystemError.
// It returns nil at an end between two frames, io.ErrUnexpectedEOF at an end
// within one.
//
// What has arrived together is written together: a log has a frame for each
// line, and a write for each would be most of the work. Nothing is held back
// while more has to be waited for.
func Demux(r io.Reader, stdout, stderr io.Writer, system func([]byte) error) error {
	d := demux{r: bufio.NewReaderSize(r, demuxSize), buf: make([]byte, 0, demuxSize)}
	for {
		var h [HeaderLen]byte
		switch _, err := io.ReadFull(d.r, h[:]); err {
		case nil:
		case io.EOF:
			return d.flush()
		default:
			return errors.Join(d.flush(), err)
		}
		n := int64(binary.BigEndian.Uint32(h[4:]))
		var err error
		switch Stream(h[0]) {
		case Stdin, Stdout:
			err = d.frame(stdout, n)
		case Stderr:
			err = d.frame(stderr, n)
		case System:
			if err = d.flush(); err == nil {
				err = systemFrame(d.r, n, system)
			}
		default:
			err = fmt.Errorf("unrecognized stream: %d", h[0])
		}
		if err != nil {
			return errors.Join(d.flush(), err)
		}
	}
}

// demuxSize is how much is read, and written, at once.
const demuxSize = 64 << 10

// demux collects the bytes of frames that go to the same writer.
type demux struct {
	r   *bufio.Reader
	w   io.Writer // of what is in buf
	buf []byte
}

// frame copies the n bytes of a frame to w, now or with the next one.
func (d *demux) frame(w io.Writer, n int64) error {
	if d.w != w {
		if err := d.flush(); err != nil {
			return err
		}
		d.w = w
	}
	for n > 0 {
		if len(d.buf) == cap(d.buf) {
			if err := d.flush(); err != nil {
				return err
			}
		}
		free := d.buf[len(d.buf):cap(d.buf)]
		got, err := d.r.Read(free[:min(n, int64(len(free)))])
		d.buf = d.buf[:len(d.buf)+got]
		n -= int64(got)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && n > 0 {
			return err
		}
		if d.r.Buffered() == 0 {
			if err := d.flush(); err != nil {
				return err
			}
		}
	}
	if d.r.Buffered() < HeaderLen {
		return d.flush()
	}
	return nil
}

func (d *demux) flush() error {
	if len(d.buf) == 0 {
		return nil
	}
	_, err := d.w.Write(d.buf)
	d.buf = d.buf[:0]
	return err
}

func systemFrame(r io.Reader, n int64, system func([]byte) error) error {
	if n > maxSystemFrame {
		return fmt.Errorf("frame of %d bytes in the system stream", n)
	}
	p := make([]byte, n)
	if _, err := io.ReadFull(r, p); err != nil {
		return io.ErrUnexpectedEOF
	}
	if system == nil {
		return &SystemError{Text: string(p)}
	}
	return system(p)
}
