package server

import (
	"errors"
	"os"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/rawfd"
)

// Ports of the host are reserved by sockets; others are where a container asks for names. The engine makes them; the keeper
// holds duplicates as long as the process is there, or between two engines
// another program could take a port that packets are still led away from.

// hold takes host ports of a process: with add to those it has, else in their
// place. The files are the list's if there is no error.
func (l *children) hold(id string, ports []*os.File, add bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.byID[id]
	if c == nil {
		return errdefs.New(errdefs.NotFound, "no process %s", id)
	}
	if !add {
		l.freePorts(id)
	}
	c.ports = append(c.ports, ports...)
	return nil
}

// freePorts closes the host ports of a process.
//
// Preconditions: l.mu is held.
func (l *children) freePorts(id string) {
	if c := l.byID[id]; c != nil {
		wire.CloseFiles(c.ports)
		c.ports = nil
	}
}

// heldPorts are the host ports of all processes. They stay the list's, which may close them.
func (l *children) heldPorts() (ports []*os.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.byID {
		ports = append(ports, c.ports...)
	}
	return ports
}

// duplicates are those of the files that are open still: of all at once there may be more
// than the keeper may have.
func duplicates(files []*os.File) (all []*os.File, err error) {
	for _, f := range files {
		fd, err := rawfd.DupFile(f)
		if errors.Is(err, os.ErrClosed) {
			continue
		}
		if err != nil {
			wire.CloseFiles(all)
			return nil, err
		}
		all = append(all, os.NewFile(uintptr(fd), "port"))
	}
	return all, nil
}

// hold does wire.OpHold.
func (k *Keeper) hold(m *wire.Message) error {
	var d wire.HoldDoc
	if err := m.Unmarshal(&d); err != nil {
		return errdefs.As(errdefs.InvalidArgument, err)
	}
	err := k.children.hold(d.ID, m.Files, d.Add)
	if err == nil {
		m.Files = nil // the list's
	}
	return err
}

// sendHeld answers wire.OpHeld, in as many parts as it takes. Starts that the
// last engine asked for are waited for: their ports are among them.
func (k *Keeper) sendHeld(s *session, request uint64) error {
	k.engine.settle()
	for rest := k.children.heldPorts(); ; {
		n := min(len(rest), wire.MaxFiles)
		last := n == len(rest)
		ports, err := duplicates(rest[:n])
		if err != nil {
			return s.reply(request, wire.ErrorOf(err), nil)
		}
		err = s.reply(request, wire.HeldReply{Last: last}, ports)
		wire.CloseFiles(ports)
		if err != nil || last {
			return err
		}
		rest = rest[n:]
	}
}
