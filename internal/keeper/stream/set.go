package stream

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/epoll"
	"github.com/tare-engine/tare/internal/linux/fifo"
	"github.com/tare-engine/tare/internal/linux/rawfd"
	"github.com/tare-engine/tare/internal/linux/tty"
	"github.com/tare-engine/tare/internal/linux/unixconn"
	"github.com/tare-engine/tare/internal/logfile"
)

// set is the standard input, output and error of one process, its log and
// the clients attached to it. It joins what knows nothing of each other: the
// ends of the process, the log, the audience that gets the output, the input.
//
//	open ──► started ──► (drain) ended ──► close
//	   └────────── start failed ───────────┘
//
// A set that is closed lives on while clients have not got everything.
type set struct {
	s     *Streams
	id    string
	stdio wire.Stdio
	state turnState // the queue's

	mu      sync.Mutex
	started bool
	ended   bool   // the process is dead and its pipes are read
	status  []byte // frame for clients with Status, once ended
	closed  bool   // forgotten by the server

	child [3]*os.File // the child's ends until started
	sock  int         // where the terminal's master arrives; -1
	in    input
	out   [2]*source // stdout and stderr, or the master and nothing
	grown [2]bool    // the pipe was made larger

	log      *logfile.Writer // nil: none
	reported int64           // lost lines told
	toldAt   time.Time
	lastUse  time.Time

	audience audience

	abandoned bool // a client has gone that the process ends with

	events []func(Events) // to be sent without mu
}

// unlock gives mu back and then tells what has happened.
func (t *set) unlock() {
	events := t.events
	t.events = nil
	t.mu.Unlock()
	for _, e := range events {
		e(t.s.ev)
	}
}

func (s *Streams) newSet(id string, st wire.Stdio) *set {
	t := &set{s: s, id: id, stdio: st, sock: -1, in: input{tty: st.TTY}}
	t.audience = audience{owner: t, framed: st.Framed()}
	if st.Log != nil {
		dir := st.Log.Dir
		t.log = logfile.NewWriter(func() (*os.Root, error) { return s.logDir(dir) }, logfile.Name(id, st.Log.Format), logfile.Options{
			MaxSize: st.Log.MaxSize, MaxFiles: st.Log.MaxFiles, Compress: st.Log.Compress, Attrs: st.Log.Attrs, Format: st.Log.Format,
		})
	}
	return t
}

func (t *set) path(name string) string { return filepath.Join(t.s.live, t.id, name) }

// Open makes the FIFOs of a process, or the socket that its terminal arrives
// at, and returns what its child gets as 5, 6 and 7; they stay ours.
func (s *Streams) Open(id string, st wire.Stdio) ([3]*os.File, error) {
	t := s.newSet(id, st)
	if err := s.add(t); err != nil {
		return [3]*os.File{}, err
	}
	t.mu.Lock()
	var err error
	if st.TTY {
		err = t.openTerminal()
	} else {
		err = t.openFIFOs()
	}
	t.mu.Unlock()
	if err != nil {
		s.Close(id)
		s.Remove(id)
		return [3]*os.File{}, err
	}
	failpoint.Hit("start/streams-made")
	return t.child, nil
}

func (t *set) openTerminal() error {
	if t.stdio.Console {
		return t.listenForTerminal()
	}
	ours, childs, err := unixconn.Pair()
	if err != nil {
		return err
	}
	t.sock, t.child[0] = ours, os.NewFile(uintptr(childs), "terminal")
	for i := 1; i < 3; i++ {
		if err := t.childEnd(i, rawfd.Null); err != nil {
			return err
		}
	}
	return nil
}

func (t *set) openFIFOs() error {
	if err := os.Mkdir(filepath.Join(t.s.live, t.id), 0o700); err != nil && !os.IsExist(err) {
		return err
	}
	if err := t.openStdin(); err != nil {
		return err
	}
	for i, name := range []string{"stdout", "stderr"} {
		path := t.path(name)
		if err := fifo.Make(path, t.stdio.UID, t.stdio.GID); err != nil {
			return err
		}
		// In this order end of file is exact; see package fifo.
		r, err := fifo.Reader(path)
		if err != nil {
			return err
		}
		t.out[i] = &source{fd: r, set: t}
		if err := t.childEnd(1+i, func() (int, error) { return fifo.Both(path) }); err != nil {
			return err
		}
	}
	return nil
}

func (t *set) openStdin() error {
	if !t.stdio.OpenStdin {
		return t.childEnd(0, rawfd.Null)
	}
	r, w, err := fifo.Input(t.stdio.UID, t.stdio.GID)
	if err != nil {
		return err
	}
	t.child[0] = os.NewFile(uintptr(r), "child")
	t.in.end = &source{fd: w, set: t}
	return nil
}

func (t *set) childEnd(i int, open func() (int, error)) error {
	fd, err := open()
	if err != nil {
		return err
	}
	t.child[i] = os.NewFile(uintptr(fd), "child")
	return nil
}

// closeChild closes the child's ends; the child has its own by now.
func (t *set) closeChild() {
	for i, f := range t.child {
		if f != nil {
			f.Close()
		}
		t.child[i] = nil
	}
}

