package container

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/tare-engine/tare/internal/container/index"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/cgroup"
	"github.com/tare-engine/tare/internal/linux/netns"
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
	if !s.cfg.Defaults.Systemd {
		if err := cgroup.Parent(s.cfg.Cgroup).Prepare(); err != nil {
			return err
		}
	}
	b := s.newBoot()
	if err := b.load(); err != nil {
		return err
	}
	for _, c := range s.index.List() {
		b.adopt(c)
	}
	if err := b.adoptVolumes(); err != nil {
		return err
	}
	if err := b.adoptNetworks(ctx); err != nil {
		return err
	}
	if err := s.execs.load(); err != nil {
		return err
	}
	if err := s.link.begin(ctx); err != nil {
		return err
	}
	if err := s.networks.LeaveNames(); err != nil {
		return err
	}
	for _, c := range s.index.List() {
		s.watches.resume(c)
		s.forwards.resume(c.View())
		s.removals.dropCutOff(c)
		s.ooms.watch(c)
	}
	s.cells.start()
	s.restarter.startWanted()
	return errors.Join(b.removeStrayBundles(), b.removeStrayGroups(), b.removeStrayLayers(ctx), s.records.removeStray(b.there))
}

// boot compares the records with what is there at the start of an engine:
// processes, networks, control groups, layers.
type boot struct {
	cfg      *Config
	index    *index.Index[*Container]
	records  *records
	groups   *groups
	layers   *layer.Service
	networks *network.Service
	ids      *ids
	volumes  *volumes
	resume   func(*View) error // of the network of a container that runs, what is the engine's
}

func (s *Service) newBoot() *boot {
	return &boot{
		cfg: &s.cfg, index: s.index, records: s.records, groups: s.groups, layers: s.layers, networks: s.networks, ids: s.ids, volumes: s.volumes,
		resume: s.starts.launcher.resumeNames,
	}
}

// there reports whether a container has been loaded.
func (b *boot) there(id string) bool { return b.index.Get(id) != nil }

// load fills the index. A record that cannot be read is set aside and
// named; the others are not harmed by it.
func (b *boot) load() error {
	ids, err := b.records.ids()
	if err != nil {
		return err
	}
	for _, id := range ids {
		r, path, err := b.records.load(id)
		if err == nil && r == nil {
			continue // garbage, which removeStrayLayers removes
		}
		if err == nil {
			err = b.index.Reserve(r.Name, r.ID)
		}
		if err != nil {
			b.records.setAside(id, path, err)
			continue
		}
		b.ids.keep(r.IDs)
		b.index.Add(newContainer(r, stillStatus(r)))
	}
	return nil
}

