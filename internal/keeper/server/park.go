package server

import (
	"errors"
	"fmt"
	"os"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// park clones a child whose plan ends in a park step and waits until it is
// there.
func (s *starter) park(b *begin) (err error) {
	b.child = newChild(wire.Process{ID: b.ID})
	if len(b.Second.Bytes) > 0 || len(b.clients) > 0 {
		return errdefs.New(errdefs.InvalidArgument, "a parked child has one plan and no clients")
	}
	if err := s.children.claim(b.child); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			s.forget(b.child)
		}
	}()
	ours, theirs, err := spawn.ParkSocket()
	if err != nil {
		return err
	}
	defer theirs.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err == nil {
		defer null.Close()
		if err = s.load(b); err == nil {
			err = s.run(b, []*os.File{theirs, null, null})
		}
	}
	if err != nil {
		ours.Close()
		return err
	}
	b.child.park, b.child.slab = ours, b.slab
	s.children.become(b.child, parked)
	failpoint.Hit("keeper/parked")
	return nil
}

// wake sends a parked child on with its second plan and waits for the exec. A
// child that cannot go on is ended.
func (s *starter) wake(b *begin) (err error) {
	if b.child, err = s.children.unpark(b.ID, s.reaper); err != nil {
		return err
	}
	b.slab = b.child.slab
	defer func() {
		if err != nil {
			b.child.park.Close() // end of file: a child that still waits exits
			s.forget(b.child)
		}
	}()
	if err := s.holdPorts(b); err != nil {
		s.endParked(b.child)
		return err
	}
	stdio, err := s.streams.Open(b.ID, b.Stdio)
	if err == nil {
		if err = s.send(b, stdio[:]); err == nil {
			err = s.running(b)
		}
		if err != nil {
			s.unopen(b.ID)
		}
	} else {
		s.endParked(b.child)
	}
	if err == nil {
		b.child.park.Close()
		b.child.slab, b.child.park = nil, nil
	}
	return err
}

// send gives the child its second plan and awaits its exec. The slab is free
// when it returns.
func (s *starter) send(b *begin, stdio []*os.File) error {
	addr, err := b.slab.LoadSecond(b.Plan)
	if err != nil {
		s.endParked(b.child)
		return errdefs.As(errdefs.InvalidArgument, err)
	}
	report, child, err := os.Pipe()
	if err != nil {
		s.endParked(b.child)
		return err
	}
	defer report.Close()
	fds := append(append([]*os.File{child}, stdio...), b.FDs...)
	s.record(b.child)
	err = spawn.Wake(b.child.park, addr, fds)
	child.Close()
	if err != nil {
		s.endParked(b.child)
		return fmt.Errorf("wake: %w", err)
	}
	failpoint.Hit("keeper/woken")
	err = s.awaitExec(b, report)
	if step, ok := errors.AsType[*wire.StepError](err); ok {
		step.Second = false // to its sender the plan is the only one
	}
	b.slab.Put()
	return err
}

// endParked ends a parked child taken by unpark, and reaps it.
func (s *starter) endParked(c *child) {
	c.park.Close()
	<-c.heard
	c.slab.Put()
}

// evict ends a parked child. Nothing is reported.
func (s *starter) evict(id string) error {
	c, err := s.children.unpark(id, s.reaper)
	if err != nil {
		return err
	}
	s.endParked(c)
	s.forget(c)
	return nil
}
