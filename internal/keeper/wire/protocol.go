// Package wire is what engine and keeper say to each other: packets, documents, and
// the words both use.
package wire

import (
	"fmt"
)

// Op is what a message wants or tells.
type Op uint16

// The engine asks; each request is answered once, by OpReply.
const (
	OpHello Op = 1 + iota
	OpStart
	OpPark
	OpWake
	OpEvict
	OpAttach
	OpResume
	OpResize
	OpCloseStdin
	OpAck
	OpList
	OpAdopt
	OpUpgrade
	OpStatus // how an orphan ended, if the engine could reap it
	OpShutdown
	OpPing // instead of hello: is anybody there?
)

// The keeper answers and tells.
const (
	OpReply Op = 100 + iota
	OpBorn
	OpExited
	OpDetached
	OpStdinClosed
	OpOrphanEnded
)

var opNames = map[Op]string{
	OpHello: "hello", OpStart: "start", OpPark: "park", OpWake: "wake", OpEvict: "evict", OpAttach: "attach",
	OpResume: "resume", OpResize: "resize", OpCloseStdin: "close stdin", OpAck: "ack", OpList: "list",
	OpAdopt: "adopt", OpUpgrade: "upgrade", OpStatus: "status", OpShutdown: "shutdown", OpPing: "ping", OpReply: "reply", OpBorn: "born",
	OpExited: "exited", OpDetached: "detached", OpStdinClosed: "stdin closed", OpOrphanEnded: "orphan ended",
}

func (o Op) String() string {
	if n := opNames[o]; n != "" {
		return n
	}
	return fmt.Sprintf("operation %d", uint16(o))
}

// ProtocolVersion is what both sides name in their hello. Fields are only
// ever added to documents, so a newer side can talk to an older one.
const ProtocolVersion = 1

// MaxStartClients is how many clients may come with a start.
const MaxStartClients = 10
