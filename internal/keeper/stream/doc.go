// Package stream owns the standard input, output and error of the keeper's
// processes: it logs what they write, gives it to attached clients, and passes
// on what those type.
//
//	ends, err := s.Open(id, stdio)   // FIFOs or a terminal; the child gets ends
//	client, at, err := s.Attach(…)   // before the start too: no output is missed
//	err = s.Started(id)              // exec was done: reading begins
//	…
//	s.Drain(id, status)              // the process is dead: the log has all of it
//	s.Close(id); s.Remove(id)
//
// One goroutine waits for all descriptors. What becomes ready marks its source
// and puts the process's set into a queue; a few workers take sets from it
// and let each have a turn: read what its process wrote, send it to the attached
// clients, append it to the log, pass on what clients typed. A set is with one
// worker at a time, so the order of bytes is kept, and the workers' buffers are
// the only ones: a silent process owns none, and no goroutine. A turn may wait
// for the disk; others then go on with the other workers.
//
// A client that falls behind is served from a spool (an unlinked file), and its
// process waits only when that is full.
//
// Locks: a set's mu, then Streams.mu. Events are sent with neither held.
package stream

// Events is what the server is told; it must not block.
type Events interface {
	// Detached says that a client has left by the detach keys.
	Detached(id string, client uint64)
	StdinClosed(id string)
	// Abandoned says that a client has gone whose leaving ends the process.
	Abandoned(id string)
	// LogLost says how many lines of a process could not be written to its log
	// so far. It may be told again.
	LogLost(id string, lines int64, reason string)
}
