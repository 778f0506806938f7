package keeper

import (
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/process"
)

// An orphan is a running process whose keeper died. Its new keeper is not its
// parent: it sees the end by pidfd, but the status only once somebody has
// reaped the process. That is the engine, if it is a subreaper above the old
// keeper (opOrphanEnded asks it), or init; then kernels from 6.15 on tell.
const (
	statusWait   = 5 * time.Second  // for a status that may come
	statusNobody = 30 * time.Second // the same while there is no engine to ask
)

// unknownStatus is what an unknown exit shows.
const unknownStatus = syscall.WaitStatus(255 << 8)

// orphanage wakes the loop that watches orphans.
type orphanage struct {
	once sync.Once
	r, w *os.File
}

func (o *orphanage) open() {
	o.once.Do(func() {
		var err error
		if o.r, o.w, err = os.Pipe(); err != nil {
			panic(err) // at the start of a process with few descriptors
		}
	})
}

func (o *orphanage) wakeUp() {
	o.open()
	o.w.Write([]byte{0})
}

// watchOrphans waits for all orphans in one loop.
func (k *Keeper) watchOrphans() {
	k.orphans.open()
	b := make([]byte, 64)
	for {
		var list []*child
		var fds []*os.File
		k.mu.Lock()
		for _, c := range k.children {
			if c.state == orphan && c.status == nil {
				list, fds = append(list, c), append(fds, c.pidfd)
			}
		}
		k.mu.Unlock()
		if len(list) == 0 {
			k.orphans.r.Read(b) // parked here, it costs no thread
			continue
		}
		dead, err := process.Poll(k.orphans.r, fds, false, -1)
		if err != nil {
			time.Sleep(time.Second)
		}
		k.orphans.drain(b)
		for _, i := range dead {
			k.mu.Lock()
			list[i].status = make(chan syscall.WaitStatus, 1)
			k.mu.Unlock()
			go k.finishOrphan(list[i], time.Now())
		}
	}
}

// drain takes what has woken the loop, if anything has. A Read with a deadline
// that is over would take nothing.
func (o *orphanage) drain(b []byte) {
	c, err := o.r.SyscallConn()
	if err != nil {
		return
	}
	_ = c.Read(func(fd uintptr) bool {
		_, _ = syscall.Read(int(fd), b) // EAGAIN: an orphan ended
		return true
	})
}

// finishOrphan finds out how an orphan ended and reports it.
func (k *Keeper) finishOrphan(c *child, at time.Time) {
	p := c.process
	k.streams.drain(p.ID, nil)
	ws, known := k.orphanStatus(c)
	if !k.enter() {
		return // the next program begins anew
	}
	defer k.service.Done()
	c.pidfd.Close()
	if !known {
		ws = unknownStatus
	}
	k.streams.close(p.ID)
	k.report(c, Exit{ID: p.ID, Container: p.Container, Pid: p.Pid, Status: ws, At: at, Unknown: !known})
	if c.mounts != nil {
		k.mounts.drop(c.mounts)
	}
}

