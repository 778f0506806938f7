package keeper

import (
	"encoding/json"
	"os"

	"github.com/tare-engine/tare/internal/logfile"
)

// streamer is what the server needs of the loop that owns all stdio. All
// methods are safe for concurrent use; none waits for a client.
type streamer interface {
	// setDirs gives the directories of logs and of the spool, once an engine
	// has said hello; again after the next hello.
	setDirs(containers, spool *os.File)

	// open makes the FIFOs (or the terminal's socket) of a process and returns
	// what its child gets as 5, 6 and 7. They stay the streamer's.
	open(id string, st Stdio) (child [3]*os.File, err error)

	// attach adds a client. Before started it takes effect then, so that no
	// output is missed. It takes Conn on success, and only then.
	attach(id string, c Client) (client uint64, at logfile.Position, err error)

	// started says that the exec is done: close the child's ends, take the
	// terminal's master, begin to read.
	started(id string) error

	// files returns new duplicates of a process's streams for the engine.
	files(id string) (Files, error)

	resume(client uint64) error
	resize(id string, rows, cols uint16) error
	closeStdin(id string) error

	// drain says that the process is dead (status is the frame for clients with
	// Status, nil if there is none): read what is left (not more than
	// pipes hold), log it, give it to clients, and end their streams. It
	// returns when the log has it.
	drain(id string, status []byte)

	// close forgets the process: after drain, or when its start failed. remove
	// takes its FIFOs from the disk as well.
	close(id string)
	remove(id string)

	// adopt serves a process of an earlier keeper. Missing files are opened
	// again by path. It takes the files.
	adopt(id string, st Stdio, f Files) error

	// freeze stops the loop for good and returns what thaw needs in the program
	// that follows by exec: a document, and the descriptors that it names by
	// number, which stay open over the exec.
	freeze() (json.RawMessage, error)
	thaw(json.RawMessage) error
}

// streamEvents is what the streamer tells the server; it must not block.
type streamEvents interface {
	detached(id string, client uint64)
	stdinClosed(id string)
}
