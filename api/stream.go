package api

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"github.com/moby/moby/api/types/container"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
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
// It reads no byte beyond the last frame and returns nil at an end between two
// frames, io.ErrUnexpectedEOF at an end within one.
func Demux(r io.Reader, stdout, stderr io.Writer, system func([]byte) error) error {
	var h [HeaderLen]byte
	buf := make([]byte, 32<<10)
	for {
		switch _, err := io.ReadFull(r, h[:]); err {
		case nil:
		case io.EOF:
			return nil
		default:
			return err
		}
		n := int64(binary.BigEndian.Uint32(h[4:]))
		var err error
		switch Stream(h[0]) {
		case Stdin, Stdout:
			err = copyFrame(stdout, r, n, buf)
		case Stderr:
			err = copyFrame(stderr, r, n, buf)
		case System:
			err = systemFrame(r, n, system)
		default:
			err = fmt.Errorf("unrecognized stream: %d", h[0])
		}
		if err != nil {
			return err
		}
	}
}

func copyFrame(w io.Writer, r io.Reader, n int64, buf []byte) error {
	got, err := io.CopyBuffer(onlyWriter{w}, io.LimitReader(r, n), buf)
	if err == nil && got < n {
		return io.ErrUnexpectedEOF
	}
	return err
}

// onlyWriter hides a ReadFrom that would allocate its own buffer.
type onlyWriter struct{ io.Writer }

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

// RunPath is the route of the one-request run: create, attach, start and wait
// in one exchange. It is Tare's own; Docker's clients make four requests.
//
// The client sends a RunRequest with "Upgrade: tcp". What fails before the
// container exists is an ordinary error answer. Then the connection becomes a
// stream of frames: output in Stdout and Stderr, and RunStatus documents in
// System. A container with a terminal is refused: it needs the four requests. The client's own bytes are the
// container's standard input, unframed; it half-closes the connection at its end.
const RunPath = "/tare/run"

// RunRequest asks for a container to be made, attached to and started.
type RunRequest struct {
	Create   container.CreateRequest
	Name     string            `json:",omitempty"`
	Platform *ocispec.Platform `json:",omitempty"`
	Rootfs   string            `json:",omitempty"` // a directory of the engine's machine instead of an image
	Attach   AttachOptions
}

// RunStatus is one document of the System stream of a run. The first comes
// when the container is made and has no ExitCode; the last has one.
type RunStatus struct {
	ID       string   `json:"Id"`
	Warnings []string `json:",omitempty"`
	Error    string   `json:",omitempty"` // why it did not start, or how the engine lost it
	ExitCode *int     `json:",omitempty"`
	Detached bool     `json:",omitempty"` // the client pressed the detach keys; no ExitCode
}

// WriteRunStatus writes st as one frame of the System stream.
func WriteRunStatus(w io.Writer, st RunStatus) error {
	b, err := json.Marshal(st)
	if err != nil {
		return err
	}
	_, err = NewFrameWriter(w, System).Write(b)
	return err
}

// ReadRun copies the output of a run and reports each RunStatus as it comes.
func ReadRun(r io.Reader, stdout, stderr io.Writer, status func(RunStatus) error) error {
	return Demux(r, stdout, stderr, func(p []byte) error {
		var st RunStatus
		if err := json.Unmarshal(p, &st); err != nil {
			return fmt.Errorf("status of a run: %w", err)
		}
		return status(st)
	})
}
