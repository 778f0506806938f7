package container

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/linux/cgroup"
	kernel "github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/network"
)

// Boot reads the records, adopts what runs, removes what belongs to no
// container, and connects with the keeper. The API may be served after it.
func (s *Service) Boot(ctx context.Context) error {
	if err := s.records.prepare(); err != nil {
		return err
	}
	// Before the first group: one whose parent's rules are half written, by us
	// beside it or by an engine that was killed, would keep too many rights.
	if err := cgroup.Prepare(s.cfg.Cgroup); err != nil {
		return err
	}
	if err := s.loadRecords(); err != nil {
		return err
	}
	for _, c := range s.index.List() {
		s.adopt(c)
	}
	if err := s.adoptNetworks(ctx); err != nil {
		return err
	}
	if err := s.link.connect(ctx); err != nil {
		return err
	}
	s.watchDead()
	s.startCells()
	s.startWanted()
	return errors.Join(s.removeStrayGroups(), s.removeStrayLayers(ctx), s.records.removeStray(func(id string) bool { return s.index.Get(id) != nil }))
}

// loadRecords fills the index. A record that cannot be read is set aside and
// named; the others are not harmed by it.
func (s *Service) loadRecords() error {
	ids, err := s.records.ids()
	if err != nil {
		return err
	}
	for _, id := range ids {
		r, path, err := s.records.load(id)
		if err == nil && r == nil {
			continue // garbage, which removeStrayLayers removes
		}
		if err == nil {
			err = s.index.Reserve(r.Name, r.ID)
		}
		if err != nil {
			s.records.setAside(id, path, err)
			continue
		}
		status := Created
		if !r.Last.StartedAt.IsZero() {
			status = Exited
		}
		s.index.Add(newContainer(r, status))
	}
	return nil
}

// adopt takes over the process of a container that ran when the last engine
// ended, if that process lives. If it does not, its exit is at the keeper.
func (s *Service) adopt(c *Container) {
	l, err := s.records.live(c.ID)
	if l == nil && err == nil {
		return
	}
	if err == nil && l.BootID != s.cfg.BootID {
		err = errors.New("it is of another boot")
	}
	if err != nil {
		slog.Warn("drop a live record", "container", c.ID, "err", err)
		s.records.removeLive(c.ID) // boot removes it again if that fails
		return
	}
	p := &process{pid: l.Pid, startTicks: l.StartTicks, user: l.User}
	if p.cgroup, err = cgroup.Open(l.Cgroup); err != nil {
		slog.Warn("open the group of a running container", "container", c.ID, "err", err)
		p.cgroup = cgroup.Absent(l.Cgroup)
	}
	if l.Pid != 0 {
		p.fd = openProcess(l.Pid, l.StartTicks)
	}
	p.live = *l
	status := Running
	if frozen, err := p.cgroup.Frozen(); err == nil && frozen {
		status = Paused
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.process = p
	c.view.Store(&View{Record: c.View().Record, Status: status, Pid: l.Pid, Started: l.StartedAt, Network: l.Network})
	if p.fd != nil {
		s.watchHealth(c)
	}
}

// openProcess returns a descriptor of a process if it is still the one that
// began at that time, else nil.
func openProcess(pid int, ticks uint64) *os.File {
	fd, err := kernel.Reopen(pid, ticks)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		slog.Error("open process", "pid", pid, "err", err)
	}
	return fd
}

// startCells begins to keep cells ready.
func (s *Service) startCells() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.cells.run(ctx)
	}()
	s.stopCells = func() {
		cancel()
		<-done
	}
}

// watchDead reports the end of containers whose process has gone while nobody
// of ours was there: the keeper has no exit of theirs to tell.
func (s *Service) watchDead() {
	for _, c := range s.index.List() {
		c.mu.Lock()
		p := c.process
		gone := p != nil && p.fd == nil
		c.mu.Unlock()
		if gone {
			s.reportGone(c.ID, p)
		}
	}
}

// reportGone reports the end of a process that the keeper does not know, unless
// the keeper reports it first. The kernel tells how it ended if we held it.
func (s *Service) reportGone(id string, p *process) {
	e := keeper.Exit{ID: id, Pid: p.pid, At: time.Now(), Unknown: true}
	if p.fd != nil {
		if ws, ok := kernel.Status(p.fd); ok {
			e.Status, e.Unknown = ws, false
		}
	}
	s.work.run(func() {
		time.Sleep(deadGrace)
		if s.settle(s.containerEnded(e)) {
			if c := s.index.Get(id); c != nil {
				c.clear()
			}
		}
	})
}

// deadGrace is how long the keeper's report of an exit may take to come in
// after we have connected with it.
const deadGrace = 500 * time.Millisecond

// adoptNetworks tells the network service which endpoints are in use; it
// removes all others of ours.
func (s *Service) adoptNetworks(ctx context.Context) error {
	var live []network.Record
	for _, c := range s.index.List() {
		if v := c.View(); v.Network != nil && v.Network.Record != nil {
			live = append(live, *v.Network.Record)
		}
	}
	held, err := keeper.HeldPorts(ctx, s.cfg.ExecRoot)
	if err != nil {
		slog.Warn("the keeper's host ports are reserved anew", "err", err)
	}
	report, err := s.networks.Adopt(ctx, live, held)
	for _, what := range report.Removed {
		slog.Info("removed what was left of a network", "what", what)
	}
	for _, e := range report.Lost {
		slog.Warn("could not keep a published port", "err", e)
	}
	return err
}

// removeStrayLayers removes directories of containers without a record.
func (s *Service) removeStrayLayers(ctx context.Context) error {
	ids, err := s.records.ids()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if s.index.Get(id) != nil {
			continue
		}
		slog.Info("remove a container that was never acknowledged, or whose removal was cut off", "container", id)
		if err := errors.Join(s.layers.Remove(ctx, id), s.layers.Discard(s.records.dir(id))); err != nil {
			return err
		}
	}
	return nil
}
