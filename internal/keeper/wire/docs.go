package wire

import (
	"syscall"

	"github.com/tare-engine/tare/internal/logfile"
)

// HelloDoc begins a connection. Descriptors: the containers directory and the
// spool directory, if Dirs.
type HelloDoc struct {
	Version  int
	EngineID string
	Dirs     bool
}

// HelloReply answers hello, ping and upgrade.
type HelloReply struct {
	Version int
	Pid     int
	Program string // its digest, see ProgramDigest; "" before version 4
	Release string // version and commit, for people
	State   int    // version of the state that it would hand over; 0: 1, of before this field
}

// UpgradeDoc goes with OpUpgrade. Descriptor: the program.
type UpgradeDoc struct {
	Program string // its digest; a keeper executes no other
}

// StartDoc goes with OpStart, OpPark and OpWake. Descriptors: the plan's, then
// the user namespace, then the clients', then host ports. Payload: the plan, the second plan, the clients' bytes.
type StartDoc struct {
	ID, Container string
	Flags         uint64
	CgroupFD      int
	Files         int // how many descriptors are the plan's
	Plan, Second  ImageDoc
	Stdio         Stdio
	Clients       []ClientDoc
	Ports         int // how many descriptors are host ports
	Born          bool
	External      bool `json:"Runtime"`
	UserNS        bool
}

// ImageDoc says how much of a payload an image is.
type ImageDoc struct{ Bytes, Relocs int }

// ClientDoc goes with OpAttach, and with a start for each client. Descriptor:
// its connection. Payload: what was read from it already.
type ClientDoc struct {
	ID                          string // of OpAttach: whom to
	Buffered                    int
	Stdin, Stdout, Stderr, Hold bool
	Status, Ends                bool
	DetachKeys                  []byte
}

// Doc describes the client.
func (c Client) Doc() ClientDoc {
	return ClientDoc{
		Buffered: len(c.Buffered), Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr,
		Hold: c.Hold, Status: c.Status, Ends: c.Ends, DetachKeys: c.DetachKeys,
	}
}

// ListDoc asks for the page of the list behind an ID.
type ListDoc struct{ After string }

// ListReply is a page of the list. Descriptors: the streams of its processes.
type ListReply struct {
	Processes []ProcessDoc
	Exits     []Exit
	Next      string // where the next page begins; "": this is the last
}

// AdoptDoc hands over a process of an earlier keeper, with its streams.
type AdoptDoc struct {
	ProcessDoc
	Stdio Stdio
}

// HoldDoc brings host ports of a process: in place of those that are held for
// it, or to be added to them. Descriptors: the ports.
type HoldDoc struct {
	ID  string
	Add bool
}

// HeldReply is a part of the answer to OpHeld. Descriptors: host ports.
type HeldReply struct {
	Last bool
}

// IDDoc is for requests and events that need an ID and little else.
type IDDoc struct {
	ID         string
	Client     uint64
	Rows, Cols uint16
	Pid        int
}

// LossDoc says how many lines of a process are not in its log, all in all.
type LossDoc struct {
	ID     string
	Lines  int64
	Reason string
}

// AttachReply names the client from now on.
type AttachReply struct {
	Client uint64
	At     logfile.Position
}

// StatusDoc is the engine's word on how an orphan ended.
type StatusDoc struct {
	ID     string
	Status syscall.WaitStatus
}
