package keeper

import (
	"encoding/json"
	"errors"
	"os"
	"time"

	"github.com/tare-engine/tare/internal/linux/epoll"
	"github.com/tare-engine/tare/internal/linux/fifo"
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
	Stdio                  Stdio
	Started, Ended, Closed bool
	Child                  [3]int
	Sock, In               int
	Out                    [2]int
	Tails                  [2][]byte
	Typed                  []byte
	Status                 []byte
	InEnds                 bool
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
	Status         bool
}

// freeze stops the loop and returns what thaw needs. The descriptors that the
// document names stay open over an exec; until thaw nothing is served.
func (s *streams) freeze() (json.RawMessage, error) {
	s.shut()
	s.mu.Lock()
	sets := make([]*streamSet, 0, len(s.sets)+len(s.lingering))
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

func (t *streamSet) freeze(errs *[]error) setDoc {
	d := setDoc{
		ID: t.id, Stdio: t.stdio, Started: t.started, Ended: t.ended, Closed: t.closed,
		Sock: keepFD(t.sock, errs), In: keepSource(t.in, errs), Out: [2]int{keepSource(t.out[0], errs), keepSource(t.out[1], errs)},
		Typed: t.typed, Status: t.status, InEnds: t.inEnds, Spool: keepFile(&t.spool.f, errs), SpoolEnd: t.spool.end,
	}
	for i := range t.child {
		d.Child[i] = keepFile(&t.child[i], errs)
	}
	if t.log != nil {
		d.Tails = [2][]byte{t.log.Tail(logfile.Stdout), t.log.Tail(logfile.Stderr)}
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
			Held: c.held, Behind: c.behind, First: c.first, Place: c.place, Frame: c.frame, Leaves: c.leaves, Halved: c.halved, Status: c.status,
		})
	}
	// Who still has this set must find nothing to do.
	t.clients, t.in, t.out, t.sock, t.ended, t.closed = nil, nil, [2]*source{}, -1, true, true
	return d
}

// thaw serves what a frozen streams object has served: in the next program, or
// in the same one if the exec has failed.
func (s *streams) thaw(raw json.RawMessage) error {
	var doc streamsDoc
	if err := json.Unmarshal(raw, &doc); err != nil {
		return err
	}
	if err := s.reset(doc.NextClient); err != nil {
		return err
	}
	s.setDirs(openFD(doc.ContainersDir, "containers"), openFD(doc.SpoolDir, "spool"))
	var errs []error
	for _, d := range doc.Sets {
		errs = append(errs, s.thawSet(d))
	}
	return errors.Join(errs...)
}

// reset makes a stopped object run again, with nothing in it.
func (s *streams) reset(nextClient uint64) error {
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

func (s *streams) thawSet(d setDoc) error {
	t := s.newSet(d.ID, d.Stdio)
	t.ended, t.closed, t.sock, t.typed, t.inEnds, t.status = d.Ended, d.Closed, d.Sock, d.Typed, d.InEnds, d.Status
	for i, fd := range d.Child {
		t.child[i] = openFD(fd, "child")
	}
	t.spool = spool{f: openFD(d.Spool, "spool"), end: d.SpoolEnd}
	if t.log != nil {
		t.log.SetTail(logfile.Stdout, d.Tails[0])
		t.log.SetTail(logfile.Stderr, d.Tails[1])
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

func (t *streamSet) thawEnds(d setDoc) {
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

func (t *streamSet) thawClients(states []clientState) error {
	var errs []error
	for _, d := range states {
		_ = rawfd.KeepOverExec(d.FD, false)
		c := &client{
			id: d.ID, src: &source{fd: d.FD, set: t}, want: d.Want, stdin: d.Stdin, keys: detachKeys{d.Keys, d.Seen},
			held: d.Held, behind: d.Behind, first: d.First, place: d.Place, frame: d.Frame,
			took: time.Now(), leaves: d.Leaves, halved: d.Halved, status: d.Status,
		}
		if err := t.addClient(c); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// adopt serves a process whose keeper has died, with the engine's duplicates of
// its streams; FIFOs of which the engine has none are opened by their paths.
// The files are taken over.
func (s *streams) adopt(id string, st Stdio, f Files) error {
	defer f.Close()
	t := s.newSet(id, st)
	if err := s.add(t); err != nil {
		return err
	}
	t.mu.Lock()
	err := t.adopt(f)
	t.unlock()
	if err != nil {
		s.close(id)
	}
	return err
}

func (t *streamSet) adopt(f Files) error {
	if t.stdio.TTY {
		if f.Master == nil {
			return errors.New("the terminal's master is lost")
		}
		fd, err := rawfd.DupFile(f.Master)
		if err != nil {
			return err
		}
		t.setMaster(fd)
		return t.begin()
	}
	var errs []error
	end := func(f *os.File, name string, open func(string) (int, error)) *source {
		fd, err := -1, error(nil)
		if f != nil {
			fd, err = rawfd.DupFile(f)
		} else {
			fd, err = open(t.path(name))
		}
		if err != nil {
			errs = append(errs, err)
			return nil
		}
		return &source{fd: fd, set: t}
	}
	if t.stdio.OpenStdin && f.Stdin != nil {
		// Not by its path: without the engine's duplicate it has been closed, and
		// the process has seen the end of file.
		t.in = end(f.Stdin, "stdin", fifo.Writer)
	}
	t.out[0] = end(f.Stdout, "stdout", fifo.Reader)
	t.out[1] = end(f.Stderr, "stderr", fifo.Reader)
	return errors.Join(append(errs, t.begin())...)
}
