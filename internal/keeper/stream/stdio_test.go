package stream

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
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
	t.Cleanup(func() {
		s.Close("c1")
		s.shut()
	})
	return r
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
	l, err := logfile.Open(root, logfile.Name("c1"))
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

func TestOutputGoesToClientsAndLog(t *testing.T) {
	r := newRig(t)
	p := r.begin(wire.Stdio{Log: testLog})
	c, _, _ := r.dial(both()) // attached before the start
	only, _, _ := r.dial(wire.Client{Stderr: true})
	if err := r.Started("c1"); err != nil {
		t.Fatal(err)
	}
	say(t, p.out, "hello\n")
	if s, text := frame(t, c); s != 1 || text != "hello\n" {
		t.Errorf("frame %d %q", s, text)
	}
	say(t, p.err, "oops\nunfinished")
	if s, text := frame(t, c); s != 2 || text != "oops\nunfinished" {
		t.Errorf("frame %d %q", s, text)
	}
	p.out.Close()
	p.err.Close()
	if n, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the end of output: %d, %v", n, err)
	}
	if out, err := frames(t, only); out != "" || err != "oops\nunfinished" {
		t.Errorf("client of stderr only: %q, %q", out, err)
	}
	r.Drain("c1", nil)
	if got := r.logText(); got != "stdout:hello|stderr:oops|stderr:unfinished|" {
		t.Errorf("log %q", got)
	}
}

func TestDrainReadsWhatPipesHold(t *testing.T) {
	r := newRig(t)
	p := r.start(wire.Stdio{Log: testLog})
	c, _, _ := r.dial(both())
	for i := range 100 {
		say(t, p.out, fmt.Sprintf("%d\n", i))
	}
	r.Drain("c1", nil) // somebody else still has the pipe open
	r.Streams.Close("c1")
	out, _ := frames(t, c)
	if !strings.HasSuffix(out, "98\n99\n") {
		t.Errorf("client got %q", out)
	}
	if got := r.logText(); !strings.HasSuffix(got, "stdout:98|stdout:99|") {
		t.Errorf("log %q", got)
	}
	r.Remove("c1")
	if _, err := os.Stat(filepath.Join(r.dir, "live/c1")); !os.IsNotExist(err) {
		t.Errorf("FIFOs are left: %v", err)
	}
}

func TestStdinOnceClosesWithItsClient(t *testing.T) {
	r := newRig(t)
	p := r.start(wire.Stdio{OpenStdin: true, StdinOnce: true})
	files, err := r.Files("c1")
	if err != nil {
		t.Fatal(err)
	}
	c, _, _ := r.dial(wire.Client{Stdin: true, Stdout: true, Buffered: []byte("first ")})
	say(t, c, "second")
	c.CloseWrite()
	eventually(t, "the engine hears of it", func() bool { return r.told.String() == "stdin closed c1" })
	files.Close()
	got, err := io.ReadAll(p.in)
	if string(got) != "first second" || err != nil {
		t.Errorf("process read %q, %v", got, err)
	}
	say(t, p.out, "still")
	if _, text := frame(t, c); text != "still" {
		t.Errorf("after its half close the client got %q", text)
	}
}

func TestStdinStaysOpenForTheNext(t *testing.T) {
	r := newRig(t)
	p := r.start(wire.Stdio{OpenStdin: true})
	for _, text := range []string{"one", "two"} {
		c, _, _ := r.dial(wire.Client{Stdin: true, Stdout: true})
		say(t, c, text)
		c.CloseWrite()
		b := make([]byte, 10)
		if n, err := p.in.Read(b); string(b[:n]) != text || err != nil {
			t.Fatalf("process read %q, %v", b[:n], err)
		}
		if _, err := c.Read(b); err != io.EOF {
			t.Errorf("its attachment does not end: %v", err)
		}
	}
}

func TestBigInputWaitsForTheProcess(t *testing.T) {
	r := newRig(t)
	p := r.start(wire.Stdio{OpenStdin: true, StdinOnce: true})
	c, _, _ := r.dial(wire.Client{Stdin: true, Stdout: true})
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		c.Write(want)
		c.CloseWrite()
	}()
	time.Sleep(20 * time.Millisecond)
	got, err := io.ReadAll(p.in)
	if !bytes.Equal(got, want) || err != nil {
		t.Errorf("process read %d bytes, %v", len(got), err)
	}
}

