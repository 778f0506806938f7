package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/logfile"
)

// Hello is what an engine says about itself.
type Hello struct {
	EngineID   string
	Containers *os.File // directory of logs
	Spool      *os.File // directory for what slow clients have not taken yet
}

// Events are told to the engine, one after the other. They must not wait for
// the keeper's answers.
type Events interface {
	// Exited may be told more than once, and List tells it as well, until Ack.
	Exited(Exit)
	// Detached says that a client has left by the detach keys.
	Detached(id string, client uint64)
	StdinClosed(id string)
	// LogLost says how many lines of a process's output are not in its log so
	// far, and why. It may be told again, also by another keeper, who counts
	// from 0.
	LogLost(id string, lines int64, reason string)
	// Lost says that the connection is gone, with every request on it. Dial
	// again, and ask for the list.
	Lost(error)
}

// ErrLost is the error of a request whose connection went away: what it asked
// for may have happened or not. List tells.
var ErrLost = errdefs.New(errdefs.Unavailable, "the connection to the keeper of the containers' processes was lost; try again")

// Conn is an engine's connection to its keeper.
type Conn struct {
	w     *wire.Socket
	ev    Events
	pid   int
	ver   atomic.Int64 // the keeper's protocol version
	gone  chan struct{}
	ended sync.WaitGroup

	mu    sync.Mutex
	next  uint64             // +checklocks:mu
	calls map[uint64]*inCall // +checklocks:mu
	lost  bool               // +checklocks:mu

	orphans map[int]bool // pids whose status reapOrphan takes; +checklocks:mu
}

// inCall is a request that waits for its answer.
type inCall struct {
	answer chan *wire.Message // holds one
	born   func(pid int)
}

// Dial connects to the keeper that listens at path. The directories of the
// hello stay the caller's. A keeper of a protocol that this program does not
// speak is an error.
func Dial(ctx context.Context, path string, h Hello, ev Events) (*Conn, error) {
	c, err := dial(ctx, path, h, ev)
	if err != nil {
		return nil, err
	}
	if err := wire.Speaks(int(c.ver.Load())); err != nil {
		return nil, errors.Join(fmt.Errorf("the keeper, pid %d: %w", c.pid, err), c.Close())
	}
	return c, nil
}

// dial is Dial with any keeper.
func dial(ctx context.Context, path string, h Hello, ev Events) (*Conn, error) {
	dir, short, err := wire.ShortPath(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unixpacket", short)
	if err != nil {
		return nil, err
	}
	c := &Conn{w: wire.NewSocket(nc.(*net.UnixConn)), ev: ev, gone: make(chan struct{}), calls: map[uint64]*inCall{}}
	c.ended.Add(1)
	go c.receive()
	doc := wire.HelloDoc{Version: wire.ProtocolVersion, EngineID: h.EngineID}
	var files []*os.File
	if h.Containers != nil && h.Spool != nil {
		doc.Dirs, files = true, []*os.File{h.Containers, h.Spool}
	}
	var r wire.HelloReply
	if _, err := c.call(ctx, wire.OpHello, doc, nil, files, &r, nil); err != nil {
		c.Close()
		return nil, fmt.Errorf("hello: %w", err)
	}
	c.pid = r.Pid
	c.ver.Store(int64(r.Version))
	return c, nil
}

// KeeperPid is the pid of the keeper.
func (c *Conn) KeeperPid() int { return c.pid }

// Close leaves the keeper to itself. After it returns no event is told.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.lost = true
	c.mu.Unlock()
	err := c.w.Close()
	c.ended.Wait()
	return err
}

// receive takes answers and events until the connection ends.
func (c *Conn) receive() {
	var err error
	for {
		var m *wire.Message
		if m, err = c.w.Receive(); err != nil {
			break
		}
		if m.Op != wire.OpReply {
			c.event(m)
			m.Close()
			continue
		}
		c.mu.Lock()
		in := c.calls[m.Request]
		delete(c.calls, m.Request)
		c.mu.Unlock()
		if in == nil { // its caller has left
			m.Close()
			continue
		}
		in.answer <- m
	}
	close(c.gone)
	c.mu.Lock()
	closed := c.lost
	c.lost = true
	c.mu.Unlock()
	c.w.Close()
	c.ended.Done() // Lost may call Close
	if !closed {
		c.ev.Lost(err)
	}
}

