package server

import (
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/keeper/orphan"
	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/process"
)

// An orphan is a running process whose keeper died. Its new keeper is not its
// parent: it sees the end by pidfd, but the status only once somebody has
// reaped the process. That is the engine, if it is a subreaper above the old
// keeper (wire.OpOrphanEnded asks it), or init; then kernels from 6.15 on tell.
const (
	statusWait   = 5 * time.Second  // for a status that may come
	statusNobody = 30 * time.Second // the same while there is no engine to ask
)

// unknownStatus is what an unknown exit shows.
const unknownStatus = syscall.WaitStatus(255 << 8)

// orphans are the processes of earlier keepers.
type orphans struct {
	children *children
	exits    *exits
	gate     *gate
	watcher  *orphan.Watcher
}

// watch has the end of an orphan reported.
func (o *orphans) watch(c *child) {
	o.watcher.Watch(c.pidfd, func(at time.Time) { o.finish(c, at) })
}

// finish finds out how an orphan ended and reports it.
func (o *orphans) finish(c *child, at time.Time) {
	p := c.process
	o.children.mu.Lock()
	c.status = make(chan syscall.WaitStatus, 1)
	o.children.mu.Unlock()
	o.exits.streams.Drain(p.ID, nil)
	ws, known := o.statusOf(c)
	if known {
		c.ended.Store(&ws) // nobody can be asked again
	}
	o.gate.enter() // during an upgrade: the next program begins anew, or this one goes on
	defer o.gate.leave()
	o.exits.streams.Drain(p.ID, nil) // if they were frozen just then
	c.pidfd.Close()
	if !known {
		ws = unknownStatus
	}
	o.exits.streams.Close(p.ID)
	o.exits.report(wire.Exit{ID: p.ID, Container: p.Container, Pid: p.Pid, Status: ws, At: at, Unknown: !known})
	o.exits.mounts.drop(c.mounts)
}

func (o *orphans) statusOf(c *child) (syscall.WaitStatus, bool) {
	if ws := c.ended.Load(); ws != nil {
		return *ws, true
	}
	begun := time.Now()
	asked := (*session)(nil)
	for {
		s := o.exits.engine.current()
		if s != nil && s != asked {
			asked, begun = s, time.Now()
			s.queue(wire.OpOrphanEnded, wire.IDDoc{ID: c.process.ID, Pid: c.process.Pid})
		}
		if d := time.Since(begun); d > statusNobody || s != nil && d > statusWait {
			return 0, false
		}
		select {
		case ws := <-c.status:
			return ws, true
		case <-time.After(20 * time.Millisecond):
		}
		if reaped, _ := process.Poll(nil, []*os.File{c.pidfd}, true, 0); len(reaped) > 0 {
			if ws, ok := process.Status(c.pidfd); ok {
				return ws, true
			}
		}
	}
}

// takeStatus takes the engine's word on an orphan's end.
func (o *orphans) takeStatus(m *wire.Message) error {
	var d wire.StatusDoc
	if err := m.Unmarshal(&d); err != nil {
		return errdefs.As(errdefs.InvalidArgument, err)
	}
	o.children.mu.Lock()
	defer o.children.mu.Unlock()
	c := o.children.byID[d.ID]
	if c == nil || c.status == nil {
		return errdefs.New(errdefs.NotFound, "no ended orphan %s", d.ID)
	}
	select {
	case c.status <- d.Status:
	default:
	}
	return nil
}

// adopt serves the stdio of an orphan from now on.
func (o *orphans) adopt(m *wire.Message) error {
	var d wire.AdoptDoc
	if err := m.Unmarshal(&d); err != nil {
		return errdefs.As(errdefs.InvalidArgument, err)
	}
	if !wire.UsableID(d.ID) {
		return errdefs.New(errdefs.InvalidArgument, "bad ID %q", d.ID)
	}
	rest, err := d.Unpack(m.Files)
	if err != nil || len(rest) > 0 {
		return errors.Join(err, errdefs.New(errdefs.InvalidArgument, "%d descriptors too many", len(rest)))
	}
	c, err := o.claim(d.Process)
	if err != nil {
		return err
	}
	m.Files = nil // the streamer's
	failpoint.Hit("keeper/adopt-claimed")
	if err := o.exits.streams.Adopt(d.ID, d.Stdio, d.Files); err != nil {
		return err
	}
	if err := o.exits.dir.WriteProcess(c.process); err != nil {
		o.exits.log.Warn("process is not recorded", "id", d.ID, "error", err)
	}
	if o.children.get(d.ID) != c { // it has ended meanwhile
		o.exits.removeProcess(d.ID)
	}
	return nil
}

// claim returns the orphan that the engine means, entering it if no
// record spoke of it.
func (o *orphans) claim(p wire.Process) (*child, error) {
	if c := o.children.get(p.ID); c != nil {
		if c.state != orphaned || c.process.Pid != p.Pid {
			return nil, errdefs.New(errdefs.Conflict, "process %s is not an orphan", p.ID)
		}
		return c, nil
	}
	c, err := openOrphan(p)
	if err != nil {
		return nil, err
	}
	if err := o.children.claim(c); err != nil {
		c.pidfd.Close()
		return nil, err
	}
	o.watch(c)
	return c, nil
}

// openOrphan takes hold of a process by its pid, if it is still the same.
func openOrphan(p wire.Process) (*child, error) {
	p.Files = wire.Files{}
	fd, err := process.Reopen(p.Pid, p.StartTicks)
	if errors.Is(err, os.ErrProcessDone) {
		return nil, errdefs.New(errdefs.NotFound, "process %s: %w", p.ID, err)
	}
	if err != nil {
		return nil, err
	}
	return &child{process: p, state: orphaned, pidfd: fd, mounts: openMountNS(p.Pid)}, nil
}

// takeUp reads what an earlier keeper left in the run directory: exits that
// nobody has acknowledged, and processes that go on without a parent.
func (o *orphans) takeUp() error {
	if err := o.takeUpExits(); err != nil {
		return err
	}
	dirs, err := os.ReadDir(o.exits.dir.Live())
	if err != nil {
		return err
	}
	for _, d := range dirs {
		o.takeUpProcess(d.Name())
	}
	return nil
}

func (o *orphans) takeUpExits() error {
	exits, err := o.exits.dir.Exits(func(file string, err error) {
		o.exits.log.Warn("exit record set aside", "file", file, "error", err)
	})
	o.children.restore(exits)
	return err
}

// takeUpProcess looks for a process in live/ID.
func (o *orphans) takeUpProcess(id string) {
	r, err := o.exits.dir.ReadProcess(id)
	ended := o.children.hasExit(id)
	if err != nil || r.ID != id || !wire.UsableID(id) || ended {
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			o.exits.log.Warn("process record set aside", "id", id, "error", err)
		}
		o.exits.removeProcess(id)
		if !ended {
			o.exits.streams.Remove(id) // of a start that came to nothing
		}
		return
	}
	if r.OfThisBoot() {
		if c, err := openOrphan(r.Process); err == nil && o.children.claim(c) == nil {
			o.watch(c)
			return
		}
	}
	if r.Started.IsZero() {
		o.exits.removeProcess(id)
		o.exits.streams.Remove(id)
		return // nobody was told of its start
	}
	o.exits.log.Warn("process ended while there was no keeper", "id", id, "pid", r.Pid)
	o.exits.report(wire.Exit{ID: id, Container: r.Container, Pid: r.Pid, Status: unknownStatus, At: time.Now(), Unknown: true})
}
