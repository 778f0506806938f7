package stream

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/tare-engine/tare/internal/linux/epoll"
	"github.com/tare-engine/tare/internal/linux/fifo"
	"github.com/tare-engine/tare/internal/linux/rawfd"
	"github.com/tare-engine/tare/internal/logfile"
)

const (
	// frameHeader is Docker's: stream, three zeros, big-endian length.
	frameHeader = 8
	// readSize is what one read takes. Measured: 64 KiB give 20 % less.
	readSize = 256 << 10
	// turnBytes ends a turn, so that one busy process leaves time for others.
	turnBytes = 2 << 20
	// busyPipe is what the FIFO of a process that fills it is made to hold.
	busyPipe = 1 << 20
)

// turnBuffers are the workers' buffers: a frame's header and what one read took.
var turnBuffers = sync.Pool{New: func() any { b := make([]byte, frameHeader+readSize); return &b }}

// turn does what is possible without waiting, and reports whether more is.
func (t *set) turn() (again bool) {
	bp := turnBuffers.Get().(*[]byte)
	defer turnBuffers.Put(bp)
	t.mu.Lock()
	defer t.unlock()
	served, again := t.audience.flush(*bp)
	if served {
		t.progress()
	}
	if t.started && !t.ended {
		again = t.readOutputs(*bp) || again
	}
	again = t.passInput(*bp) || again
	t.serveClients()
	t.forget()
	return again
}

// readOutputs reads what the process wrote, but for turnBytes.
func (t *set) readOutputs(buf []byte) (again bool) {
	for i, src := range t.out {
		if src == nil || src.fd < 0 {
			continue
		}
		for total := 0; src.fd >= 0 && (src.take(epoll.Read) || src.is(epoll.Hup)); {
			if t.audience.full() {
				src.mark(epoll.Read)
				t.s.markBusy(t) // or a client that stopped is never noticed
				break           // progress of a client gives a turn
			}
			n, more := t.readOutput(i, buf)
			if total += n; more {
				src.mark(epoll.Read)
			}
			if total >= turnBytes {
				again = more
				break
			}
		}
	}
	return again
}

// readOutput does one read of an output; more reports whether another may give
// something.
func (t *set) readOutput(i int, buf []byte) (n int, more bool) {
	src := t.out[i]
	n, err := rawfd.Read(src.fd, buf[frameHeader:])
	switch {
	case n > 0:
		t.deliver(logfile.Stream(1+i), buf[:frameHeader+n])
		if t.stdio.TTY {
			return n, true // a terminal gives 4 KiB at a time
		}
		if n >= 1<<16 && !t.grown[i] {
			t.grown[i] = true
			_ = fifo.Grow(src.fd, busyPipe) // it only saves time
		}
		// A pipe that gave less than it was asked for was empty, and the next
		// write into it is an event.
		return n, n == len(buf)-frameHeader || src.is(epoll.Hup)
	case err == rawfd.Again, err == rawfd.NoSlave:
		// Without a slave nobody has the terminal open just now; the process may
		// open it again, and then there is an event.
		src.take(epoll.Hup)
		return 0, false
	}
	t.endOutput(i) // end of file, or a descriptor that cannot be read
	return 0, false
}

// readRest reads what is left when the process is dead: not more than its pipes
// hold, for a process of another container may have them open and write on.
func (t *set) readRest() {
	bp := turnBuffers.Get().(*[]byte)
	defer turnBuffers.Put(bp)
	for i, src := range t.out {
		if src == nil || src.fd < 0 {
			continue
		}
		left := busyPipe
		if n, err := fifo.Size(src.fd); err == nil {
			left = n
		}
		for left > 0 {
			n, err := rawfd.Read(src.fd, (*bp)[frameHeader:])
			if n <= 0 || err != nil {
				break
			}
			t.deliver(logfile.Stream(1+i), (*bp)[:frameHeader+n])
			left -= n
		}
	}
}

// deliver gives one read, behind room for a frame's header, to clients and log.
func (t *set) deliver(s logfile.Stream, frame []byte) {
	now := time.Now()
	t.lastUse = now
	payload := frame[frameHeader:]
	if t.audience.framed {
		putHeader(frame, s, len(payload))
	} else {
		frame = payload
	}
	t.audience.send(s, frame)
	if t.log == nil {
		return
	}
	_ = t.log.Write(s, payload, now) // logged looks at what was lost
	t.logged()
}

func putHeader(b []byte, s logfile.Stream, n int) {
	binary.BigEndian.PutUint64(b, uint64(s)<<56|uint64(uint32(n)))
}

// logged tells the engine of lines that were dropped, once a second at most.
func (t *set) logged() {
	t.s.markBusy(t)
	l := t.log.Loss()
	now := time.Now()
	if l.Lines == t.reported || now.Sub(t.toldAt) < time.Second && !t.ended {
		return // a full disk is no reason to fill another log
	}
	t.reported, t.toldAt = l.Lines, now
	t.events = append(t.events, func(ev Events) { ev.LogLost(t.id, l.Lines, l.Reason) })
}

// endOutput closes an output that has ended and logs its unfinished line.
func (t *set) endOutput(i int) {
	src := t.out[i]
	if src == nil || src.fd < 0 {
		return
	}
	if t.in.end == src {
		t.in.end = nil
	}
	if t.started {
		t.s.unwatch(src)
	} else {
		rawfd.Close(src.fd)
		src.fd = -1
	}
	if t.log != nil {
		_ = t.log.Flush(logfile.Stream(1+i), time.Now())
		t.logged()
	}
}

// outputsEnded reports whether clients will get nothing more.
func (t *set) outputsEnded() bool {
	if t.ended {
		return true
	}
	for _, src := range t.out {
		if src != nil && src.fd >= 0 {
			return false
		}
	}
	return t.started
}

// sweep closes what has been idle, and reports whether time has nothing more to
// take back. It is called with mu held.
func (t *set) sweep(now time.Time) (idle bool) {
	if t.log != nil {
		_ = t.log.NoteLoss(now) // there may be room again
		t.logged()
	}
	if now.Sub(t.lastUse) < idleAfter || t.log != nil && !t.closed && t.log.Loss().Unnoted() > 0 {
		return false
	}
	if t.log != nil {
		t.log.Suspend()
	}
	if len(t.audience.behind()) > 0 {
		return false
	}
	t.audience.spool.release()
	return true
}

// systemStream is the stream of a frame with the engine's own words.
const systemStream logfile.Stream = 3

// SystemFrame makes a frame of the engine's own words.
func SystemFrame(text string) []byte {
	b := make([]byte, frameHeader, frameHeader+len(text))
	putHeader(b, systemStream, len(text))
	return append(b, text...)
}
