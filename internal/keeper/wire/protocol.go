// Package wire is what engine and keeper say to each other: packets, documents, and
// the words both use.
package wire

import (
	"fmt"

	"github.com/tare-engine/tare/internal/errdefs"
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
	_ // was to close a standard input; nobody asked
	OpAck
	OpList
	OpAdopt
	OpUpgrade
	OpStatus // how an orphan ended, if the engine could reap it
	OpShutdown
	OpPing // instead of hello: is anybody there?
	OpHold
	OpHeld // instead of hello: the host ports of all processes
)

// The keeper answers and tells.
const (
	OpReply Op = 100 + iota
	OpBorn
	OpExited
	OpDetached
	OpStdinClosed
	OpOrphanEnded
	OpLogLost
)

var opNames = map[Op]string{
	OpHello: "hello", OpStart: "start", OpPark: "park", OpWake: "wake", OpEvict: "evict", OpAttach: "attach",
	OpResume: "resume", OpResize: "resize", OpAck: "ack", OpList: "list",
	OpAdopt: "adopt", OpUpgrade: "upgrade", OpStatus: "status", OpShutdown: "shutdown", OpPing: "ping", OpHold: "hold", OpHeld: "held", OpReply: "reply", OpBorn: "born",
	OpExited: "exited", OpDetached: "detached", OpStdinClosed: "stdin closed", OpOrphanEnded: "orphan ended", OpLogLost: "log lost",
}

func (o Op) String() string {
	if n := opNames[o]; n != "" {
		return n
	}
	return fmt.Sprintf("operation %d", uint16(o))
}

// ProtocolVersion is what both sides name in their hello. Fields are only
// ever added to documents, so a newer side can talk to an older one.
//
//	2  a keeper takes host ports with a start, and by hold
//	3  a start may execute an OCI runtime
//	4  a keeper says which program it runs
//	5  a start may name the user namespace of its child
//	6  a log may be in another format than json-file's
const ProtocolVersion = 6

// OldestVersion is the first version that this program can talk to.
const OldestVersion = 1

// Speaks refuses a peer of a version that this program cannot talk to.
func Speaks(version int) error {
	if version < OldestVersion {
		return errdefs.New(errdefs.InvalidArgument, "protocol version %d, the oldest one spoken here is %d", version, OldestVersion)
	}
	return nil
}

// PortsVersion is the first version whose keeper takes host ports.
const PortsVersion = 2

// RuntimeVersion is the first version whose keeper executes OCI runtimes.
const RuntimeVersion = 3

// UserNSVersion is the first version whose keeper gives birth in a user namespace.
const UserNSVersion = 5

// FormatVersion is the first version whose keeper knows formats of logs.
const FormatVersion = 6

// MaxStartClients is how many clients may come with a start.
const MaxStartClients = 10
