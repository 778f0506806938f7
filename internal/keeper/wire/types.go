package wire

import (
	"os"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/linux/spawn"
	"github.com/tare-engine/tare/internal/logfile"
)

// Stdio says what a process has as standard input, output and error.
type Stdio struct {
	TTY        bool
	Rows, Cols uint16 // of the terminal, 0: as the kernel makes it
	Console    bool   // the terminal is made by an OCI runtime, which sends its master to live/ID/console
	OpenStdin  bool
	StdinOnce  bool // stdin closes when its first client leaves
	UID, GID   int  // owner of the FIFOs: the process's user
	Log        *Log // nil: output is not kept (exec)
	OddFrames  bool // clients get frames from a terminal, or none where there is none
}

// Framed reports whether clients get the output in frames that name its stream.
func (s Stdio) Framed() bool { return s.TTY == s.OddFrames }

// Log says where output is kept.
type Log struct {
	Dir      string // below the containers directory, e.g. "ID/log"
	MaxSize  int64  // bytes before a rotation; 0 or less: none
	MaxFiles int
	Compress bool
	Attrs    map[string]string // added to each line
	Format   logfile.Format    `json:",omitempty"`
}

// Client is a hijacked connection that the keeper serves from now on.
type Client struct {
	Conn                  *os.File
	Buffered              []byte // what was read from it already
	Stdin, Stdout, Stderr bool
	DetachKeys            []byte
	Hold                  bool // send nothing before Resume

	// Status gives the client, behind all output, a frame of the system stream
	// with the exit code. Its connection is then not ended, only closed: the
	// engine has a duplicate and ends it when it has taken note of the exit.
	// Not where the output has no frames, as a terminal's.
	Status bool

	// Ends has the process killed when the client's connection ends before the
	// process does. Detach keys leave it alone.
	Ends bool
}

// Files are a process's streams as seen from outside; nil where it has none.
type Files struct {
	Stdin, Stdout, Stderr, Master *os.File
}

func (f Files) list() []*os.File { return []*os.File{f.Stdin, f.Stdout, f.Stderr, f.Master} }

// Close closes what is there.
func (f Files) Close() {
	for _, x := range f.list() {
		if x != nil {
			x.Close()
		}
	}
}

// Start is a process to be started: by one plan, or by a pair of plans if
// Second is set (see [spawn.Plan.CloneSecond]), as for a container that shares
// a PID namespace.
//
// With External the plans execute the commands of an OCI runtime, one after the
// other, and each runs to its end. The first leaves the process behind that is
// to be started, whose parent the keeper becomes as a subreaper, and has written
// its pid to live/ID/[RuntimePid]; Second, if set, lets that process begin. A
// command that fails is a *RuntimeError.
type Start struct {
	ID        string
	Container string // of an exec: the container's ID
	Flags     uint64 // CLONE_NEW…
	CgroupFD  int    // index in FDs of the cgroup to be born in; -1: none
	Plan      spawn.Image
	Second    spawn.Image
	FDs       []*os.File // the plan's spawn.FD(0), FD(1) …; they stay the caller's
	Stdio     Stdio
	Clients   []Client
	External  bool

	// UserNS, if set, is a user namespace in which the child is born: what Flags
	// make for it belongs to that. It stays the caller's.
	UserNS *os.File

	// Ports are sockets that reserve ports of the host for the process: the
	// keeper has duplicates until its end, so that an engine that was killed
	// gets them back by HeldPorts. They stay the caller's.
	Ports []*os.File

	// Born, if set, is told the pid as soon as there is one, long before the
	// exec if the plan waits at a gate.
	Born func(pid int)
}

// Process is a running process.
type Process struct {
	ID         string
	Container  string // of an exec
	Pid        int
	StartTicks uint64 // of /proc/PID/stat: tells a reused pid
	Parked     bool   // it waits for its second plan
	Orphan     bool   // a child of an earlier keeper whose streams nobody serves: hand it over with Adopt
	Started    time.Time
	Ports      int `json:",omitempty"` // host ports that are held for it; of a list

	// The engine's own duplicates: with them a stream survives the keeper.
	Files `json:"-"`
}

// Exit is the end of a process. It is repeated until it is acknowledged.
type Exit struct {
	ID        string
	Container string
	Pid       int
	Status    syscall.WaitStatus
	At        time.Time
	Unknown   bool // nobody who could know the status was there
}
