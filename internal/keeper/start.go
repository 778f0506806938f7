package keeper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// maxStartClients is how many clients may come with a start.
const maxStartClients = 10

// begin is a start that is under way.
type begin struct {
	Start
	release func() // gives the token back; may be called again
	op      op
	slab    *spawn.Slab
	child   *child
	tell    func(pid int) // who wants to know the pid early; may be nil
	clients []Client      // ours until the streamer has them
}

// doStart starts or parks a child, or wakes a parked one.
func (k *Keeper) doStart(s *session, m *message) (any, parcel, error) {
	b, err := readStart(m)
	if err != nil {
		return nil, parcel{}, err
	}
	defer b.closeClients()
	if b.Born != nil {
		b.tell = func(pid int) { s.queueFor(m.request, opBorn, idDoc{ID: b.ID, Pid: pid}) }
	}
	k.starts <- struct{}{}
	b.release = sync.OnceFunc(func() { <-k.starts })
	defer b.release()
	switch m.op {
	case opWake:
		err = k.wake(b)
	case opPark:
		err = k.park(b)
	default:
		err = k.start(b)
	}
	if err != nil {
		return nil, parcel{}, err
	}
	failpoint.Hit("keeper/start-unanswered")
	doc := processDoc{Process: b.child.process}
	p := parcel{after: func() { k.settle(b.child) }}
	if m.op == opPark {
		p.after() // the wake may follow the answer at once
		p.after = nil
	} else {
		f, err := k.streams.files(b.ID)
		if err != nil {
			k.log.Warn("no duplicates of a process's streams", "id", b.ID, "error", err)
		}
		p.sent = doc.pack(f)
	}
	return doc, p, nil
}

// closeClients closes the connections that the streamer has not taken.
func (b *begin) closeClients() {
	for _, c := range b.clients {
		c.Conn.Close()
	}
}

// readStart decodes a start. Its descriptors are then b's; the plan's are
// closed by the message.
func readStart(m *message) (*begin, error) {
	var d startDoc
	if err := m.unmarshal(&d); err != nil {
		return nil, errdefs.As(errdefs.InvalidArgument, err)
	}
	if !usableID(d.ID) || d.Container != "" && !usableID(d.Container) {
		return nil, errdefs.New(errdefs.InvalidArgument, "bad ID %q", d.ID)
	}
	if d.Files < 0 || d.Files > spawn.MaxFDs || len(d.Clients) > maxStartClients || d.Files+len(d.Clients) != len(m.files) {
		return nil, errdefs.New(errdefs.InvalidArgument, "%d descriptors for a plan that wants %d and %d clients", len(m.files), d.Files, len(d.Clients))
	}
	b := &begin{op: m.op, Start: Start{ID: d.ID, Container: d.Container, Flags: d.Flags, CgroupFD: d.CgroupFD, Stdio: d.Stdio, FDs: m.files[:d.Files]}}
	var err error
	rest := m.payload
	if b.Plan, rest, err = cutImage(rest, d.Plan); err != nil {
		return nil, err
	}
	if b.Second, rest, err = cutImage(rest, d.Second); err != nil {
		return nil, err
	}
	for i, cd := range d.Clients {
		var c Client
		if c, rest, err = cd.client(rest, m.take(d.Files+i)); err != nil {
			b.closeClients()
			return nil, err
		}
		b.clients = append(b.clients, c)
	}
	if d.Born {
		b.Born = func(int) {}
	}
	return b, nil
}

// start clones a child and waits until it has exec'ed.
func (k *Keeper) start(b *begin) (err error) {
	b.child = &child{process: Process{ID: b.ID, Container: b.Container}, state: starting, ended: make(chan ended, 1)}
	if err := k.claim(b.child); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			k.forget(b.child)
		}
	}()
	if err := k.mayPair(b); err != nil {
		return err
	}
	if err := k.load(b); err != nil {
		return err
	}
	failpoint.Hit("keeper/start-loaded")
	stdio, err := k.streams.open(b.ID, b.Stdio)
	if err != nil {
		b.slab.Put()
		return err
	}
	failpoint.Hit("keeper/start-opened")
	if err = k.run(b, stdio[:]); err == nil {
		err = k.running(b)
	}
	if err != nil {
		k.unopen(b.ID)
	}
	return err
}

// unopen takes back what a start has left in the run directory.
func (k *Keeper) unopen(id string) {
	k.streams.close(id)
	k.removeProcess(id)
	k.streams.remove(id)
}