// Started says that the exec is done: the child's ends are closed, the
// terminal's master is taken, reading begins.
func (s *Streams) Started(id string) error {
	t, err := s.set(id)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.unlock()
	if t.started {
		return errdefs.New(errdefs.Conflict, "process %s has started already", id)
	}
	failpoint.Hit("start/streams-begin")
	t.closeChild()
	if t.stdio.TTY {
		if err := t.takeMaster(); err != nil {
			return err
		}
	}
	return t.begin()
}

func (t *set) takeMaster() error {
	fd, err := t.receiveMaster()
	rawfd.Close(t.sock)
	t.sock = -1
	if err != nil {
		return err
	}
	if err := errors.Join(tty.Check(fd), rawfd.Nonblock(fd)); err != nil {
		rawfd.Close(fd)
		return err
	}
	t.setMaster(fd)
	if t.stdio.Rows != 0 && t.stdio.Cols != 0 {
		return tty.Resize(fd, t.stdio.Rows, t.stdio.Cols)
	}
	return nil
}

// setMaster makes a terminal's master the end for all three streams.
func (t *set) setMaster(fd int) {
	t.out[0] = &source{fd: fd, set: t}
	if t.stdio.OpenStdin {
		t.in.end = t.out[0]
	}
}

// begin lets the loop wait for the process's ends.
func (t *set) begin() error {
	t.started = true
	for _, src := range t.ends() {
		what := epoll.Read
		if src == t.in.end {
			what = epoll.Write
			if t.stdio.TTY {
				what |= epoll.Read
			}
		}
		if err := t.s.watch(src, what); err != nil {
			return err
		}
	}
	if t.abandoned {
		t.abandon()
	}
	t.s.queue.put(t)
	return nil
}

// ends returns the open descriptors of the process's side.
func (t *set) ends() []*source {
	all := []*source{t.in.end, t.out[0], t.out[1]}
	if t.stdio.TTY {
		all = all[1:2] // the master is stdin as well
	}
	return slices.DeleteFunc(all, func(src *source) bool { return src == nil || src.fd < 0 })
}

// Files returns duplicates of a process's streams.
func (s *Streams) Files(id string) (f wire.Files, err error) {
	t, err := s.set(id)
	if err != nil {
		return f, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	dup := func(to **os.File, src *source) {
		if src == nil || src.fd < 0 || err != nil {
			return
		}
		var fd int
		if fd, err = rawfd.Dup(src.fd); err == nil {
			*to = os.NewFile(uintptr(fd), "stream")
		}
	}
	if t.stdio.TTY {
		dup(&f.Master, t.out[0])
	} else {
		dup(&f.Stdin, t.in.end)
		dup(&f.Stdout, t.out[0])
		dup(&f.Stderr, t.out[1])
	}
	if err != nil {
		f.Close()
		return wire.Files{}, err
	}
	return f, nil
}

// Resize sets the size of a process's terminal.
func (s *Streams) Resize(id string, rows, cols uint16) error {
	t, err := s.set(id)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !t.stdio.TTY:
		return errdefs.New(errdefs.InvalidArgument, "process %s has no terminal", id)
	case !t.started:
		t.stdio.Rows, t.stdio.Cols = rows, cols
		return nil
	case t.out[0] == nil || t.out[0].fd < 0:
		return errdefs.New(errdefs.Conflict, "process %s has ended", id)
	}
	return tty.Resize(t.out[0].fd, rows, cols)
}

// Drain says that the process is dead: what its pipes hold is read, logged and
// given to clients; then its streams end.
func (s *Streams) Drain(id string, status []byte) {
	t, err := s.set(id)
	if err != nil {
		return // closed meanwhile
	}
	t.mu.Lock()
	defer t.unlock()
	if !t.started || t.ended {
		return
	}
	failpoint.Hit("stop/drain-begins")
	t.readRest()
	failpoint.Hit("stop/drained")
	t.ended, t.status = true, status
	for i := range t.out {
		t.endOutput(i)
	}
	t.closeInput()
	t.serveClients()
}

// Close forgets a process: after drain, or when its start has failed, which
// its clients hear from the engine.
func (s *Streams) Close(id string) {
	s.mu.Lock()
	t := s.sets[id]
	delete(s.sets, id)
	s.mu.Unlock()
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.unlock()
	t.closed = true
	t.closeChild()
	if t.sock >= 0 {
		rawfd.Close(t.sock)
		t.sock = -1
	}
	if !t.started {
		for _, c := range t.audience.clients {
			c.release()
		}
		t.audience.clients = nil
	}
	t.ended = true
	for i := range t.out {
		t.endOutput(i)
	}
	t.closeInput()
	if t.log != nil {
		_ = t.log.NoteLoss(time.Now())
		t.log.Suspend()
	}
	s.mu.Lock()
	s.lingering[t] = true
	s.mu.Unlock()
	t.serveClients()
	t.forget()
}

// forget drops a closed set that has no clients any more.
func (t *set) forget() {
	if !t.closed || len(t.audience.clients) > 0 {
		return
	}
	t.audience.spool.release()
	t.s.mu.Lock()
	delete(t.s.lingering, t)
	t.s.mu.Unlock()
}

// Remove takes the FIFOs of a process from the disk, and their directory if
// nothing else is in it.
func (s *Streams) Remove(id string) {
	if !wire.UsableID(id) {
		return
	}
	dir := filepath.Join(s.live, id)
	for _, n := range []string{"stdout", "stderr", wire.RuntimeConsole} {
		os.Remove(filepath.Join(dir, n))
	}
	os.Remove(dir)
}