func (k *Keeper) orphanStatus(c *child) (syscall.WaitStatus, bool) {
	begun := time.Now()
	asked := (*session)(nil)
	for {
		k.mu.Lock()
		s := k.session
		k.mu.Unlock()
		if s != nil && s != asked {
			asked, begun = s, time.Now()
			s.queue(opOrphanEnded, idDoc{ID: c.process.ID, Pid: c.process.Pid})
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

// doStatus takes the engine's word on an orphan's end.
func (k *Keeper) doStatus(m *message) error {
	var d statusDoc
	if err := m.unmarshal(&d); err != nil {
		return errdefs.As(errdefs.InvalidArgument, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.children[d.ID]
	if c == nil || c.status == nil {
		return errdefs.New(errdefs.NotFound, "no ended orphan %s", d.ID)
	}
	select {
	case c.status <- d.Status:
	default:
	}
	return nil
}

// doAdopt serves the stdio of an orphan from now on.
func (k *Keeper) doAdopt(m *message) error {
	var d adoptDoc
	if err := m.unmarshal(&d); err != nil {
		return errdefs.As(errdefs.InvalidArgument, err)
	}
	if !usableID(d.ID) {
		return errdefs.New(errdefs.InvalidArgument, "bad ID %q", d.ID)
	}
	rest, err := d.unpack(m.files)
	if err != nil || len(rest) > 0 {
		return errors.Join(err, errdefs.New(errdefs.InvalidArgument, "%d descriptors too many", len(rest)))
	}
	c, err := k.claimOrphan(d.Process)
	if err != nil {
		return err
	}
	m.files = nil // the streamer's
	failpoint.Hit("keeper/adopt-claimed")
	if err := k.streams.adopt(d.ID, d.Stdio, d.Files); err != nil {
		return err
	}
	if err := k.writeProcess(c.process); err != nil {
		k.log.Warn("process is not recorded", "id", d.ID, "error", err)
	}
	k.mu.Lock()
	ended := k.children[d.ID] != c
	k.mu.Unlock()
	if ended {
		k.removeProcess(d.ID)
	}
	k.orphans.wakeUp()
	return nil
}

// claimOrphan returns the orphan that the engine means, entering it if no
// record spoke of it.
func (k *Keeper) claimOrphan(p Process) (*child, error) {
	k.mu.Lock()
	c := k.children[p.ID]
	k.mu.Unlock()
	if c != nil {
		if c.state != orphan || c.process.Pid != p.Pid {
			return nil, errdefs.New(errdefs.Conflict, "process %s is not an orphan", p.ID)
		}
		return c, nil
	}
	c, err := openOrphan(p)
	if err != nil {
		return nil, err
	}
	if err := k.claim(c); err != nil {
		c.pidfd.Close()
		return nil, err
	}
	return c, nil
}

// openOrphan takes hold of a process by its pid, if it is still the same.
func openOrphan(p Process) (*child, error) {
	p.Files = Files{}
	fd, err := process.Reopen(p.Pid, p.StartTicks)
	if errors.Is(err, os.ErrProcessDone) {
		return nil, errdefs.New(errdefs.NotFound, "process %s: %w", p.ID, err)
	}
	if err != nil {
		return nil, err
	}
	return &child{process: p, state: orphan, pidfd: fd, mounts: openMountNS(p.Pid)}, nil
}

// takeUp reads what an earlier keeper left in the run directory: exits that
// nobody has acknowledged, and processes that go on without a parent.
func (k *Keeper) takeUp() error {
	if err := k.takeUpExits(); err != nil {
		return err
	}
	dirs, err := os.ReadDir(k.path("live"))
	if err != nil {
		return err
	}
	for _, d := range dirs {
		k.takeUpProcess(d.Name())
	}
	return nil
}

func (k *Keeper) takeUpExits() error {
	exits, err := os.ReadDir(k.path("exits"))
	if err != nil {
		return err
	}
	for _, e := range exits {
		var x Exit
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if err := readJSON(k.path("exits", e.Name()), &x); !ok || err != nil || x.ID != id {
			k.log.Warn("exit record set aside", "file", e.Name(), "error", err)
			os.Remove(k.path("exits", e.Name()))
			continue
		}
		k.exits[id] = x
	}
	return nil
}

// takeUpProcess looks for a process in live/ID.
func (k *Keeper) takeUpProcess(id string) {
	var r processRecord
	err := readJSON(k.path("live", id, "process.json"), &r)
	if errors.Is(err, os.ErrNotExist) {
		r.Process, err = k.unrecorded(id)
		r.BootID = bootID()
	}
	_, ended := k.exits[id]
	if err != nil || r.ID != id || !usableID(id) || ended {
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			k.log.Warn("process record set aside", "id", id, "error", err)
		}
		k.removeProcess(id)
		if !ended {
			k.streams.remove(id) // of a start that came to nothing
		}
		return
	}
	c, err := openOrphan(r.Process)
	if err == nil && r.BootID == bootID() {
		k.children[id] = c
		return
	}
	if r.Started.IsZero() {
		k.removeProcess(id)
		k.streams.remove(id)
		return // nobody was told of its start
	}
	k.log.Warn("process ended while there was no keeper", "id", id, "pid", r.Pid)
	k.report(&child{process: r.Process}, Exit{ID: id, Container: r.Container, Pid: r.Pid, Status: unknownStatus, At: time.Now(), Unknown: true})
}

// unrecorded is the process of a start whose keeper died between the clone and
// the record. The child itself has written its pid, or has ended.
func (k *Keeper) unrecorded(id string) (Process, error) {
	b, err := os.ReadFile(k.path("live", id, "pid"))
	if err != nil {
		return Process{}, err
	}
	if len(b) < 4 {
		return Process{}, os.ErrNotExist
	}
	p := Process{ID: id, Pid: int(binary.LittleEndian.Uint32(b))}
	ours, err := process.StartTicks(os.Getpid())
	if err != nil {
		return p, err
	}
	if p.StartTicks, err = process.StartTicks(p.Pid); err == nil && p.StartTicks > ours {
		err = os.ErrNotExist // a process of after that keeper's death
	}
	return p, err
}
