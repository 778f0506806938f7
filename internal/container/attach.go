package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/linux/unixconn"
)

// Hijack takes a client's connection out of the API server's hands, with the
// bytes that were read from it already.
type Hijack = func(tty bool) (conn net.Conn, buffered []byte, err error)

// keeperEnd is a client's connection on its way to the keeper.
type keeperEnd struct {
	client keeper.Client
	alive  func() bool // false once the client has gone
}

// Attach connects a client with the container's streams. One that does not run
// yet gets the client when it starts.
func (s *Service) Attach(ctx context.Context, ref string, o api.AttachOptions, hijack Hijack) error {
	c, err := s.index.Find(ref)
	if err != nil {
		return err
	}
	keys, err := detachKeys(o.DetachKeys, c.View().Config.Tty)
	if err != nil {
		return err
	}
	a := &attaching{link: s.link, events: s.events, logDir: s.records.logDir(c.ID), c: c, o: o}
	if !o.Stream {
		conn, _, err := a.answer(ref, hijack)
		if err != nil {
			return err
		}
		defer conn.Close()
		return a.replay(ctx, conn)
	}
	// The lock is held from before the client is told until its end waits or
	// the keeper has it: the client's next request may be the start, which must
	// not overtake its attach, or the first output is lost.
	if _, err := s.link.wait(); err != nil {
		return err
	}
	c.mu.Lock()
	rest, err := a.connect(ctx, ref, keys, hijack)
	c.mu.Unlock()
	if err != nil || rest == nil {
		return err
	}
	return rest()
}

// detachKeys are the keys with which a client leaves: those that it names, or
// Docker's. Nobody types where there is no terminal; what comes there is data.
func detachKeys(names string, tty bool) ([]byte, error) {
	if names == "" {
		names = api.DefaultDetachKeys
	}
	keys, err := api.ParseDetachKeys(names)
	if err != nil {
		return nil, errdefs.New(errdefs.InvalidArgument, "Invalid detach keys (%s) provided: %w", names, err)
	}
	if !tty {
		return nil, nil
	}
	return keys, nil
}

// attaching is one client on its way to a container's streams.
type attaching struct {
	link   *link
	events eventLog
	logDir string
	c      *Container
	o      api.AttachOptions
}

// answer tells the client that its connection is a stream from now on.
func (a *attaching) answer(ref string, hijack Hijack) (net.Conn, []byte, error) {
	v := a.c.View()
	if v.Status == Paused {
		return nil, nil, errdefs.New(errdefs.Conflict, "container %s is paused, unpause the container before attach", ref)
	}
	conn, buffered, err := hijack(v.Config.Tty)
	if err == nil {
		a.events.publish(v, events.ActionAttach)
	}
	return conn, buffered, err
}

// connect answers the client and hands it over. rest is what writes to it and may
// so take as long as the client likes: it needs no lock. nil: nothing is left.
//
// Preconditions: a.c.mu is held.
func (a *attaching) connect(ctx context.Context, ref string, keys []byte, hijack Hijack) (rest func() error, err error) {
	conn, buffered, err := a.answer(ref, hijack)
	if err != nil {
		return nil, err
	}
	failpoint.Hit("attach/hijacked")
	first, err := a.history(ctx)
	if err != nil {
		conn.Close()
		return nil, err
	}
	end, err := newKeeperEnd(conn, buffered, a.o, keys, first)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return a.hand(ctx, end)
}

// history is what a client of a container that does not run is told first: the log
// as it ends now. nil: nothing. The start does not wait for it.
func (a *attaching) history(ctx context.Context) (func(io.Writer) error, error) {
	if !a.o.Logs || a.c.View().Alive() {
		return nil, nil
	}
	at, err := a.logEnd(ctx)
	ctx = context.WithoutCancel(ctx)
	return func(w io.Writer) error { return a.replayUntil(ctx, w, at) }, err
}