// adopt takes over the process of a container that ran when the last engine
// ended, if that process lives. If it does not, its exit is at the keeper.
func (b *boot) adopt(c *Container) {
	l, err := b.records.live(c.ID)
	if err == nil && l != nil && l.BootID != b.cfg.BootID {
		err = errors.New("it is of another boot")
	}
	if err != nil {
		slog.Warn("drop a live record", "container", c.ID, "err", err)
		b.records.removeLive(c.ID) // boot removes it again if that fails
	}
	if err != nil || l == nil {
		b.endRun(c)
		return
	}
	p := &process{pid: l.Pid, startTicks: l.StartTicks, user: l.User}
	if p.cgroup, err = b.groups.open(l.Cgroup); err != nil {
		slog.Warn("open the group of a running container", "container", c.ID, "err", err)
		p.cgroup = b.groups.absent(l.Cgroup)
	}
	if err := b.adoptExternal(c, p); err != nil {
		slog.Warn("find the runtime of a running container again", "container", c.ID, "err", err)
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
	r := c.View().Record
	c.restarts.row.Count, c.restarts.stopped = l.Restarts, r.Stopped
	if l.Pid != 0 {
		kills, _ := p.cgroup.OOMKills() // asked again at the end
		r = withRecord(r, l.begin)
		r.Last.OOMKilled = kills > 0
	}
	c.adopt(&View{Record: r, Status: status, Pid: l.Pid, Ticks: l.StartTicks, Started: l.StartedAt, Network: l.Network})
}

// adoptVolumes tells the volume service which volumes are used, and which are mounted.
func (b *boot) adoptVolumes() error {
	for _, c := range b.index.List() {
		b.volumes.adopt(c.View())
	}
	err := b.records.dropParts() // first, as a plugin cannot unmount what is mounted here
	b.volumes.service.Settle(func(id string) bool { return b.there(id) || b.records.damaged(id) })
	return err
}

// endRun ends the run of a container, if its record knows of one, that went down
// with the machine.
func (b *boot) endRun(c *Container) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.View()
	if v.Last.StartedAt.IsZero() || !v.Last.FinishedAt.IsZero() {
		return
	}
	slog.Info("a container's run has ended with the machine", "container", c.ID)
	r := withRecord(v.Record, func(r *Record) {
		r.Last.ExitCode, r.Last.FinishedAt = unknownExit, time.Now().UTC()
		r.Last.Error = "the exit status is not known: the machine went down while it ran"
	})
	c.publish(func(v *View) { v.Record = r })
	if err := b.records.put(r); err != nil {
		slog.Error("record the end of a run", "container", c.ID, "err", err)
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

// adoptNetworks tells the network service which endpoints are in use; it
// removes all others of ours.
func (b *boot) adoptNetworks(ctx context.Context) error {
	var live []network.Record
	for _, c := range b.index.List() {
		if v := c.View(); v.Network != nil {
			for _, r := range v.Network.Records {
				r.Name = v.Name // a kill may have come between its two records
				live = append(live, r)
			}
		}
	}
	held, err := keeper.HeldPorts(ctx, b.cfg.ExecRoot)
	if err != nil {
		slog.Warn("the keeper's host ports are reserved anew", "err", err)
	}
	report, err := b.networks.Adopt(ctx, live, held)
	for _, what := range report.Removed {
		slog.Info("removed what was left of a network", "what", what)
	}
	for _, e := range report.Lost {
		slog.Warn("could not keep a network or published port as it was", "err", e)
	}
	for _, id := range report.Gone {
		slog.Warn("the link of a container has disappeared; it has a new one after its next start", "container", id)
	}
	for _, id := range report.Unsure {
		if err := b.settleNetworks(id); err != nil {
			slog.Warn("could not settle the networks of a container", "container", id, "err", err)
		}
	}
	b.resumeNames()
	return err
}

// resumeNames goes on to answer the name queries of containers, but for those whose
// start was cut off: the keeper knows their processes.
func (b *boot) resumeNames() {
	for _, c := range b.index.List() {
		v := c.View()
		if v.Network == nil || len(v.Network.Records) == 0 || !v.Alive() || v.Pid == 0 {
			continue
		}
		if err := b.resume(v); err != nil {
			slog.Warn("could not go on answering the name queries of a container", "container", v.ID, "err", err)
		}
	}
}

// settleNetworks puts right the way out of a container whose networks the last
// engine may have been changing.
func (b *boot) settleNetworks(id string) error {
	c := b.index.Get(id)
	if c == nil || !c.View().Alive() || c.View().Pid == 0 {
		return nil
	}
	ns, err := netns.OfProcess(c.View().Pid)
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := b.networks.Settle(id, ns); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil || c.View().Network == nil {
		return nil
	}
	now := c.View().Network.with(c.View().Record, b.networks.Endpoints(id))
	c.process.live.Network = now
	c.publish(func(v *View) { v.Network = now })
	return b.records.putLive(id, c.process.live)
}

// removeStrayLayers removes directories of containers without a record.
func (b *boot) removeStrayLayers(ctx context.Context) error {
	ids, err := b.records.ids()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if b.there(id) {
			continue
		}
		slog.Info("remove a container that was never acknowledged, or whose removal was cut off", "container", id)
		if err := errors.Join(b.layers.Remove(ctx, id), b.layers.Discard(b.records.dir(id))); err != nil {
			return err
		}
	}
	return nil
}

// removeStrayGroups removes the groups of containers that do not run.
func (b *boot) removeStrayGroups() error {
	paths, err := b.groups.all()
	if err != nil {
		return err
	}
	for id, path := range paths {
		if ident.Valid(id) {
			b.removeStrayGroup(id, path)
		}
	}
	return nil
}

// removeStrayGroup does so for one. A start that is under way holds the lock.
func (b *boot) removeStrayGroup(id, path string) {
	if c := b.index.Get(id); c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.process != nil || c.View().Alive() {
			return
		}
	}
	err := b.groups.removeStray(id, path)
	slog.Info("removed a group without container", "group", path, "err", err)
}

// removeStrayBundles removes what runtimes have of containers that do not run.
func (b *boot) removeStrayBundles() error {
	ids, err := b.groups.home.List()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if ident.Valid(id) {
			b.removeStrayBundle(id)
		}
	}
	return nil
}

func (b *boot) removeStrayBundle(id string) {
	if c := b.index.Get(id); c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.process != nil || c.View().Alive() {
			return
		}
	}
	err := errors.Join(b.groups.removeExternal(id), b.groups.removeStray(id, b.groups.strayPath(id)))
	slog.Info("removed a runtime's container that does not run", "container", id, "err", err)
}

// adoptExternal finds a running container's runtime again.
func (b *boot) adoptExternal(c *Container, p *process) error {
	if !isExternal(c.View().Record) {
		return nil
	}
	var err error
	if p.external, err = b.groups.home.Open(c.ID); err == nil && p.external == nil {
		err = errors.New("it has no bundle")
	}
	return err
}
