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
	"syscall"

	"github.com/tare-engine/tare/internal/errdefs"
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
	// Lost says that the connection is gone, with every request on it. Dial
	// again, and ask for the list.
	Lost(error)
}

// ErrLost is the error of a request whose connection went away: what it asked
// for may have happened or not. List tells.
var ErrLost = errdefs.New(errdefs.Unavailable, "connection to the keeper lost")

// Conn is an engine's connection to its keeper.
type Conn struct {
	w     *wire
	ev    Events
	pid   int
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
	answer chan *message // holds one
	born   func(pid int)
}

// Dial connects to the keeper that listens at path. The directories of the
// hello stay the caller's.
func Dial(ctx context.Context, path string, h Hello, ev Events) (*Conn, error) {
	dir, short, err := shortPath(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unixpacket", short)
	if err != nil {
		return nil, err
	}
	c := &Conn{w: newWire(nc.(*net.UnixConn)), ev: ev, gone: make(chan struct{}), calls: map[uint64]*inCall{}}
	c.ended.Add(1)
	go c.receive()
	doc := helloDoc{Version: protocolVersion, EngineID: h.EngineID}
	var files []*os.File
	if h.Containers != nil && h.Spool != nil {
		doc.Dirs, files = true, []*os.File{h.Containers, h.Spool}
	}
	var r helloReply
	if _, err := c.call(ctx, opHello, doc, nil, files, &r, nil); err != nil {
		c.Close()
		return nil, fmt.Errorf("hello: %w", err)
	}
	c.pid = r.Pid
	return c, nil
}

// KeeperPid is the pid of the keeper.
func (c *Conn) KeeperPid() int { return c.pid }

// Close leaves the keeper to itself. After it returns no event is told.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.lost = true
	c.mu.Unlock()
	err := c.w.close()
	c.ended.Wait()
	return err
}

// receive takes answers and events until the connection ends.
func (c *Conn) receive() {
	var err error
	for {
		var m *message
		if m, err = c.w.receive(); err != nil {
			break
		}
		if m.op != opReply {
			c.event(m)
			m.close()
			continue
		}
		c.mu.Lock()
		in := c.calls[m.request]
		delete(c.calls, m.request)
		c.mu.Unlock()
		if in == nil { // its caller has left
			m.close()
			continue
		}
		in.answer <- m
	}
	close(c.gone)
	c.mu.Lock()
	closed := c.lost
	c.lost = true
	c.mu.Unlock()
	c.w.close()
	c.ended.Done() // Lost may call Close
	if !closed {
		c.ev.Lost(err)
	}
}

func (c *Conn) event(m *message) {
	var x Exit
	var d idDoc
	var err error
	if m.op == opExited {
		err = m.unmarshal(&x)
	} else {
		err = m.unmarshal(&d)
	}
	if err != nil {
		return // of a newer keeper
	}
	switch m.op {
	case opExited:
		c.ev.Exited(x)
	case opDetached:
		c.ev.Detached(d.ID, d.Client)
	case opStdinClosed:
		c.ev.StdinClosed(d.ID)
	case opOrphanEnded:
		go c.reapOrphan(d)
	case opBorn:
		c.mu.Lock()
		in := c.calls[m.request]
		c.mu.Unlock()
		if in != nil && in.born != nil {
			in.born(d.Pid)
		}
	}
}

// reapOrphan takes the status of a process that became this engine's child
// when its keeper died.
func (c *Conn) reapOrphan(d idDoc) {
	if ws, err := process.Reap(d.Pid); err == nil {
		_ = c.ask(context.Background(), opStatus, statusDoc{d.ID, ws})
	}
}

// call sends a request and waits for the answer, which is decoded into result;
// its descriptors are the caller's. When the context ends first, what was
// asked for goes on.
func (c *Conn) call(ctx context.Context, o op, doc any, payload []byte, files []*os.File, result any, born func(int)) ([]*os.File, error) {
	b, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	in := &inCall{answer: make(chan *message, 1), born: born}
	c.mu.Lock()
	if c.lost {
		c.mu.Unlock()
		return nil, ErrLost
	}
	c.next++
	m := &message{op: o, request: c.next, doc: b, payload: payload, files: files}
	c.calls[m.request] = in
	c.mu.Unlock()
	if err := c.w.send(m); err != nil {
		c.drop(m.request, in)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) {
			err = ErrLost
		}
		return nil, err
	}
	select {
	case m := <-in.answer:
		return m.answer(result)
	case <-ctx.Done():
		c.drop(m.request, in)
		return nil, ctx.Err()
	case <-c.gone:
		select {
		case m := <-in.answer:
			return m.answer(result)
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
		m.close()
	default:
	}
}

// answer decodes a reply.
func (m *message) answer(result any) ([]*os.File, error) {
	var e errorDoc
	err := m.unmarshal(&e)
	if err == nil {
		err = e.err()
	}
	if err == nil && result != nil {
		err = m.unmarshal(result)
	}
	if err != nil {
		m.close()
		return nil, err
	}
	return m.files, nil
}

// ask is call for requests that are answered by nothing.
func (c *Conn) ask(ctx context.Context, o op, doc any) error {
	files, err := c.call(ctx, o, doc, nil, nil, nil, nil)
	closeFiles(files)
	return err
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// Attach hands over a client of a running process. On success its connection
// is the keeper's and the caller should close its own; at is where the log
// goes on with what the client gets. A client with Hold gets nothing before
// Resume.
func (c *Conn) Attach(ctx context.Context, id string, cl Client) (client uint64, at logfile.Position, err error) {
	var r attachReply
	doc := cl.doc()
	doc.ID = id
	_, err = c.call(ctx, opAttach, doc, cl.Buffered, []*os.File{cl.Conn}, &r, nil)
	return r.Client, r.At, err
}

func (cl Client) doc() clientDoc {
	return clientDoc{Buffered: len(cl.Buffered), Stdin: cl.Stdin, Stdout: cl.Stdout, Stderr: cl.Stderr, Hold: cl.Hold, Status: cl.Status, DetachKeys: cl.DetachKeys}
}

// Resume lets a held client go on.
func (c *Conn) Resume(ctx context.Context, client uint64) error {
	return c.ask(ctx, opResume, idDoc{Client: client})
}

// Resize sets the size of a process's terminal.
func (c *Conn) Resize(ctx context.Context, id string, rows, cols uint16) error {
	return c.ask(ctx, opResize, idDoc{ID: id, Rows: rows, Cols: cols})
}

// CloseStdin gives a process the end of its input. Close the engine's
// duplicate first.
func (c *Conn) CloseStdin(ctx context.Context, id string) error {
	return c.ask(ctx, opCloseStdin, idDoc{ID: id})
}

// Ack says that the engine has recorded an exit: the keeper forgets it.
func (c *Conn) Ack(ctx context.Context, id string) error {
	return c.ask(ctx, opAck, idDoc{ID: id})
}

// Evict ends a parked child. It returns when it is gone; no exit is told.
func (c *Conn) Evict(ctx context.Context, id string) error {
	return c.ask(ctx, opEvict, idDoc{ID: id})
}
