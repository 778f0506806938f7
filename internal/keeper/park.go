package keeper

import (
	"fmt"
	"os"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// park clones a child whose plan ends in a park step and waits until it is
// there.
func (k *Keeper) park(b *begin) (err error) {
	b.child = &child{process: Process{ID: b.ID}, state: starting, ended: make(chan ended, 1)}
	if len(b.Second.Bytes) > 0 || len(b.clients) > 0 {
		return errdefs.New(errdefs.InvalidArgument, "a parked child has one plan and no clients")
	}
	if err := k.claim(b.child); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			k.forget(b.child)
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
		if err = k.load(b); err == nil {
			err = k.run(b, []*os.File{theirs, null, null})
		}
	}
	if err != nil {
		ours.Close()
		return err
	}
	k.mu.Lock()
	b.child.park, b.child.slab, b.child.state = ours, b.slab, parked
	k.mu.Unlock()
	failpoint.Hit("keeper/parked")
	return nil
}

// parked reports whether the child waits for its second plan.
func (c *child) parked() bool { return c.slab != nil }

// unpark takes a parked child for a wake or an eviction: its end is the
// caller's from now on.
func (k *Keeper) unpark(id string) (*child, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.children[id]
	if c == nil || c.state != parked || k.ends[c.process.Pid] == nil {
		return nil, errdefs.New(errdefs.NotFound, "no parked process %s", id)
	}
	k.ends[c.process.Pid] = c.hears()
	c.state = starting
	return c, nil
}

// wake sends a parked child on with its second plan and waits for the exec. A
// child that cannot go on is ended.
func (k *Keeper) wake(b *begin) (err error) {
	if b.child, err = k.unpark(b.ID); err != nil {
		return err
	}
	b.slab = b.child.slab
	defer func() {
		if err != nil {
			b.child.park.Close() // end of file: a child that still waits exits
			k.forget(b.child)
		}
	}()
	stdio, err := k.streams.open(b.ID, b.Stdio)
	if err == nil {
		if err = k.send(b, stdio[:]); err == nil {
			err = k.running(b)
		}
		if err != nil {
			k.unopen(b.ID)
		}
	} else {
		k.endParked(b.child)
	}
	if err == nil {
		b.child.park.Close()
		b.child.slab, b.child.park = nil, nil
	}
	return err
}

// send gives the child its second plan and awaits its exec. The slab is free
// when it returns.
func (k *Keeper) send(b *begin, stdio []*os.File) error {
	addr, err := b.slab.LoadSecond(b.Plan)
	if err != nil {
		k.endParked(b.child)
		return errdefs.As(errdefs.InvalidArgument, err)
	}
	report, child, err := os.Pipe()
	if err != nil {
		k.endParked(b.child)
		return err
	}
	defer report.Close()
	fds := append(append([]*os.File{child}, stdio...), b.FDs...)
	k.record(b.child)
	err = spawn.Wake(b.child.park, addr, fds)
	child.Close()
	if err != nil {
		k.endParked(b.child)
		return fmt.Errorf("wake: %w", err)
	}
	failpoint.Hit("keeper/woken")
	err = k.awaitExec(b, report)
	if s, ok := err.(*StepError); ok {
		s.Second = false // to its sender the plan is the only one
	}
	b.slab.Put()
	return err
}

// endParked ends a parked child taken by unpark, and reaps it.
func (k *Keeper) endParked(c *child) {
	c.park.Close()
	<-c.ended
	c.slab.Put()
}

// evict ends a parked child. Nothing is reported.
func (k *Keeper) evict(id string) error {
	c, err := k.unpark(id)
	if err != nil {
		return err
	}
	k.endParked(c)
	k.forget(c)
	return nil
}

// finishParked reports a parked child that ended by itself.
func (k *Keeper) finishParked(c *child, x Exit) {
	c.park.Close()
	c.slab.Put()
	k.report(c, x)
	if c.mounts != nil {
		k.mounts.drop(c.mounts)
	}
}
