package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/keeper/wire"
)

// Hold has the keeper keep the sockets that reserve a process's host ports, in
// place of those it has for that process. They stay the caller's. A keeper of
// before there was this request is not asked.
func (c *Conn) Hold(ctx context.Context, id string, ports []*os.File) error {
	if c.ver.Load() < wire.PortsVersion {
		return nil
	}
	n := min(len(ports), wire.MaxFiles)
	_, err := c.call(ctx, wire.OpHold, wire.HoldDoc{ID: id}, nil, ports[:n], nil, nil)
	if err != nil {
		return err
	}
	return c.hold(ctx, id, ports[n:])
}

// hold adds to what is held for a process.
func (c *Conn) hold(ctx context.Context, id string, ports []*os.File) error {
	for len(ports) > 0 {
		n := min(len(ports), wire.MaxFiles)
		if _, err := c.call(ctx, wire.OpHold, wire.HoldDoc{ID: id, Add: true}, nil, ports[:n], nil, nil); err != nil {
			return err
		}
		ports = ports[n:]
	}
	return nil
}

// heldTimeout is how long a keeper may take to hand over host ports. It waits
// for starts that an engine which has gone had asked for.
const heldTimeout = 15 * time.Second

// HeldPorts fetches the sockets that reserve host ports for running processes
// from the keeper of an exec root; they are the caller's. It needs no Conn and
// disturbs no engine. Without a keeper there are none.
func HeldPorts(ctx context.Context, execRoot string) ([]*os.File, error) {
	w, err := ask(ctx, execRoot, wire.OpHeld, heldTimeout)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer w.Close()
	var ports []*os.File
	for {
		var r wire.HeldReply
		files, err := receiveHeld(w, &r)
		ports = append(ports, files...)
		if err != nil {
			wire.CloseFiles(ports)
			return nil, fmt.Errorf("host ports from the keeper: %w", err)
		}
		if r.Last {
			return ports, nil
		}
	}
}

func receiveHeld(w *wire.Socket, r *wire.HeldReply) ([]*os.File, error) {
	m, err := w.Receive()
	if err != nil {
		return nil, err
	}
	return answer(m, r)
}

// ask connects and sends a question that needs no hello. The answer is to be
// there within the timeout.
func ask(ctx context.Context, execRoot string, o wire.Op, timeout time.Duration) (*wire.Socket, error) {
	dir, short, err := wire.ShortPath(SocketPath(execRoot))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "unixpacket", short)
	if err != nil {
		return nil, err
	}
	w := wire.NewSocket(c.(*net.UnixConn))
	err = c.SetDeadline(time.Now().Add(timeout))
	if err == nil {
		err = w.Send(&wire.Message{Op: o, Doc: []byte("{}")})
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return w, nil
}
