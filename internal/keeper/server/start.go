package server

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/keeper/nursery"
	"github.com/tare-engine/tare/internal/keeper/reaper"
	"github.com/tare-engine/tare/internal/keeper/rundir"
	"github.com/tare-engine/tare/internal/keeper/stream"
	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// starter starts processes.
type starter struct {
	dir      rundir.Dir
	log      *slog.Logger
	nursery  *nursery.Pool
	reaper   *reaper.Reaper
	streams  *stream.Streams
	children *children
	exits    *exits
	mounts   *mountHolder
	tokens   chan struct{} // one for each start in flight
}

// begin is a start that is under way.
type begin struct {
	wire.Start
	asked   time.Time
	release func() // gives the token back; may be called again
	op      wire.Op
	nest    nest // where the child is cloned
	slab    *spawn.Slab
	child   *child
	tell    func(pid int) // who wants to know the pid early; may be nil
	clients []wire.Client // ours until the streamer has them
	ports   []*os.File    // ours until the child has them
}

// nest has room for plans and clones who runs them.
type nest interface {
	Get() *spawn.Slab
	Clone(s *spawn.Slab, o spawn.Options, fds []*os.File) (pid int, err error)
}

// do starts or parks a child, or wakes a parked one. leave is called by one that
// others may hold up: it has tokens of its own to wait for.
func (s *starter) do(e *session, m *wire.Message, leave func()) (any, parcel, error) {
	b, err := readStart(m)
	if err != nil {
		return nil, parcel{}, err
	}
	defer b.close()
	if b.Born != nil {
		b.tell = func(pid int) { e.queueFor(m.Request, wire.OpBorn, wire.IDDoc{ID: b.ID, Pid: pid}) }
	}
	b.nest = s.nursery
	if b.mayBeHeld() {
		leave()
		longest := secondWait
		if b.External {
			longest = runtimeWait
		}
		left, err := s.children.enterSecond(cmp.Or(b.Container, b.ID), longest) // whose processes hold it
		if err != nil {
			return nil, parcel{}, err
		}
		defer left()
	}
	s.tokens <- struct{}{}
	b.release = sync.OnceFunc(func() { <-s.tokens })
	defer b.release()
	switch m.Op {
	case wire.OpWake:
		err = s.wake(b)
	case wire.OpPark:
		err = s.park(b)
	default:
		err = s.start(b)
	}
	if err != nil {
		return nil, parcel{}, err
	}
	failpoint.Hit("keeper/start-unanswered")
	doc := wire.ProcessDoc{Process: b.child.process}
	p := parcel{after: func() { s.settle(b.child) }}
	if m.Op == wire.OpPark {
		p.after() // the wake may follow the answer at once
		p.after = nil
	} else {
		f, err := s.streams.Files(b.ID)
		if err != nil {
			s.log.Warn("no duplicates of a process's streams", "id", b.ID, "error", err)
		}
		p.sent = doc.Pack(f)
	}
	return doc, p, nil
}

// mayBeHeld reports whether the processes of a container can hold the start up:
// it has a half among them, or is another runtime's exec.
func (b *begin) mayBeHeld() bool {
	if b.External {
		return b.Container != ""
	}
	return b.op == wire.OpStart && len(b.Second.Bytes) > 0
}

// close closes the connections that the streamer has not taken, and the ports
// that no child has.
func (b *begin) close() {
	for _, c := range b.clients {
		c.Conn.Close()
	}
	wire.CloseFiles(b.ports)
}

// holdPorts gives the child its host ports.
func (s *starter) holdPorts(b *begin) error {
	err := s.children.hold(b.ID, b.ports, true)
	if err == nil {
		b.ports = nil // the child's
	}
	return err
}