func TestDetachKeys(t *testing.T) {
	r := newRig(t)
	p := r.start(wire.Stdio{OpenStdin: true})
	c, _, _ := r.dial(wire.Client{Stdin: true, Stdout: true, DetachKeys: []byte{16, 17}})
	say(t, c, "a\x10b\x10\x10\x11lost")
	if b, err := io.ReadAll(c); len(b) > 0 || err != nil {
		t.Errorf("client got %q, %v", b, err)
	}
	b := make([]byte, 10)
	n, _ := p.in.Read(b)
	if string(b[:n]) != "a\x10b\x10" {
		t.Errorf("process read %q", b[:n])
	}
	eventually(t, "the engine hears of it", func() bool { return r.told.String() == "detached c1" })
}

func TestDetachFilter(t *testing.T) {
	for _, c := range []struct {
		keys, in, out string
		found         bool
	}{
		{"", "abc", "abc", false},
		{"ab", "xabx", "x", true},
		{"aab", "aaab", "a", true},
		{"aab", "aaaac", "aaaac", false},
		{"abac", "ababac", "ab", true},
		{"ab", "a", "", false},
	} {
		for step := 1; step < 4; step++ {
			d := detachKeys{keys: []byte(c.keys)}
			var out []byte
			found := false
			for i := 0; i < len(c.in) && !found; i += step {
				out, found = d.filter(out, []byte(c.in[i:min(len(c.in), i+step)]))
			}
			if string(out) != c.out || found != c.found {
				t.Errorf("keys %q in %q: %q, %v", c.keys, c.in, out, found)
			}
		}
	}
}

// A client that does not read gets everything later, and neither the process nor
// another client waits for it.
func TestStoppedClientLosesNothing(t *testing.T) {
	r := newRig(t)
	p := r.start(wire.Stdio{})
	slow, _, _ := r.dial(both())
	errOnly, _, _ := r.dial(wire.Client{Stderr: true})
	fast, _, _ := r.dial(both())
	const size = 12 << 20
	sum := make(chan [32]byte, 1)
	go func() {
		out, _ := frames(t, fast)
		sum <- sha256.Sum256([]byte(out))
	}()
	h := sha256.New()
	block := make([]byte, 1<<16)
	for i := 0; i < size; i += len(block) {
		for k := range block {
			block[k] = byte(i>>16 + k*7)
		}
		h.Write(block)
		if _, err := p.out.Write(block); err != nil {
			t.Fatal(err)
		}
		if i%(1<<20) == 0 {
			say(t, p.err, "note\n")
		}
	}
	p.out.Close()
	p.err.Close()
	want := [32]byte(h.Sum(nil))
	if got := <-sum; got != want {
		t.Error("the client that reads got something else")
	}
	r.Drain("c1", nil)
	r.Streams.Close("c1") // what is left does not need the process
	out, errText := frames(t, slow)
	if sha256.Sum256([]byte(out)) != want || errText != strings.Repeat("note\n", size>>20) {
		t.Errorf("the slow client got %d bytes, %q", len(out), errText)
	}
	if _, errText := frames(t, errOnly); errText != strings.Repeat("note\n", size>>20) {
		t.Errorf("the client of stderr got %q", errText)
	}
	eventually(t, "the set is forgotten", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.lingering) == 0 && len(r.sources) == 0
	})
}

func limitSpool(t *testing.T, bytes int64, stopped time.Duration) {
	oldLimit, oldSize, oldAfter := spoolLimit, spoolSize, stoppedAfter
	// An odd size, so that frames and their headers lie across the end.
	spoolLimit, spoolSize, stoppedAfter = bytes, bytes+8<<20+3, stopped
	t.Cleanup(func() { spoolLimit, spoolSize, stoppedAfter = oldLimit, oldSize, oldAfter })
}