func (c *Conn) event(m *wire.Message) {
	var x Exit
	var l wire.LossDoc
	var d wire.IDDoc
	var err error
	switch m.Op {
	case wire.OpExited:
		err = m.Unmarshal(&x)
	case wire.OpLogLost:
		err = m.Unmarshal(&l)
	default:
		err = m.Unmarshal(&d)
	}
	if err != nil {
		return // of a newer keeper
	}
	switch m.Op {
	case wire.OpExited:
		c.ev.Exited(x)
	case wire.OpDetached:
		c.ev.Detached(d.ID, d.Client)
	case wire.OpStdinClosed:
		c.ev.StdinClosed(d.ID)
	case wire.OpLogLost:
		c.ev.LogLost(l.ID, l.Lines, l.Reason)
	case wire.OpOrphanEnded:
		go c.reapOrphan(d)
	case wire.OpBorn:
		c.mu.Lock()
		in := c.calls[m.Request]
		c.mu.Unlock()
		if in != nil && in.born != nil {
			in.born(d.Pid)
		}
	}
}

// reapOrphan takes the status of a process that became this engine's child
// when its keeper died.
func (c *Conn) reapOrphan(d wire.IDDoc) {
	if ws, err := process.Reap(d.Pid); err == nil {
		_ = c.ask(context.Background(), wire.OpStatus, wire.StatusDoc{ID: d.ID, Status: ws})
	}
}

// call sends a request and waits for the answer, which is decoded into result;
// its descriptors are the caller's. When the context ends first, what was
// asked for goes on.
func (c *Conn) call(ctx context.Context, o wire.Op, doc any, payload []byte, files []*os.File, result any, born func(int)) ([]*os.File, error) {
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	in := &inCall{answer: make(chan *wire.Message, 1), born: born}
	c.mu.Lock()
	if c.lost {
		c.mu.Unlock()
		return nil, ErrLost
	}
	c.next++
	m := &wire.Message{Op: o, Request: c.next, Doc: b, Payload: payload, Files: files}
	c.calls[m.Request] = in
	c.mu.Unlock()
	if err := c.w.Send(m); err != nil {
		c.drop(m.Request, in)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) {
			err = ErrLost
		}
		return nil, err
	}
	select {
	case m := <-in.answer:
		return answer(m, result)
	case <-ctx.Done():
		c.drop(m.Request, in)
		return nil, ctx.Err()
	case <-c.gone:
		select {
		case m := <-in.answer:
			return answer(m, result)
		default:
			return nil, ErrLost
		}
	}
}

// drop forgets a request; an answer that has come is closed.
func (c *Conn) drop(request uint64, in *inCall) {
	c.mu.Lock()
	delete(c.calls, request)
	c.mu.Unlock()
	select {
	case m := <-in.answer:
		m.Close()
	default:
	}
}

// answer decodes a reply.
func answer(m *wire.Message, result any) ([]*os.File, error) {
	var e wire.ErrorDoc
	err := m.Unmarshal(&e)
	if err == nil {
		err = e.Err()
	}
	if err == nil && result != nil {
		err = m.Unmarshal(result)
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return m.Files, nil
}

// ask is call for requests that are answered by nothing.
func (c *Conn) ask(ctx context.Context, o wire.Op, doc any) error {
	files, err := c.call(ctx, o, doc, nil, nil, nil, nil)
	wire.CloseFiles(files)
	return err
}

// Attach hands over a client of a running process. On success its connection
// is the keeper's and the caller should close its own; at is where the log
// goes on with what the client gets. A client with Hold gets nothing before
// Resume.
func (c *Conn) Attach(ctx context.Context, id string, cl Client) (client uint64, at logfile.Position, err error) {
	var r wire.AttachReply
	doc := cl.Doc()
	doc.ID = id
	_, err = c.call(ctx, wire.OpAttach, doc, cl.Buffered, []*os.File{cl.Conn}, &r, nil)
	return r.Client, r.At, err
}

// Resume lets a held client go on.
func (c *Conn) Resume(ctx context.Context, client uint64) error {
	return c.ask(ctx, wire.OpResume, wire.IDDoc{Client: client})
}

// Resize sets the size of a process's terminal.
func (c *Conn) Resize(ctx context.Context, id string, rows, cols uint16) error {
	return c.ask(ctx, wire.OpResize, wire.IDDoc{ID: id, Rows: rows, Cols: cols})
}

// Ack says that the engine has recorded an exit: the keeper forgets it.
func (c *Conn) Ack(ctx context.Context, id string) error {
	return c.ask(ctx, wire.OpAck, wire.IDDoc{ID: id})
}

// Evict ends a parked child. It returns when it is gone; no exit is told.
func (c *Conn) Evict(ctx context.Context, id string) error {
	return c.ask(ctx, wire.OpEvict, wire.IDDoc{ID: id})
}