// load takes a slab for the plan, and another one for a second half.
func (k *Keeper) load(b *begin) error {
	s := k.region.Get()
	if s == nil {
		return errdefs.New(errdefs.Unavailable, "too many starts at once")
	}
	err := s.Load(b.Plan)
	if err == nil && b.op == opPark {
		err = s.LoadParked(b.Plan)
	}
	if err == nil && len(b.Second.Bytes) > 0 {
		err = s.Pair(b.Second)
	}
	if err != nil {
		s.Put()
		return errdefs.As(errdefs.InvalidArgument, err)
	}
	b.slab = s
	return nil
}

// run has a nursery clone the child and waits for the end of its plan. The
// slab is free again when it returns, unless the child has parked.
func (k *Keeper) run(b *begin, stdio []*os.File) error {
	report, child, err := os.Pipe()
	if err != nil {
		b.slab.Put()
		return err
	}
	defer report.Close()
	fds := append(append([]*os.File{child}, stdio...), b.FDs...)
	o := spawn.Options{Flags: b.Flags, Cgroup: -1}
	if b.op != opPark && len(b.Second.Bytes) == 0 {
		pidFile, err := k.openPidFile(b.ID)
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
	k.cloning(1)
	booked := sync.OnceFunc(func() { k.cloning(-1) })
	defer booked()
	pid, err := k.clone(b.slab, o, fds)
	child.Close()
	if err != nil {
		b.slab.Put()
		return fmt.Errorf("clone: %w", err)
	}
	k.book(pid, b.child.hears())
	failpoint.Hit("keeper/start-cloned")
	k.born(b, pid)
	if len(b.Second.Bytes) > 0 {
		err = k.awaitSecond(b, report, booked)
	} else {
		err = k.awaitExec(b, report)
	}
	if err != nil || b.op != opPark {
		b.slab.Put()
	}
	return err
}

// born notes what can be known of a child as soon as there is one. Its mount
// namespace is held before it can end.
func (k *Keeper) born(b *begin, pid int) {
	if b.tell != nil {
		b.tell(pid)
	}
	if b.Flags&newMountNS != 0 {
		b.child.mounts = openMountNS(pid)
	}
	b.child.setPid(pid)
	if b.op != opPark && len(b.Second.Bytes) == 0 {
		k.record(b.child)
	}
}

// record notes the process before its exec is known: should this keeper die,
// the next one finds it.
func (k *Keeper) record(c *child) {
	c.process.Started = time.Now()
	if err := k.writeProcess(c.process); err != nil {
		k.log.Warn("process is not recorded", "id", c.process.ID, "error", err)
	}
	failpoint.Hit("keeper/start-recorded")
}

const newMountNS = 0x20000 // CLONE_NEWNS

// awaitExec reads the report pipe: end of file is success.
func (k *Keeper) awaitExec(b *begin, report io.Reader) error {
	r, err := readReport(report)
	if err == nil && len(r) == 0 {
		return nil
	}
	<-b.child.ended
	if err != nil {
		return err
	}
	return b.stepError(r)
}

func readReport(report io.Reader) ([]byte, error) { return io.ReadAll(io.LimitReader(report, 64)) }

func (b *begin) stepError(report []byte) error {
	got := b.slab.ReadReport(report)
	return &StepError{Errno: got.Errno, Step: got.Step, Second: got.Second}
}

// running gives the streams their clients and lets them begin.
func (k *Keeper) running(b *begin) error {
	for len(b.clients) > 0 {
		if _, _, err := k.streams.attach(b.ID, b.clients[0]); err != nil {
			k.log.Warn("client lost at start", "id", b.ID, "error", err)
			b.clients[0].Conn.Close()
		}
		b.clients = slices.Delete(b.clients, 0, 1)
	}
	if err := k.streams.started(b.ID); err != nil {
		k.kill(b.child)
		return err
	}
	k.mu.Lock()
	b.child.state = running // listed before the answer is sent
	k.mu.Unlock()
	failpoint.Hit("keeper/start-running")
	return nil
}

// kill ends a child whose start went wrong after its exec, and reaps it.
func (k *Keeper) kill(c *child) {
	k.signal(c)
	<-c.ended
}

func (k *Keeper) signal(c *child) {
	if p, err := process.Open(c.process.Pid); err == nil {
		process.Signal(p, 9)
		p.Close()
	}
}
