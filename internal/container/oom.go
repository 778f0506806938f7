package container

import (
	"errors"
	"io/fs"
	"log/slog"
	"sync"

	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/internal/linux/cgroup"
	"github.com/tare-engine/tare/internal/linux/epoll"
)

// ooms tells when containers run out of memory, while they run: one loop for
// all of them, and none while no container has a memory limit. Who cannot be
// watched is found out at the end of the run, by the group's counter.
type ooms struct {
	events eventLog

	mu      sync.Mutex
	poller  *epoll.Poller // nil until the first watch
	watched map[uint64]*oomWatch
	last    uint64 // key given last
	off     bool
	loop    sync.WaitGroup
}

// oomWatch is one run of a container.
type oomWatch struct {
	c   *Container
	run *process
	oom *cgroup.OOM

	happened bool // as far as anybody has looked
}

func newOOMs(l eventLog) *ooms { return &ooms{events: l, watched: map[uint64]*oomWatch{}} }

// watch begins to watch the container's present run if it has a memory limit
// and is not watched. It waits for a change of the container that is under way.
func (o *ooms) watch(c *Container) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.process
	if p == nil || p.oom != 0 || c.View().HostConfig.Memory == 0 {
		return
	}
	if err := o.add(c, p); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			slog.Warn("watch the memory of a container", "container", c.ID, "err", err)
		}
		return
	}
	// What happened before anybody watched.
	if kills, err := p.cgroup.OOMKills(); err == nil && kills > 0 && !c.View().Last.OOMKilled {
		o.happened(p.oom) // is the same, if it was noticed by now
		o.tell(c)
	}
}

// Preconditions: c.mu is held.
func (o *ooms) add(c *Container, p *process) error {
	w, err := p.cgroup.WatchOOM()
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.begin(); err != nil {
		return errors.Join(err, w.Close())
	}
	if o.off {
		return w.Close()
	}
	o.last++
	if err := o.poller.Add(w.FD(), o.last, epoll.Read|epoll.Urgent); err != nil {
		return errors.Join(err, w.Close())
	}
	o.watched[o.last], p.oom = &oomWatch{c: c, run: p, oom: w}, o.last
	return nil
}

// begin starts the loop.
//
// Preconditions: o.mu is held.
func (o *ooms) begin() error {
	if o.poller != nil || o.off {
		return nil
	}
	p, err := epoll.New()
	if err != nil {
		return err
	}
	o.poller = p
	o.loop.Go(func() { o.run(p) })
	return nil
}

func (o *ooms) run(p *epoll.Poller) {
	var ready [16]epoll.Event
	for {
		n, err := p.Wait(ready[:])
		if err != nil {
			return // close
		}
		for _, e := range ready[:n] {
			o.look(e.Key)
		}
	}
}

// look tells of a container that has run out of memory.
func (o *ooms) look(key uint64) {
	w := o.happened(key)
	if w == nil {
		return
	}
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	if w.c.process == w.run {
		o.tell(w.c)
	}
}

// happened returns the run of that key if it has run out of memory since it was
// last asked.
func (o *ooms) happened(key uint64) *oomWatch {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.watched[key]
	if w == nil {
		return nil
	}
	happened, err := w.oom.Happened()
	if err != nil {
		slog.Warn("watch the memory of a container", "container", w.c.ID, "err", err)
	}
	if !happened {
		return nil
	}
	w.happened = true
	return w
}

// tell publishes that the container has run out of memory.
//
// Preconditions: c.mu is held.
func (o *ooms) tell(c *Container) {
	v := c.publish(func(v *View) {
		v.Record = withRecord(v.Record, func(r *Record) { r.Last.OOMKilled = true })
	})
	o.events.publish(v, events.ActionOOM)
}

// forget ends the watching of a run. It reports whether the run was seen to be out
// of memory: its group may be gone.
//
// Preconditions: the lock of the run's container is held.
func (o *ooms) forget(p *process) (happened bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.watched[p.oom]
	if w == nil {
		return false
	}
	delete(o.watched, p.oom)
	if err := errors.Join(o.poller.Remove(w.oom.FD()), w.oom.Close()); err != nil {
		slog.Warn("end watching the memory of a container", "container", w.c.ID, "err", err)
	}
	return w.happened
}

// close ends the loop and waits for it.
func (o *ooms) close() {
	o.mu.Lock()
	o.off = true
	if o.poller != nil {
		o.poller.Close()
	}
	for key, w := range o.watched {
		delete(o.watched, key)
		w.oom.Close()
	}
	o.mu.Unlock()
	o.loop.Wait()
}