// hand gives the client to the keeper, or keeps it until the start. rest is connect's.
//
// Preconditions: a.c.mu is held.
func (a *attaching) hand(ctx context.Context, end keeperEnd) (rest func() error, err error) {
	c := a.c
	if !c.View().Alive() {
		c.waiting = append(liveEnds(c.waiting), end)
		return nil, nil
	}
	defer func() {
		if rest == nil {
			closeEnds([]keeperEnd{end})
		}
	}()
	conn, err := a.link.now()
	if err != nil {
		return nil, err
	}
	end.client.Hold = a.o.Logs
	id, at, err := conn.Attach(ctx, c.ID, end.client)
	if err != nil {
		return nil, fmt.Errorf("attach to container %s: %w", c.ID, err)
	}
	failpoint.Hit("attach/handed-over")
	if !a.o.Logs {
		return nil, nil
	}
	return func() error {
		defer closeEnds([]keeperEnd{end})
		return errors.Join(a.replayUntil(ctx, end.client.Conn, at), conn.Resume(ctx, id))
	}, nil
}

// newKeeperEnd makes what the keeper gets of a connection. A unix socket is
// handed over as it is; of any other kind, and if the client is to be told
// something first, the keeper gets one end of a pair, and we carry the bytes.
func newKeeperEnd(conn net.Conn, buffered []byte, o api.AttachOptions, keys []byte, first func(io.Writer) error) (keeperEnd, error) {
	end := keeperEnd{client: keeper.Client{
		Buffered: buffered, Stdin: o.Stdin, Stdout: o.Stdout, Stderr: o.Stderr, DetachKeys: keys,
	}}
	var err error
	if u, ok := conn.(*net.UnixConn); ok && first == nil {
		end.client.Conn, err = u.File()
		u.Close()
	} else {
		end.client.Conn, err = carry(conn, first)
	}
	if err != nil {
		return end, err
	}
	f := end.client.Conn
	end.alive = func() bool { return !unixconn.HungUp(int(f.Fd())) }
	return end, nil
}

// carry copies between a connection and a new socket pair, and returns the
// other end. The connection is told what first writes before all else.
func carry(conn net.Conn, first func(io.Writer) error) (*os.File, error) {
	near, farConn, err := streamPair()
	if err != nil {
		return nil, err
	}
	far, err := farConn.File()
	farConn.Close()
	if err != nil {
		near.Close()
		return nil, err
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		io.Copy(near, conn)
		near.CloseWrite()
		io.Copy(io.Discard, conn) // what nobody reads would reset the connection when it is closed
	}()
	go func() {
		if first == nil || first(conn) == nil { // else the client has gone
			io.Copy(conn, near)
		}
		near.Close()
		if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			conn.SetReadDeadline(time.Now().Add(lastInput))
			<-read
		}
		conn.Close()
	}()
	return far, nil
}

// lastInput is how long a client may take to notice that its process has ended.
const lastInput = 5 * time.Second

// streamPair returns two connected sockets.
func streamPair() (a, b *net.UnixConn, err error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range pair {
		f := os.NewFile(uintptr(fd), "socketpair")
		c, err := net.FileConn(f)
		err = errors.Join(err, f.Close())
		if err != nil {
			return nil, nil, err
		}
		conns[i] = c.(*net.UnixConn)
	}
	return conns[0], conns[1], nil
}

func closeEnds(ends []keeperEnd) {
	for _, e := range ends {
		e.client.Conn.Close()
	}
}

// liveEnds closes and drops the ends whose client has gone.
func liveEnds(ends []keeperEnd) []keeperEnd {
	var live []keeperEnd
	for _, e := range ends {
		if e.alive() {
			live = append(live, e)
		} else {
			e.client.Conn.Close()
		}
	}
	return live
}

func clients(ends []keeperEnd) []keeper.Client {
	cs := make([]keeper.Client, len(ends))
	for i, e := range ends {
		cs[i] = e.client
	}
	return cs
}

// Resize sets the size of the container's terminal.
func (s *Service) Resize(ctx context.Context, ref string, rows, cols uint16) error {
	c, err := s.index.Find(ref)
	if err != nil {
		return err
	}
	if !c.View().Alive() {
		return errNotRunning(c.View())
	}
	conn, err := s.link.wait()
	if err != nil {
		return err
	}
	v := c.View()
	if err := conn.Resize(ctx, c.ID, rows, cols); err != nil {
		return err
	}
	s.events.publish(v, events.ActionResize, "height", fmt.Sprint(rows), "width", fmt.Sprint(cols))
	return nil
}
