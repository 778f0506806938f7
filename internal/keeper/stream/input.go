package stream

import (
	"bytes"

	"github.com/tare-engine/tare/internal/linux/epoll"
	"github.com/tare-engine/tare/internal/linux/rawfd"
	"github.com/tare-engine/tare/internal/linux/unixconn"
)

// passInput writes to the process what its clients have typed. Before the start
// a terminal has no end to write to: what has been typed by then stays with the
// clients, whose readiness is not taken.
func (t *set) passInput(buf []byte) (again bool) {
	if !t.started {
		return false
	}
	if t.in != nil && t.in.take(epoll.Hup) && !t.stdio.TTY {
		t.closeInput() // the process has closed its stdin
	}
	if !t.writeTyped() {
		return false // the pipe is full; clients wait until it is not
	}
	for _, c := range t.clients {
		if c.stdin && (c.src.take(epoll.Read) || c.src.is(epoll.Hup)) {
			again = t.readClient(c, buf) || again
		}
		if len(t.typed) > 0 {
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

// typeBytes writes to the process's stdin and keeps what does not fit.
func (t *set) typeBytes(p []byte) {
	waits := !t.started && t.stdio.OpenStdin // what came with the client's request
	if !waits && t.in == nil || t.inEnds || len(p) == 0 {
		return // nobody reads it: as with a pipe to /dev/null
	}
	if waits || len(t.typed) > 0 {
		t.typed = append(t.typed, p...)
		return
	}
	if n := t.write(p); n < len(p) && t.in != nil {
		t.typed = bytes.Clone(p[n:])
	}
}

// write writes to stdin as much as it takes; a reader that is gone closes it.
func (t *set) write(p []byte) (written int) {
	for len(p) > 0 {
		n, err := rawfd.Write(t.in.fd, p)
		p, written = p[n:], written+n
		if err == rawfd.Again {
			break
		}
		if err == rawfd.NoSlave && t.stdio.TTY {
			return written + len(p) // no process has the terminal: nobody types to
		}
		if err != nil {
			t.closeInput()
			break
		}
	}
	return written
}

// writeTyped writes what was kept, and reports whether nothing is left.
func (t *set) writeTyped() bool {
	if len(t.typed) == 0 || t.in == nil {
		t.typed = nil
		return true
	}
	t.in.take(epoll.Write)
	n := t.write(t.typed)
	if t.in == nil {
		return true
	}
	if t.typed = t.typed[n:]; len(t.typed) > 0 {
		return false
	}
	t.typed = nil
	if t.inEnds {
		t.closeInput()
	}
	return true
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
	if len(t.typed) > 0 {
		t.inEnds = true
		return
	}
	t.closeInput()
}

// closeInput closes stdin: the process gets end of file as soon as the engine
// closes its duplicate too. A terminal's master stays.
func (t *set) closeInput() {
	src := t.in
	if src == nil {
		return
	}
	t.in, t.typed, t.inEnds = nil, nil, false
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

// CloseStdin closes a process's stdin for good.
func (s *Streams) CloseStdin(id string) error {
	t, err := s.set(id)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.unlock()
	if len(t.typed) > 0 {
		t.inEnds = true
		return nil
	}
	t.closeInput()
	return nil
}