// The spool's file is written round and round while a client stays behind.
func TestSpoolGoesRound(t *testing.T) {
	limitSpool(t, 1<<20, time.Minute)
	spoolSize = 1<<20 + 70_001
	r := newRig(t)
	p := r.start(wire.Stdio{})
	c, _, _ := r.dial(both())
	only, _, _ := r.dial(wire.Client{Stderr: true})
	const n = 40_000
	want := func(s string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "%s %d%s\n", s, i, strings.Repeat("x", i%211))
		}
		return b.String()
	}
	for s, w := range map[string]io.WriteCloser{"out": p.out, "err": p.err} {
		go func() {
			text := want(s)
			for i := 0; i < len(text); i += 3001 {
				io.WriteString(w, text[i:min(len(text), i+3001)])
			}
			w.Close()
		}()
	}
	time.Sleep(50 * time.Millisecond)
	done := make(chan string)
	go func() {
		_, errText := frames(t, only)
		done <- errText
	}()
	out, errText := frames(t, c)
	if out != want("out") || errText != want("err") {
		t.Errorf("the client got %d and %d bytes of %d and %d", len(out), len(errText), len(want("out")), len(want("err")))
	}
	if got := <-done; got != want("err") {
		t.Errorf("the client of stderr got %d bytes", len(got))
	}
}

func TestFullSpoolWaitsForAReader(t *testing.T) {
	limitSpool(t, 1<<20, time.Minute)
	r := newRig(t)
	p := r.start(wire.Stdio{})
	c, _, _ := r.dial(both())
	written := make(chan int, 1)
	go func() {
		n, _ := p.out.Write(make([]byte, 8<<20))
		p.out.Close()
		p.err.Close()
		written <- n
	}()
	select {
	case <-written:
		t.Fatal("the process did not wait")
	case <-time.After(300 * time.Millisecond):
	}
	out, _ := frames(t, c)
	if n := <-written; len(out) != 8<<20 || n != 8<<20 {
		t.Errorf("wrote %d, the client got %d", n, len(out))
	}
}

func TestStoppedClientIsCut(t *testing.T) {
	limitSpool(t, 1<<20, 100*time.Millisecond)
	r := newRig(t)
	p := r.start(wire.Stdio{})
	c, _, _ := r.dial(both())
	if n, err := p.out.Write(make([]byte, 16<<20)); n != 16<<20 || err != nil {
		t.Fatalf("the process wrote %d, %v", n, err)
	}
	out, errText := frames(t, c)
	if len(out) == 0 || len(out) >= 16<<20 || !strings.Contains(errText, "output is cut") {
		t.Errorf("the client got %d bytes and %q", len(out), errText)
	}
}

func TestHoldContinuesAtTheLogsPosition(t *testing.T) {
	r := newRig(t)
	p := r.start(wire.Stdio{Log: testLog})
	say(t, p.out, "one\ntw")
	say(t, p.err, "err")
	s, _ := r.set("c1")
	eventually(t, "it is read", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return string(s.log.Tail(1)) == "tw" && string(s.log.Tail(2)) == "err"
	})
	cl := both()
	cl.Hold = true
	c, id, at := r.dial(cl)
	say(t, p.out, "o\nthree\n")
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a held client got %d bytes, %v", n, err)
	}
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if err := r.Resume(id); err != nil {
		t.Fatal(err)
	}
	p.out.Close()
	p.err.Close()
	out, errText := frames(t, c)
	if out != "two\nthree\n" || errText != "err" {
		t.Errorf("after resume %q, %q", out, errText)
	}
	if at.Offset == 0 || at.Generation != 1 {
		t.Errorf("position %+v", at)
	}
}

func TestHundredClients(t *testing.T) {
	r := newRig(t)
	r.start(wire.Stdio{})
	for range maxClients {
		r.dial(both())
	}
	a, b, _ := os.Pipe()
	defer a.Close()
	defer b.Close()
	if _, _, err := r.Attach("c1", wire.Client{Conn: a}); err == nil || !strings.Contains(err.Error(), "100 clients") {
		t.Errorf("one more: %v", err)
	}
}

