package stream

import (
	"bytes"

	"github.com/tare-engine/tare/internal/linux/epoll"
	"github.com/tare-engine/tare/internal/linux/rawfd"
	"github.com/tare-engine/tare/internal/linux/unixconn"
)

// input is the standard input of one process, seen from outside. The set's mu
// guards it.
type input struct {
	tty   bool
	end   *source // the pipe's writing end, or the master; nil: none (any more)
	typed []byte  // to be written, but the pipe is full or there is none yet
	ends  bool    // closed once typed is written
}

// put writes to the process and keeps what does not fit; with waits it keeps
// everything. It reports false when the reader is gone.
func (in *input) put(p []byte, waits bool) (open bool) {
	if !waits && in.end == nil || in.ends || len(p) == 0 {
		return true // nobody reads it: as with a pipe to /dev/null
	}
	if waits || len(in.typed) > 0 {
		in.typed = append(in.typed, p...)
		return true
	}
	n, open := in.write(p)
	if open && n < len(p) {
		in.typed = bytes.Clone(p[n:])
	}
	return open
}

// flush writes what was kept. It reports whether nothing is left, and false for
// open when the reader is gone or this was the end.
func (in *input) flush() (done, open bool) {
	if len(in.typed) == 0 || in.end == nil {
		in.typed = nil
		return true, true
	}
	in.end.take(epoll.Write)
	n, open := in.write(in.typed)
	if !open {
		return true, false
	}
	if in.typed = in.typed[n:]; len(in.typed) > 0 {
		return false, true
	}
	in.typed = nil
	return true, !in.ends
}

// write writes as much as the process takes; open is false when nobody reads.
func (in *input) write(p []byte) (written int, open bool) {
	for len(p) > 0 {
		n, err := rawfd.Write(in.end.fd, p)
		p, written = p[n:], written+n
		if err == rawfd.Again {
			break
		}
		if err == rawfd.NoSlave && in.tty {
			return written + len(p), true // no process has the terminal: nobody types to
		}
		if err != nil {
			return written, false
		}
	}
	return written, true
}

// endsLater reports whether what was kept must be written before the end; then
// flush tells of it.
func (in *input) endsLater() bool {
	in.ends = in.ends || len(in.typed) > 0
	return len(in.typed) > 0
}

// take gives the end away and forgets everything.
func (in *input) take() *source {
	src := in.end
	if src != nil {
		in.end, in.typed, in.ends = nil, nil, false
	}
	return src
}

// passInput writes to the process what its clients have typed. Before the start
// a terminal has no end to write to: what has been typed by then stays with the
// clients, whose readiness is not taken.
func (t *set) passInput(buf []byte) (again bool) {
	if !t.started {
		return false
	}
	if t.in.end != nil && t.in.end.take(epoll.Hup) && !t.stdio.TTY {
		t.closeInput() // the process has closed its stdin
	}
	if !t.writeTyped() {
		return false // the pipe is full; clients wait until it is not
	}
	for _, c := range t.audience.clients {
		if c.stdin && (c.src.take(epoll.Read) || c.src.is(epoll.Hup)) {
			again = t.readClient(c, buf) || again
		}
		if len(t.in.typed) > 0 {
			break
		}
	}
	return again
}

// readClient reads once from a client; more reports whether it may have more.
func (t *set) readClient(c *client, buf []byte) (more bool) {
	n, err := unixconn.Receive(c.src.fd, buf[:inputSize])
	switch {
	case err == rawfd.Again:
		return false
	case n == 0 || err != nil:
		t.inputEnds(c)
		return false
	}
	c.src.mark(epoll.Read)
	t.input(c, buf[:n])
	return true
}

// inputSize is what one read takes from a client, and so the most that is kept
// while the pipe is full.
const inputSize = 64 << 10

// input takes bytes of a client for the process.
func (t *set) input(c *client, p []byte) {
	found := false
	if len(c.keys.keys) > 0 {
		p, found = c.keys.filter(nil, p)
	}
	t.typeBytes(p)
	if found {
		t.events = append(t.events, func(ev Events) { ev.Detached(t.id, c.id) })
		c.stdin, c.ends = false, false
		c.leaves = true
	}
}

// typeBytes gives the process what was typed. Before the start that waits.
func (t *set) typeBytes(p []byte) {
	if !t.in.put(p, !t.started && t.stdio.OpenStdin) {
		t.closeInput()
	}
}

// writeTyped writes what was kept, and reports whether nothing is left.
func (t *set) writeTyped() bool {
	done, open := t.in.flush()
	if !open {
		t.closeInput()
	}
	return done
}

// inputEnds is called when a client sends no more. As in Docker it closes the
// process's stdin if that is open for one client only; otherwise, and with a
// terminal, the client's attachment ends.
func (t *set) inputEnds(c *client) {
	c.stdin = false
	if len(c.keys.keys) > 0 {
		t.typeBytes(c.keys.keys[:c.keys.seen])
	}
	if !t.stdio.StdinOnce || t.stdio.TTY {
		c.leaves = true
		return
	}
	if !t.in.endsLater() {
		t.closeInput()
	}
}

// closeInput closes stdin: the process gets end of file as soon as the engine
// closes its duplicate too. A terminal's master stays.
func (t *set) closeInput() {
	src := t.in.take()
	if src == nil {
		return
	}
	if t.stdio.TTY {
		return
	}
	if t.started {
		t.s.unwatch(src)
	} else {
		rawfd.Close(src.fd)
		src.fd = -1
	}
	if !t.ended {
		t.events = append(t.events, func(ev Events) { ev.StdinClosed(t.id) })
	}
}
