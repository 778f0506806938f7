package stream

import (
	"encoding/json"
	"errors"
	"os"
	"time"

	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/rawfd"
	"github.com/tare-engine/tare/internal/logfile"
)

// streamsDoc is what one program of the keeper hands to the next over an exec.
// Descriptors are named by number, -1 where there is none.
type streamsDoc struct {
	NextClient    uint64
	ContainersDir int
	SpoolDir      int
	Sets          []setDoc
}

type setDoc struct {
	ID                     string
	Stdio                  wire.Stdio
	Started, Ended, Closed bool
	Child                  [3]int
	Sock, In               int
	Out                    [2]int
	Tails                  [2][]byte
	Loss                   logfile.Loss
	Typed                  []byte
	Status                 []byte
	InEnds, Abandoned      bool
	Spool                  int
	SpoolEnd               int64
	Clients                []clientState
}

type clientState struct {
	ID             uint64
	FD             int
	Want           [2]bool
	Stdin          bool
	Keys           []byte
	Seen           int
	Held, Behind   bool
	First          []byte
	Place, Frame   int64
	Leaves, Halved bool
	Status, Ends   bool
}

// Freeze stops the loop and returns what Thaw needs in the next program. The
// descriptors that the document names stay open over an exec. Nothing is given
// up: until [Streams.Unfreeze] every set is locked and as it was, so whoever
// comes to one waits. On error nothing is frozen.
func (s *Streams) Freeze() (json.RawMessage, error) {
	s.stop()
	s.mu.Lock()
	sets := make([]*set, 0, len(s.sets)+len(s.lingering))
	for _, t := range s.sets {
		sets = append(sets, t)
	}
	for t := range s.lingering {
		sets = append(sets, t)
	}
	s.mu.Unlock()
	for _, t := range sets {
		t.mu.Lock()
	}
	s.mu.Lock()
	s.frozen = sets
	s.mu.Unlock()
	doc, err := s.describe()
	var b []byte
	if err == nil {
		b, err = json.Marshal(doc)
	}
	if err != nil {
		s.Unfreeze()
		return nil, err
	}
	return b, nil
}

// Unfreeze undoes Freeze: the exec has failed, and what was served is served
// again.
func (s *Streams) Unfreeze() {
	s.mu.Lock()
	sets := s.frozen
	s.frozen, s.closed = nil, false
	keepFile(s.containersDir, false)
	keepFile(s.spoolDir, false)
	if len(s.busy) > 0 {
		s.sweeper.Reset(sweepEvery)
	}
	s.mu.Unlock()
	s.run()
	for _, t := range sets {
		t.keep(false)
		s.queue.put(t)
		t.unlock()
	}
}

// describe is the document of what is frozen.
func (s *Streams) describe() (streamsDoc, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	doc := streamsDoc{NextClient: s.nextClient}
	var errs [2]error
	doc.ContainersDir, errs[0] = keepFile(s.containersDir, true)
	doc.SpoolDir, errs[1] = keepFile(s.spoolDir, true)
	err := errors.Join(errs[:]...)
	for _, t := range s.frozen {
		err = errors.Join(err, t.keep(true))
		doc.Sets = append(doc.Sets, t.describe())
	}
	return doc, err
}

// keepFile lets a file stay open over an exec, or not, and returns its number:
// -1 where there is none.
func keepFile(f *os.File, keep bool) (int, error) {
	if f == nil {
		return -1, nil
	}
	fd, err := rawfd.Number(f)
	if err != nil {
		return -1, err
	}
	return fd, rawfd.KeepOverExec(fd, keep)
}

// keep lets all descriptors of the set that the document names stay open over
// an exec, or not.
func (t *set) keep(keep bool) error {
	var errs []error
	for _, f := range append([]*os.File{t.audience.spool.f}, t.child[:]...) {
		_, err := keepFile(f, keep)
		errs = append(errs, err)
	}
	fds := []int{t.sock}
	for _, src := range []*source{t.in.end, t.out[0], t.out[1]} {
		fds = append(fds, number(src))
	}
	for _, c := range t.audience.clients {
		if !c.gone {
			fds = append(fds, c.src.fd)
		}
	}
	for _, fd := range fds {
		if fd >= 0 {
			errs = append(errs, rawfd.KeepOverExec(fd, keep))
		}
	}
	return errors.Join(errs...)
}

// number is a source's descriptor, -1 where there is none.
func number(src *source) int {
	if src == nil {
		return -1
	}
	return src.fd
}

func fileNumber(f *os.File) int {
	if f == nil {
		return -1
	}
	fd, err := rawfd.Number(f)
	if err != nil {
		return -1 // keep has said so
	}
	return fd
}