// readStart decodes a start. Its descriptors are then b's; the plan's are
// closed by the message.
func readStart(m *wire.Message) (*begin, error) {
	var d wire.StartDoc
	if err := m.Unmarshal(&d); err != nil {
		return nil, errdefs.As(errdefs.InvalidArgument, err)
	}
	if !wire.UsableID(d.ID) || d.Container != "" && !wire.UsableID(d.Container) {
		return nil, errdefs.New(errdefs.InvalidArgument, "bad ID %q", d.ID)
	}
	plans := d.Files // and the user namespace
	if d.UserNS {
		plans++
	}
	if d.Files < 0 || d.Files > spawn.MaxFDs || d.Ports < 0 || len(d.Clients) > wire.MaxStartClients || plans+len(d.Clients)+d.Ports != len(m.Files) {
		return nil, errdefs.New(errdefs.InvalidArgument, "%d descriptors for a plan that wants %d, %d clients and %d ports", len(m.Files), plans, len(d.Clients), d.Ports)
	}
	if d.UserNS && (m.Op != wire.OpStart || d.External) {
		return nil, errdefs.New(errdefs.InvalidArgument, "only the child of a plan is born in a user namespace")
	}
	b := &begin{op: m.Op, asked: time.Now(), Start: wire.Start{ID: d.ID, Container: d.Container, Flags: d.Flags, CgroupFD: d.CgroupFD, Stdio: d.Stdio, External: d.External, FDs: m.Files[:d.Files]}}
	if d.UserNS {
		b.UserNS = m.Files[d.Files]
	}
	var err error
	rest := m.Payload
	if b.Plan, rest, err = wire.CutImage(rest, d.Plan); err != nil {
		return nil, err
	}
	if b.Second, rest, err = wire.CutImage(rest, d.Second); err != nil {
		return nil, err
	}
	for i, cd := range d.Clients {
		var c wire.Client
		if c, rest, err = clientOf(cd, rest, m.Take(plans+i)); err != nil {
			b.close()
			return nil, err
		}
		b.clients = append(b.clients, c)
	}
	for i := range d.Ports {
		b.ports = append(b.ports, m.Take(plans+len(d.Clients)+i))
	}
	if d.Born {
		b.Born = func(int) {}
	}
	return b, nil
}

// start clones a child and waits until it has exec'ed.
func (s *starter) start(b *begin) (err error) {
	b.child = newChild(wire.Process{ID: b.ID, Container: b.Container})
	if err := s.children.claim(b.child); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			s.forget(b.child)
		}
	}()
	if err := s.holdPorts(b); err != nil {
		return err
	}
	left, err := s.findNest(b)
	if err != nil {
		return err
	}
	defer left()
	if err := s.load(b); err != nil {
		return err
	}
	failpoint.Hit("keeper/start-loaded")
	stdio, err := s.streams.Open(b.ID, b.Stdio)
	if err != nil {
		b.putSlab()
		return err
	}
	failpoint.Hit("keeper/start-opened")
	if b.External {
		err = s.runRuntime(b, stdio[:])
	} else {
		err = s.run(b, stdio[:])
	}
	if err == nil {
		err = s.running(b)
	}
	if err != nil {
		s.unopen(b.ID)
	}
	return err
}

// unopen takes back what a start has left in the run directory.
func (s *starter) unopen(id string) {
	s.streams.Close(id)
	s.exits.removeProcess(id)
	s.streams.Remove(id)
}

// findNest finds another place for a child that is born in a user namespace.
// left is called when the slab has been given back.
func (s *starter) findNest(b *begin) (left func(), err error) {
	if b.UserNS == nil {
		return func() {}, nil
	}
	g, err := nursery.NewGuest(b.UserNS, s.reaper)
	if err != nil {
		return nil, err
	}
	b.nest = g
	return func() {
		if err := g.Close(); err != nil {
			s.log.Warn("a nursery in a user namespace", "id", b.ID, "error", err)
		}
	}, nil
}

// putSlab gives the plan's slab back, if there is one.
func (b *begin) putSlab() {
	if b.slab != nil {
		b.slab.Put()
	}
}

// load takes a slab for the plan, and another one for a second half. The
// commands of a runtime have theirs one after the other.
func (s *starter) load(b *begin) error {
	if b.External {
		return nil
	}
	slab := b.nest.Get()
	if slab == nil {
		return errdefs.New(errdefs.Unavailable, "too many starts at once")
	}
	err := slab.Load(b.Plan)
	if err == nil && b.op == wire.OpPark {
		err = slab.LoadParked(b.Plan)
	}
	if err == nil && len(b.Second.Bytes) > 0 {
		err = slab.Pair(b.Second)
	}
	if err != nil {
		slab.Put()
		return errdefs.As(errdefs.InvalidArgument, err)
	}
	b.slab = slab
	return nil
}

