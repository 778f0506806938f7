package stream

import (
	"encoding/json"
	"errors"
	"os"
	"time"

	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/epoll"
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

// Freeze stops the loop and returns what thaw needs. The descriptors that the
// document names stay open over an exec; until thaw nothing is served.
func (s *Streams) Freeze() (json.RawMessage, error) {
	s.shut()
	s.mu.Lock()
	sets := make([]*set, 0, len(s.sets)+len(s.lingering))
	for _, t := range s.sets {
		sets = append(sets, t)
	}
	for t := range s.lingering {
		sets = append(sets, t)
	}
	doc := streamsDoc{NextClient: s.nextClient}
	s.mu.Unlock()
	var errs []error
	doc.ContainersDir = keepFile(&s.containersDir, &errs)
	doc.SpoolDir = keepFile(&s.spoolDir, &errs)
	for _, t := range sets {
		t.mu.Lock()
		doc.Sets = append(doc.Sets, t.freeze(&errs))
		t.mu.Unlock()
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return json.Marshal(doc)
}

// keepFile turns a file into a descriptor that survives an exec.
func keepFile(f **os.File, errs *[]error) int {
	if *f == nil {
		return -1
	}
	fd, err := rawfd.DupFile(*f)
	if err != nil {
		*errs = append(*errs, err)
		return -1
	}
	(*f).Close()
	*f = nil
	return keepFD(fd, errs)
}

func keepFD(fd int, errs *[]error) int {
	if fd >= 0 {
		if err := rawfd.KeepOverExec(fd, true); err != nil {
			*errs = append(*errs, err)
		}
	}
	return fd
}

func keepSource(src *source, errs *[]error) int {
	if src == nil {
		return -1
	}
	return keepFD(src.fd, errs)
}

func (t *set) freeze(errs *[]error) setDoc {
	d := setDoc{
		ID: t.id, Stdio: t.stdio, Started: t.started, Ended: t.ended, Closed: t.closed,
		Sock: keepFD(t.sock, errs), In: keepSource(t.in, errs), Out: [2]int{keepSource(t.out[0], errs), keepSource(t.out[1], errs)},
		Typed: t.typed, Status: t.status, InEnds: t.inEnds, Abandoned: t.abandoned, Spool: keepFile(&t.spool.f, errs), SpoolEnd: t.spool.end,
	}
	for i := range t.child {
		d.Child[i] = keepFile(&t.child[i], errs)
	}
	if t.log != nil {
		d.Tails = [2][]byte{t.log.Tail(logfile.Stdout), t.log.Tail(logfile.Stderr)}
		d.Loss = t.log.Loss()
		if err := t.log.Suspend(); err != nil {
			*errs = append(*errs, err)
		}
	}
	for _, c := range t.clients {
		if c.gone {
			continue
		}
		d.Clients = append(d.Clients, clientState{
			ID: c.id, FD: keepFD(c.src.fd, errs), Want: c.want, Stdin: c.stdin, Keys: c.keys.keys, Seen: c.keys.seen,
			Held: c.held, Behind: c.behind, First: c.first, Place: c.place, Frame: c.frame, Leaves: c.leaves, Halved: c.halved, Status: c.status, Ends: c.ends,
		})
	}
	// Who still has this set must find nothing to do.
	t.clients, t.in, t.out, t.sock, t.ended, t.closed = nil, nil, [2]*source{}, -1, true, true
	return d
}

// Thaw serves what a frozen streams object has served: in the next program, or
// in the same one if the exec has failed.
func (s *Streams) Thaw(raw json.RawMessage) error {
	var doc streamsDoc
	if err := json.Unmarshal(raw, &doc); err != nil {
		return err
	}
	if err := s.reset(doc.NextClient); err != nil {
		return err
	}
	s.SetDirs(openFD(doc.ContainersDir, "containers"), openFD(doc.SpoolDir, "spool"))
	var errs []error
	for _, d := range doc.Sets {
		errs = append(errs, s.thawSet(d))
	}
	return errors.Join(errs...)
}

// reset makes a stopped object run again, with nothing in it.
func (s *Streams) reset(nextClient uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextClient = max(s.nextClient, nextClient)
	if !s.closed {
		return nil
	}
	p, err := epoll.New()
	if err != nil {
		return err
	}
	s.poll, s.closed = p, false
	clear(s.sets)
	clear(s.lingering)
	clear(s.sources)
	clear(s.clients)
	clear(s.busy)
	s.run()
	return nil
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
	t.ended, t.closed, t.sock, t.typed, t.inEnds, t.abandoned, t.status = d.Ended, d.Closed, d.Sock, d.Typed, d.InEnds, d.Abandoned, d.Status
	for i, fd := range d.Child {
		t.child[i] = openFD(fd, "child")
	}
	t.spool = spool{f: openFD(d.Spool, "spool"), end: d.SpoolEnd}
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
	if t.in = t.out[0]; !d.Stdio.TTY || d.In < 0 {
		t.in = end(d.In)
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
