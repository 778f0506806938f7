package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/spawn"
	"github.com/tare-engine/tare/internal/logfile"
)

// op is what a message wants or tells.
type op uint16

// The engine asks; each request is answered once, by opReply.
const (
	opHello op = 1 + iota
	opStart
	opPark
	opWake
	opEvict
	opAttach
	opResume
	opResize
	opCloseStdin
	opAck
	opList
	opAdopt
	opUpgrade
	opStatus // how an orphan ended, if the engine could reap it
	opShutdown
	opPing // instead of hello: is anybody there?
)

// The keeper answers and tells.
const (
	opReply op = 100 + iota
	opBorn
	opExited
	opDetached
	opStdinClosed
	opOrphanEnded
)

var opNames = map[op]string{
	opHello: "hello", opStart: "start", opPark: "park", opWake: "wake", opEvict: "evict", opAttach: "attach",
	opResume: "resume", opResize: "resize", opCloseStdin: "close stdin", opAck: "ack", opList: "list",
	opAdopt: "adopt", opUpgrade: "upgrade", opStatus: "status", opShutdown: "shutdown", opPing: "ping", opReply: "reply", opBorn: "born",
	opExited: "exited", opDetached: "detached", opStdinClosed: "stdin closed", opOrphanEnded: "orphan ended",
}

func (o op) String() string {
	if n := opNames[o]; n != "" {
		return n
	}
	return fmt.Sprintf("operation %d", uint16(o))
}

// protocolVersion is what both sides name in their hello. Fields are only
// ever added to documents, so a newer side can talk to an older one.
const protocolVersion = 1

type helloDoc struct {
	Version  int
	EngineID string
	Dirs     bool // descriptors: containers directory, spool directory
}

type helloReply struct {
	Version int
	Pid     int
}

// startDoc goes with opStart, opPark and opWake. Descriptors: the plan's, then
// the clients'. Payload: the plan, the second plan, the clients' bytes.
type startDoc struct {
	ID, Container string
	Flags         uint64
	CgroupFD      int
	Files         int // how many descriptors are the plan's
	Plan, Second  imageDoc
	Stdio         Stdio
	Clients       []clientDoc
	Born          bool
}

type imageDoc struct{ Bytes, Relocs int }

type clientDoc struct {
	ID                          string // of opAttach: whom to
	Buffered                    int
	Stdin, Stdout, Stderr, Hold bool
	Status                      bool
	DetachKeys                  []byte
}

// processDoc carries a process; streams says which descriptors came along, in
// the order of Files.
type processDoc struct {
	Process
	Streams [4]bool
}

type listDoc struct{ After string }

// listReply is a page of the list. Descriptors: the streams of its processes.
type listReply struct {
	Processes []processDoc
	Exits     []Exit
	Next      string // where the next page begins; "": this is the last
}

type adoptDoc struct {
	processDoc
	Stdio Stdio
}

type idDoc struct {
	ID         string
	Client     uint64
	Rows, Cols uint16
	Pid        int
}

type attachReply struct {
	Client uint64
	At     logfile.Position
}

type statusDoc struct {
	ID     string
	Status syscall.WaitStatus
}

// errorDoc is the error of a reply.
type errorDoc struct {
	Error string        `json:",omitempty"`
	Kind  errdefs.Kind  `json:",omitempty"`
	Errno syscall.Errno `json:",omitempty"`
	Step  *stepDoc      `json:",omitempty"`
}

type stepDoc struct {
	Step   int
	Second bool
}

// errorOf makes the document of err.
func errorOf(err error) errorDoc {
	d := errorDoc{Error: err.Error(), Kind: errdefs.KindOf(err)}
	if s, ok := errors.AsType[*StepError](err); ok {
		d.Errno, d.Step = s.Errno, &stepDoc{s.Step, s.Second}
		return d
	}
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		d.Errno = e
	}
	return d
}

// err is the error that the document stands for, nil if it stands for none.
func (d errorDoc) err() error {
	switch {
	case d.Error == "":
		return nil
	case d.Step != nil:
		return &StepError{Errno: d.Errno, Step: d.Step.Step, Second: d.Step.Second}
	case d.Errno != 0:
		return errdefs.As(d.Kind, &remoteError{d.Error, d.Errno})
	}
	return errdefs.New(d.Kind, "%s", d.Error)
}

// remoteError is an error of the keeper's with its errno.
type remoteError struct {
	text  string
	errno syscall.Errno
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.errno }

// appendImage adds an image to a payload.
func appendImage(b []byte, im spawn.Image) ([]byte, imageDoc) {
	b = append(b, im.Bytes...)
	for _, r := range im.Relocs {
		b = binary.LittleEndian.AppendUint32(b, r)
	}
	return b, imageDoc{len(im.Bytes), len(im.Relocs)}
}

// cutImage takes an image from the front of a payload. Its bytes stay those of
// the payload.
func cutImage(b []byte, d imageDoc) (spawn.Image, []byte, error) {
	if d.Bytes < 0 || d.Relocs < 0 || d.Bytes > len(b) || d.Relocs > (len(b)-d.Bytes)/4 {
		return spawn.Image{}, nil, errdefs.New(errdefs.InvalidArgument, "plan of %d bytes and %d relocations in %d bytes", d.Bytes, d.Relocs, len(b))
	}
	im := spawn.Image{Bytes: b[:d.Bytes], Relocs: make([]uint32, d.Relocs)}
	b = b[d.Bytes:]
	for i := range im.Relocs {
		im.Relocs[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return im, b[4*d.Relocs:], nil
}

// cutBytes takes n bytes from the front of a payload.
func cutBytes(b []byte, n int) (head, rest []byte, err error) {
	if n < 0 || n > len(b) {
		return nil, nil, errdefs.New(errdefs.InvalidArgument, "%d bytes of a payload that has %d", n, len(b))
	}
	return b[:n:n], b[n:], nil
}