// describe is the set's part of the document. The log's files are closed: what
// is written next opens them again.
func (t *set) describe() setDoc {
	d := setDoc{
		ID: t.id, Stdio: t.stdio, Started: t.started, Ended: t.ended, Closed: t.closed,
		Sock: t.sock, In: number(t.in.end), Out: [2]int{number(t.out[0]), number(t.out[1])},
		Typed: t.in.typed, Status: t.status, InEnds: t.in.ends, Abandoned: t.abandoned, Spool: fileNumber(t.audience.spool.f), SpoolEnd: t.audience.spool.end,
	}
	for i, f := range t.child {
		d.Child[i] = fileNumber(f)
	}
	if t.log != nil {
		d.Tails = [2][]byte{t.log.Tail(logfile.Stdout), t.log.Tail(logfile.Stderr)}
		d.Loss = t.log.Loss()
		t.log.Suspend()
	}
	for _, c := range t.audience.clients {
		if c.gone {
			continue
		}
		d.Clients = append(d.Clients, clientState{
			ID: c.id, FD: c.src.fd, Want: c.want, Stdin: c.stdin, Keys: c.keys.keys, Seen: c.keys.seen,
			Held: c.held, Behind: c.behind, First: c.first, Place: c.place, Frame: c.frame, Leaves: c.leaves, Halved: c.halved, Status: c.status, Ends: c.ends,
		})
	}
	return d
}

// Thaw serves what a frozen streams object of the program before has served.
// Of a set that cannot be served the error tells; the others are.
func (s *Streams) Thaw(raw json.RawMessage) error {
	var doc streamsDoc
	if err := json.Unmarshal(raw, &doc); err != nil {
		return err
	}
	s.mu.Lock()
	s.nextClient = max(s.nextClient, doc.NextClient)
	s.mu.Unlock()
	s.SetDirs(openFD(doc.ContainersDir, "containers"), openFD(doc.SpoolDir, "spool"))
	var errs []error
	for _, d := range doc.Sets {
		errs = append(errs, s.thawSet(d))
	}
	return errors.Join(errs...)
}

// openFD makes a file of a descriptor that came over an exec.
func openFD(fd int, name string) *os.File {
	if fd < 0 {
		return nil
	}
	_ = rawfd.KeepOverExec(fd, false) // fails only for what is not open
	return os.NewFile(uintptr(fd), name)
}

func (s *Streams) thawSet(d setDoc) error {
	t := s.newSet(d.ID, d.Stdio)
	t.ended, t.closed, t.sock, t.in.typed, t.in.ends, t.abandoned, t.status = d.Ended, d.Closed, d.Sock, d.Typed, d.InEnds, d.Abandoned, d.Status
	for i, fd := range d.Child {
		t.child[i] = openFD(fd, "child")
	}
	t.audience.spool = spool{f: openFD(d.Spool, "spool"), end: d.SpoolEnd}
	if t.log != nil {
		t.log.SetTail(logfile.Stdout, d.Tails[0])
		t.log.SetTail(logfile.Stderr, d.Tails[1])
		t.log.SetLoss(d.Loss) // and sweep tells of it again
	}
	if d.Closed {
		s.mu.Lock()
		s.lingering[t] = true
		s.mu.Unlock()
	} else if err := s.add(t); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.unlock()
	t.thawEnds(d)
	err := t.thawClients(d.Clients)
	if d.Started {
		err = errors.Join(err, t.begin())
	}
	s.markBusy(t)
	s.queue.put(t)
	return err
}

func (t *set) thawEnds(d setDoc) {
	end := func(fd int) *source {
		if fd < 0 {
			return nil
		}
		_ = rawfd.KeepOverExec(fd, false)
		return &source{fd: fd, set: t}
	}
	t.out = [2]*source{end(d.Out[0]), end(d.Out[1])}
	if t.in.end = t.out[0]; !d.Stdio.TTY || d.In < 0 {
		t.in.end = end(d.In)
	}
	if t.sock >= 0 {
		_ = rawfd.KeepOverExec(t.sock, false)
	}
}

func (t *set) thawClients(states []clientState) error {
	var errs []error
	for _, d := range states {
		_ = rawfd.KeepOverExec(d.FD, false)
		c := &client{
			id: d.ID, src: &source{fd: d.FD, set: t}, want: d.Want, stdin: d.Stdin, keys: detachKeys{d.Keys, d.Seen},
			held: d.Held, behind: d.Behind, first: d.First, place: d.Place, frame: d.Frame,
			took: time.Now(), leaves: d.Leaves, halved: d.Halved, status: d.Status, ends: d.Ends,
		}
		if err := t.addClient(c); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
