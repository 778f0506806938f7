package keeper

import (
	"context"
	"fmt"
	"os"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/spawn"
	"github.com/tare-engine/tare/internal/logfile"
)

// Start starts a process and returns when its program runs. A plan that fails
// is a *StepError; then nothing is left of it. The clients' connections are
// the keeper's on success: close them here.
func (c *Conn) Start(ctx context.Context, s Start) (*Process, error) {
	return c.start(ctx, wire.OpStart, s)
}

// Park clones a child whose plan ends in a park step, and returns when it is
// there.
func (c *Conn) Park(ctx context.Context, s Start) (*Process, error) {
	return c.start(ctx, wire.OpPark, s)
}

// Wake sends a parked child on with its second plan, s.Plan, and returns when
// its program runs. If it fails the child is gone.
func (c *Conn) Wake(ctx context.Context, s Start) (*Process, error) {
	return c.start(ctx, wire.OpWake, s)
}

func (c *Conn) start(ctx context.Context, o wire.Op, s Start) (*Process, error) {
	if len(s.FDs) > spawn.MaxFDs || len(s.Clients) > wire.MaxStartClients {
		return nil, errdefs.New(errdefs.InvalidArgument, "a start with %d descriptors and %d clients is too large", len(s.FDs), len(s.Clients))
	}
	if s.External && c.ver.Load() < wire.RuntimeVersion {
		return nil, errdefs.New(errdefs.Unavailable, "the keeper is of an earlier version, which executes no other runtimes, and could not be upgraded: the engine's log says why")
	}
	if s.UserNS != nil && c.ver.Load() < wire.UserNSVersion {
		return nil, errdefs.New(errdefs.Unavailable, "the keeper is of an earlier version, which starts nobody in another's user namespace, and could not be upgraded: the engine's log says why")
	}
	if l := s.Stdio.Log; l != nil && l.Format != logfile.JSON && c.ver.Load() < wire.FormatVersion {
		return nil, errdefs.New(errdefs.Unavailable, "the keeper is of an earlier version, which keeps no logs of the driver local, and could not be upgraded: the engine's log says why")
	}
	doc := wire.StartDoc{
		ID: s.ID, Container: s.Container, Flags: s.Flags, CgroupFD: s.CgroupFD, Files: len(s.FDs), Stdio: s.Stdio, Born: s.Born != nil, External: s.External, UserNS: s.UserNS != nil,
	}
	payload := make([]byte, 0, len(s.Plan.Bytes)+4*len(s.Plan.Relocs)+len(s.Second.Bytes)+4*len(s.Second.Relocs))
	payload, doc.Plan = wire.AppendImage(payload, s.Plan)
	payload, doc.Second = wire.AppendImage(payload, s.Second)
	files := append([]*os.File(nil), s.FDs...)
	if s.UserNS != nil {
		files = append(files, s.UserNS)
	}
	for _, cl := range s.Clients {
		doc.Clients = append(doc.Clients, cl.Doc())
		payload = append(payload, cl.Buffered...)
		files = append(files, cl.Conn)
	}
	ports := s.Ports
	if c.ver.Load() < wire.PortsVersion {
		ports = nil
	}
	// One place is kept for the payload.
	doc.Ports = min(len(ports), wire.MaxFiles-1-len(files))
	files = append(files, ports[:doc.Ports]...)
	var r wire.ProcessDoc
	got, err := c.call(ctx, o, doc, payload, files, &r, s.Born)
	if err != nil {
		return nil, err
	}
	if rest, err := r.Unpack(got); err != nil || len(rest) > 0 {
		wire.CloseFiles(got)
		return nil, fmt.Errorf("%v %s: malformed answer", o, s.ID)
	}
	// What did not fit follows. It fails only if the process has ended, or with
	// the connection: the next one begins with a list that tells what is held.
	_ = c.hold(ctx, s.ID, ports[doc.Ports:])
	return &r.Process, nil
}

// List returns every running process, with new duplicates of its streams, and
// every exit that is not acknowledged. Starts that another connection asked
// for are waited for.
func (c *Conn) List(ctx context.Context) (running []Process, exits []Exit, err error) {
	defer func() {
		if err != nil {
			for _, p := range running {
				p.Files.Close()
			}
			running, exits = nil, nil
		}
	}()
	for d := (wire.ListDoc{}); ; {
		var r wire.ListReply
		files, err := c.call(ctx, wire.OpList, d, nil, nil, &r, nil)
		if err != nil {
			return running, exits, err
		}
		for _, p := range r.Processes {
			if files, err = p.Unpack(files); err != nil {
				wire.CloseFiles(files)
				return running, exits, err
			}
			running = append(running, p.Process)
			if p.Orphan {
				c.watchStrays(p.Pid)
			}
		}
		exits = append(exits, r.Exits...)
		if d.After = r.Next; d.After == "" {
			return running, exits, nil
		}
	}
}

// Shutdown ends the keeper if nothing runs. Parked children end with it.
func (c *Conn) Shutdown(ctx context.Context) error { return c.ask(ctx, wire.OpShutdown, struct{}{}) }

// Adopt has the keeper serve a process of an earlier keeper. Files that the
// engine holds go along as duplicates; they stay the caller's.
func (c *Conn) Adopt(ctx context.Context, p Process, st Stdio) error {
	c.watchStrays(p.Pid)
	doc := wire.AdoptDoc{ProcessDoc: wire.ProcessDoc{Process: p}, Stdio: st}
	files := doc.Pack(p.Files)
	_, err := c.call(ctx, wire.OpAdopt, doc, nil, files, nil, nil)
	return err
}