func TestOnlyUnixStreamsAreTaken(t *testing.T) {
	r := newRig(t)
	r.start(wire.Stdio{})
	pr, pw, _ := os.Pipe()
	defer pr.Close()
	defer pw.Close()
	l, err := net.Listen("unix", filepath.Join(r.dir, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	lf, _ := l.(*net.UnixListener).File()
	defer lf.Close()
	tl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tl.Close()
	tf, _ := tl.(*net.TCPListener).File()
	defer tf.Close()
	for _, f := range []*os.File{pr, lf, tf} {
		if _, _, err := r.Attach("c1", wire.Client{Conn: f, Stdout: true}); err == nil {
			t.Errorf("%s was taken", f.Name())
		}
	}
}

func TestClientsThatVanishLeaveNothing(t *testing.T) {
	r := newRig(t)
	p := r.start(wire.Stdio{OpenStdin: true})
	before := fdCount(t)
	s, _ := r.set("c1")
	for range 10 {
		for i := range 50 {
			c, _, _ := r.dial(wire.Client{Stdin: i%2 == 0, Stdout: true})
			say(t, p.out, "x")
			c.Close()
		}
		eventually(t, "clients are gone", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return len(s.clients) == 0
		})
	}
	if n := fdCount(t); n > before+2 {
		t.Errorf("%d descriptors, %d before", n, before)
	}
}

func fdCount(t testing.TB) int {
	t.Helper()
	es, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(es)
}

func TestFreezeAndThaw(t *testing.T) {
	limitSpool(t, spoolMax, time.Minute)
	r := newRig(t)
	p := r.start(wire.Stdio{OpenStdin: true, StdinOnce: true, Log: testLog})
	slow, _, _ := r.dial(both())
	typist, _, _ := r.dial(wire.Client{Stdin: true, Stdout: true, DetachKeys: []byte("qq")})
	want := strings.Repeat("0123456789abcde\n", 1<<17)
	half := len(want)/2 + 3
	done := make(chan string)
	go func() {
		out, _ := frames(t, typist)
		done <- out
	}()
	say(t, typist, "ab q")
	say(t, p.out, want[:half])
	for range 3 {
		doc, err := r.Freeze()
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(doc) {
			t.Fatal("no document")
		}
		if _, _, err := r.Attach("c1", both()); err == nil {
			t.Error("attached to what is frozen")
		}
		if err := r.Thaw(doc); err != nil {
			t.Fatal(err)
		}
	}
	say(t, typist, "x")
	say(t, p.out, want[half:])
	b := make([]byte, 4)
	if _, err := io.ReadFull(p.in, b); string(b) != "ab q" || err != nil {
		t.Errorf("process read %q, %v", b, err)
	}
	p.out.Close()
	p.err.Close()
	r.Drain("c1", nil)
	if got := <-done; got != want {
		t.Errorf("the quick client got %d bytes of %d", len(got), len(want))
	}
	if got, _ := frames(t, slow); got != want {
		t.Errorf("the slow client got %d bytes of %d", len(got), len(want))
	}
	if got := r.logText(); strings.Count(got, "|") < 10000 {
		t.Errorf("log has %d lines", strings.Count(got, "|"))
	}
}

func TestAdoptByPath(t *testing.T) {
	r := newRig(t)
	st := wire.Stdio{Log: testLog}
	p := r.start(st)
	say(t, p.out, "first\n")
	eventually(t, "it is in the log", func() bool { return r.logText() == "stdout:first|" })
	if _, err := r.Freeze(); err != nil { // the keeper dies
		t.Fatal(err)
	}
	s, err := New(filepath.Join(r.dir, "live"), r.told)
	if err != nil {
		t.Fatal(err)
	}
	r.Streams = s
	t.Cleanup(func() { s.Close("c1"); s.shut() })
	s.SetDirs(r.open0("containers"), r.open0("spool"))
	say(t, p.out, "meanwhile\n")
	if err := r.Adopt("c1", st, wire.Files{}); err != nil {
		t.Fatal(err)
	}
	c, _, _ := r.dial(both())
	say(t, p.out, "last\n")
	p.out.Close()
	p.err.Close()
	io.ReadAll(c)
	r.Drain("c1", nil)
	if got := r.logText(); got != "stdout:first|stdout:meanwhile|stdout:last|" {
		t.Errorf("log %q", got)
	}
}

func TestFullDiskDropsLinesAndTells(t *testing.T) {
	r := newRig(t)
	st := wire.Stdio{Log: &wire.Log{Dir: "nowhere", MaxSize: 1000, MaxFiles: 2}}
	p := r.start(st)
	c, _, _ := r.dial(both())
	say(t, p.out, "a\nb\n")
	if _, text := frame(t, c); text != "a\nb\n" {
		t.Errorf("client got %q", text)
	}
	eventually(t, "the engine hears of it", func() bool { return r.told.String() == "dropped c1 2" })
}
