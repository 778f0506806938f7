package stream

import (
	"slices"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/epoll"
	"github.com/tare-engine/tare/internal/linux/rawfd"
	"github.com/tare-engine/tare/internal/linux/unixconn"
	"github.com/tare-engine/tare/internal/logfile"
)

// client is a connection that gets a process's output, and may type.
//
// While it takes everything at once it owns no memory. When its socket is full
// it is behind: it has a place in the set's spool and is served from there until
// it has caught up.
type client struct {
	id   uint64
	src  *source
	want [2]bool // stdout, stderr

	stdin bool // what it sends goes to the process
	keys  detachKeys

	ends   bool   // the process ends with it
	status bool   // gets the status at the end, and its connection is not ended
	held   bool   // gets nothing before resume
	behind bool   // is served from the spool, beginning at place
	first  []byte // to be sent before what is in the spool
	place  int64
	frame  int64 // bytes of the frame at place that are still to be sent; 0: a new one begins

	took   time.Time // when it last took a byte
	leaves bool      // gets what is there, and then its connection ends
	halved bool      // was told that no more output comes
	gone   bool      // its connection is over
}

const (
	maxClients = 100
	// clientBuffer is what the kernel keeps for a client before it counts as
	// behind: two reads.
	clientBuffer = 2 * readSize
)

// Attach adds a client. The position is where the log is; with Hold it is exact:
// what is not in the log before it comes after resume. Conn is taken only if
// there is no error.
func (s *Streams) Attach(id string, cl wire.Client) (uint64, logfile.Position, error) {
	t, err := s.set(id)
	if err != nil {
		return 0, logfile.Position{}, err
	}
	t.mu.Lock()
	defer t.unlock()
	if len(t.audience.clients) >= maxClients {
		return 0, logfile.Position{}, errdefs.New(errdefs.Conflict, "%d clients are attached already", maxClients)
	}
	var at logfile.Position
	if cl.Hold && t.log != nil {
		if at, err = t.log.Position(); err != nil {
			return 0, at, err
		}
		t.s.markBusy(t)
	}
	c, err := t.newClient(cl)
	if err != nil {
		return 0, at, err
	}
	s.mu.Lock()
	s.nextClient++
	c.id = s.nextClient
	s.mu.Unlock()
	failpoint.Hit("attach/checked")
	if err := t.addClient(c); err != nil {
		return 0, at, err
	}
	failpoint.Hit("attach/booked")
	cl.Conn.Close()
	if cl.Hold {
		t.hold(c)
	}
	if c.stdin && len(cl.Buffered) > 0 {
		t.input(c, cl.Buffered)
	}
	t.s.queue.put(t)
	return c.id, at, nil
}

// addClient books a client and lets the loop wait for it.
func (t *set) addClient(c *client) error {
	c.src.client = c
	if err := t.s.watch(c.src, epoll.Read|epoll.Write); err != nil {
		rawfd.Close(c.src.fd)
		return err
	}
	t.s.mu.Lock()
	t.s.clients[c.id] = c
	t.s.mu.Unlock()
	t.audience.clients = append(t.audience.clients, c)
	return nil
}

func (t *set) newClient(cl wire.Client) (*client, error) {
	fd, err := rawfd.DupFile(cl.Conn)
	if err != nil {
		return nil, err
	}
	if err := unixconn.Check(fd); err != nil {
		rawfd.Close(fd)
		return nil, errdefs.As(errdefs.InvalidArgument, err)
	}
	_ = unixconn.SendBuffer(fd, clientBuffer) // less is only slower
	c := &client{
		src:   &source{fd: fd, set: t},
		want:  [2]bool{cl.Stdout, cl.Stderr},
		stdin: cl.Stdin && t.stdio.OpenStdin,

		ends:   cl.Ends,
		status: cl.Status && t.audience.framed,
		keys:   detachKeys{keys: cl.DetachKeys},
		took:   time.Now(),
	}
	if t.stdio.TTY {
		c.want = [2]bool{cl.Stdout || cl.Stderr, false}
	}
	return c, nil
}

// hold puts a client behind from now on. The log's unfinished lines are before
// this moment but not in the log: the client gets them first.
func (t *set) hold(c *client) {
	c.held, c.behind, c.place = true, true, t.audience.spool.end
	if t.log == nil {
		return
	}
	for i, want := range c.want {
		tail := t.log.Tail(logfile.Stream(1 + i))
		if !want || len(tail) == 0 {
			continue
		}
		if t.audience.framed {
			var h [frameHeader]byte
			putHeader(h[:], logfile.Stream(1+i), len(tail))
			c.first = append(c.first, h[:]...)
		}
		c.first = append(c.first, tail...)
	}
}

// Resume lets a held client have what has come since it was attached.
func (s *Streams) Resume(id uint64) error {
	s.mu.Lock()
	c := s.clients[id]
	s.mu.Unlock()
	if c == nil {
		return errdefs.New(errdefs.NotFound, "no attached client %d", id)
	}
	t := c.src.set
	t.mu.Lock()
	defer t.unlock()
	failpoint.Hit("attach/resumed")
	c.held = false
	c.took = time.Now()
	s.queue.put(t)
	return nil
}

// progress lets the process go on, or the spool begin anew, where clients have
// moved on or left.
func (t *set) progress() {
	t.audience.forgetSent()
	for _, src := range t.out {
		if src != nil && src.fd >= 0 && src.is(epoll.Read|epoll.Hup) {
			t.s.queue.put(t)
		}
	}
}

// serveClients ends the connections of clients that are through, and of those
// that have gone.
func (t *set) serveClients() {
	n := len(t.audience.clients)
	t.audience.clients = slices.DeleteFunc(t.audience.clients, func(c *client) bool {
		if !c.stdin && c.src.is(epoll.Hup) {
			c.gone = true // with stdin, reading comes to the end first
		}
		lost := c.gone || c.leaves
		if !c.gone && !c.behind && t.through(c) {
			t.leave(c)
		}
		if c.gone {
			if c.ends && lost {
				t.abandon()
			}
			if c.stdin {
				t.inputEnds(c)
			}
			c.release()
		}
		return c.gone
	})
	if len(t.audience.clients) < n {
		t.progress()
	}
}

// abandon says that the process is to end, as soon as it runs.
func (t *set) abandon() {
	t.abandoned = true
	if t.started && !t.ended {
		t.events = append(t.events, func(ev Events) { ev.Abandoned(t.id) })
	}
}

// leave lets a client go that has all output.
func (t *set) leave(c *client) {
	c.gone = true
	if !c.status || c.leaves || t.status == nil {
		unixconn.End(c.src.fd)
		return
	}
	_ = unixconn.SendBuffer(c.src.fd, 4*clientBuffer) // there is room, so it is sent whole
	unixconn.Send(c.src.fd, t.status)
}

// through reports whether a client has everything it will get. One that may
// type to a living process is only told that there is no more output.
func (t *set) through(c *client) bool {
	if c.leaves || t.ended {
		return true
	}
	if c.status || !t.outputsEnded() {
		return false
	}
	if c.stdin && t.in.end != nil {
		if !c.halved {
			c.halved = true
			unixconn.EndWrite(c.src.fd)
		}
		return false
	}
	return true
}

// release gives a client's descriptor back.
func (c *client) release() {
	s := c.src.set.s
	s.mu.Lock()
	delete(s.clients, c.id)
	s.mu.Unlock()
	s.unwatch(c.src)
}
