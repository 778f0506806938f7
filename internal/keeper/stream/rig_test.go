package stream

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/logfile"
)

// told collects what streams tell the server.
type told struct {
	mu     sync.Mutex
	events []string
}

func (e *told) add(s string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.events = append(e.events, s)
}

func (e *told) Detached(id string, _ uint64)         { e.add("detached " + id) }
func (e *told) StdinClosed(id string)                { e.add("stdin closed " + id) }
func (e *told) Abandoned(id string)                  { e.add("abandoned " + id) }
func (e *told) LogLost(id string, n int64, _ string) { e.add(fmt.Sprintf("dropped %s %d", id, n)) }

func (e *told) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.events, ", ")
}

// rig is streams with one directory for all that they need.
type rig struct {
	*Streams
	t    testing.TB
	dir  string
	told *told
}

func newRig(t testing.TB) *rig {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"live", "containers/c1/log", "spool"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	r := &rig{t: t, dir: dir, told: &told{}}
	s, err := New(filepath.Join(dir, "live"), r.told)
	if err != nil {
		t.Fatal(err)
	}
	r.Streams = s
	s.SetDirs(r.open0("containers"), r.open0("spool"))
	t.Cleanup(func() { r.end() })
	return r
}

// end ends the loop. What is frozen has been another's since.
func (r *rig) end() {
	if r.frozen == nil {
		r.Close("c1")
		r.stop()
	}
	r.poll.Close()
}

// before are the streams of programs that have been replaced: in a test they
// are still there, and must not close what is the next one's.
var before []*Streams

// replace is what an exec does: other streams go on with what is frozen.
func (r *rig) replace(doc json.RawMessage) {
	r.t.Helper()
	s, err := New(filepath.Join(r.dir, "live"), r.told)
	if err != nil {
		r.t.Fatal(err)
	}
	r.poll.Close()
	before = append(before, r.Streams)
	r.Streams = s
	if err := s.Thaw(doc); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) open0(name string) *os.File {
	r.t.Helper()
	f, err := os.Open(filepath.Join(r.dir, name))
	if err != nil {
		r.t.Fatal(err)
	}
	return f
}

// proc is the process's side of the streams.
type proc struct {
	in       io.Reader
	out, err io.WriteCloser
}

// begin opens the streams of c1 and gives a process's ends, which are the
// test's own, as after a fork.
func (r *rig) begin(st wire.Stdio) *proc {
	r.t.Helper()
	st.UID, st.GID = os.Geteuid(), os.Getegid()
	child, err := r.Streams.Open("c1", st)
	if err != nil {
		r.t.Fatal(err)
	}
	var own [3]*os.File
	for i, f := range child {
		fd, err := syscall.Dup(int(f.Fd()))
		if err != nil {
			r.t.Fatal(err)
		}
		syscall.CloseOnExec(fd)
		own[i] = os.NewFile(uintptr(fd), "own")
		f := own[i]
		r.t.Cleanup(func() { f.Close() })
	}
	return &proc{in: own[0], out: own[1], err: own[2]}
}

func (r *rig) start(st wire.Stdio) *proc {
	r.t.Helper()
	p := r.begin(st)
	if err := r.Started("c1"); err != nil {
		r.t.Fatal(err)
	}
	return p
}

// dial attaches a client and returns its end.
func (r *rig) dial(c wire.Client) (*net.UnixConn, uint64, logfile.Position) {
	r.t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	c.Conn = os.NewFile(uintptr(fds[0]), "conn")
	f := os.NewFile(uintptr(fds[1]), "client")
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	id, at, err := r.Attach("c1", c)
	if err != nil {
		c.Conn.Close()
		r.t.Fatal(err)
	}
	return conn.(*net.UnixConn), id, at
}

// frame reads one frame.
func frame(t testing.TB, c io.Reader) (byte, string) {
	t.Helper()
	var h [8]byte
	if _, err := io.ReadFull(c, h[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint32(h[4:]))
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return h[0], string(b)
}

// frames reads to the end and returns what came on each stream.
func frames(t testing.TB, c io.Reader) (out, err string) {
	t.Helper()
	all, rerr := io.ReadAll(c)
	if rerr != nil {
		t.Fatal(rerr)
	}
	var b [3]bytes.Buffer
	for len(all) > 0 {
		if len(all) < 8 {
			t.Fatalf("%d bytes left", len(all))
		}
		n := 8 + int(binary.BigEndian.Uint32(all[4:]))
		b[all[0]].Write(all[8:n])
		all = all[n:]
	}
	return b[1].String(), b[2].String()
}

func (r *rig) logText() string {
	r.t.Helper()
	root, err := os.OpenRoot(filepath.Join(r.dir, "containers/c1/log"))
	if err != nil {
		r.t.Fatal(err)
	}
	l, err := logfile.Open(root, logfile.Name("c1", logfile.JSON))
	if err != nil {
		r.t.Fatal(err)
	}
	defer l.Close()
	var b strings.Builder
	var e logfile.Entry
	for l.Next(&e) == nil {
		fmt.Fprintf(&b, "%s:%s|", e.Stream, bytes.TrimSpace(e.Line))
	}
	return b.String()
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func say(t testing.TB, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
}

var testLog = &wire.Log{Dir: "c1/log", MaxSize: 1 << 20, MaxFiles: 3}

func both() wire.Client { return wire.Client{Stdout: true, Stderr: true} }

func fdCount(t testing.TB) int {
	t.Helper()
	es, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(es)
}