// run has a nursery clone the child and waits for the end of its plan. The
// slab is free again when it returns, unless the child has parked.
func (s *starter) run(b *begin, stdio []*os.File) error {
	report, child, err := os.Pipe()
	if err != nil {
		b.slab.Put()
		return err
	}
	defer report.Close()
	fds := append(append([]*os.File{child}, stdio...), b.FDs...)
	o := spawn.Options{Flags: b.Flags, Cgroup: -1}
	if b.op != wire.OpPark && len(b.Second.Bytes) == 0 {
		pidFile, err := s.dir.OpenPidFile(b.ID)
		if err != nil {
			b.slab.Put()
			return errors.Join(err, child.Close())
		}
		defer pidFile.Close()
		o.PidFile = len(fds)
		fds = append(fds, pidFile)
	}
	if b.CgroupFD >= 0 && b.CgroupFD < len(b.FDs) {
		o.Cgroup = 1 + len(stdio) + b.CgroupFD
	}
	booked := s.reaper.Cloning()
	defer booked()
	pid, err := b.nest.Clone(b.slab, o, fds)
	child.Close()
	if err != nil {
		b.slab.Put()
		return fmt.Errorf("clone: %w", err)
	}
	s.reaper.Book(pid, b.child.hears())
	failpoint.Hit("keeper/start-cloned")
	s.born(b, pid)
	if len(b.Second.Bytes) > 0 {
		return s.awaitSecond(b, report, booked)
	}
	err = s.awaitExec(b, report)
	if err != nil || b.op != wire.OpPark {
		b.slab.Put()
	}
	return err
}

// born notes what can be known of a child as soon as there is one. Its mount
// namespace is held before it can end.
func (s *starter) born(b *begin, pid int) {
	if b.tell != nil {
		b.tell(pid)
	}
	if b.Flags&newMountNS != 0 {
		b.child.mounts = openMountNS(pid)
	}
	b.child.setPid(pid)
	if b.op != wire.OpPark && len(b.Second.Bytes) == 0 {
		s.record(b.child)
	}
}

// record notes the process before its exec is known: should this keeper die,
// the next one finds it.
func (s *starter) record(c *child) {
	c.process.Started = time.Now()
	if err := s.dir.WriteProcess(c.process); err != nil {
		s.log.Warn("process is not recorded", "id", c.process.ID, "error", err)
	}
	failpoint.Hit("keeper/start-recorded")
}

const newMountNS = 0x20000 // CLONE_NEWNS

// awaitExec reads the report pipe: end of file is success.
func (s *starter) awaitExec(b *begin, report io.Reader) error {
	r, err := readReport(report)
	if err == nil && len(r) == 0 {
		return nil
	}
	<-b.child.heard
	if err != nil {
		return err
	}
	return b.stepError(r)
}

func readReport(report io.Reader) ([]byte, error) { return io.ReadAll(io.LimitReader(report, 64)) }

func (b *begin) stepError(report []byte) error {
	got := b.slab.ReadReport(report)
	return &wire.StepError{Errno: got.Errno, Step: got.Step, Second: got.Second}
}

// running gives the streams their clients and lets them begin.
func (s *starter) running(b *begin) error {
	for len(b.clients) > 0 {
		if _, _, err := s.streams.Attach(b.ID, b.clients[0]); err != nil {
			s.log.Warn("client lost at start", "id", b.ID, "error", err)
			b.clients[0].Conn.Close()
		}
		b.clients = slices.Delete(b.clients, 0, 1)
	}
	if err := s.streams.Started(b.ID); err != nil {
		s.kill(b.child)
		return err
	}
	s.children.become(b.child, running) // listed before the answer is sent
	failpoint.Hit("keeper/start-running")
	return nil
}

// kill ends a child whose start went wrong after its exec, and reaps it.
func (s *starter) kill(c *child) {
	c.kill()
	<-c.heard
}

// forget takes a child that never ran off the list.
func (s *starter) forget(c *child) {
	s.children.forget(c.process.ID)
	s.mounts.drop(c.mounts)
}

// settle is called when the engine has the answer to a start: from now on the
// child's end is an event. The answer always comes before it.
func (s *starter) settle(c *child) {
	s.reaper.HandOver(c.process.Pid, c.heard, s.exits.finishes(c))
}
