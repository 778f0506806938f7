package stream

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/keeper/wire"
)

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
			return len(s.audience.clients) == 0
		})
	}
	if n := fdCount(t); n > before+2 {
		t.Errorf("%d descriptors, %d before", n, before)
	}
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
		if _, _, err := r.Attach("c1", both()); err == nil {
			t.Error("attached to what is frozen")
		}
		r.replace(doc)
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

// TestUnfreezeGoesOnWithEverything: an exec that fails, and a freeze that fails
// itself, leave the streams as they were. Output comes and goes meanwhile.
func TestUnfreezeGoesOnWithEverything(t *testing.T) {
	limitSpool(t, spoolMax, time.Minute)
	r := newRig(t)
	p := r.start(wire.Stdio{OpenStdin: true, StdinOnce: true, Log: &wire.Log{Dir: testLog.Dir}})
	slow, _, _ := r.dial(both())
	held := both()
	held.Hold = true
	waits, client, _ := r.dial(held)
	typist, _, _ := r.dial(wire.Client{Stdin: true, Stdout: true, DetachKeys: []byte("qq")})
	done := make(chan string)
	go func() {
		out, _ := frames(t, typist)
		done <- out
	}()
	say(t, typist, "ab q")
	piece := strings.Repeat("0123456789abcde\n", 1<<15)
	say(t, p.out, piece+"unfinished ")
	for round := range 4 {
		if round%2 == 0 {
			if _, err := r.Freeze(); err != nil {
				t.Fatal(err)
			}
			say(t, p.out, "meanwhile\n") // nobody reads it yet
			r.Unfreeze()
		} else {
			r.failingFreeze(t)
			say(t, p.out, "after\n")
		}
		say(t, p.out, piece)
	}
	want := piece + "unfinished meanwhile\n" + piece + "after\n" + piece + "meanwhile\n" + piece + "after\n" + piece
	say(t, typist, "x")
	b := make([]byte, 5)
	if _, err := io.ReadFull(p.in, b); string(b) != "ab qx" || err != nil {
		t.Errorf("process read %q, %v", b, err)
	}
	if err := r.Resume(client); err != nil {
		t.Error(err)
	}
	p.out.Close()
	p.err.Close()
	r.Drain("c1", nil)
	if got := <-done; got != want {
		t.Errorf("the quick client got %d bytes of %d", len(got), len(want))
	}
	for _, c := range []*net.UnixConn{slow, waits} {
		if got, _ := frames(t, c); got != want {
			t.Errorf("a slow client got %d bytes of %d", len(got), len(want))
		}
	}
	if got := strings.ReplaceAll(strings.ReplaceAll(r.logText(), "stdout:", ""), "|", "\n"); got != want {
		t.Errorf("the log has %d bytes of %d", len(got), len(want))
	}
}

// failingFreeze freezes with a set whose descriptor is not there.
func (r *rig) failingFreeze(t *testing.T) {
	t.Helper()
	bad := r.newSet("c2", wire.Stdio{})
	bad.sock = 1 << 20
	if err := r.add(bad); err != nil {
		t.Fatal(err)
	}
	if doc, err := r.Freeze(); err == nil {
		t.Errorf("frozen: %s", doc)
	}
	bad.mu.Lock()
	bad.sock = -1
	bad.mu.Unlock()
	r.Close("c2")
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
	r.poll.Close()
	before = append(before, r.Streams)
	r.Streams = s
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

// A process may be made to end with its client: one that closes, one that has
// gone before the start; not one that leaves by its keys.
func TestProcessEndsWithItsClient(t *testing.T) {
	for _, tc := range []struct {
		name   string
		client wire.Client
		leave  func(t *testing.T, c *net.UnixConn)
		want   string
	}{
		{"watches", wire.Client{Stdout: true, Ends: true}, closeConn, "abandoned c1"},
		{"types", wire.Client{Stdin: true, Stdout: true, Ends: true}, closeConn, "abandoned c1"},
		{"detaches", wire.Client{Stdin: true, Stdout: true, Ends: true, DetachKeys: []byte{16, 17}}, func(t *testing.T, c *net.UnixConn) { say(t, c, "\x10\x11") }, "detached c1"},
		{"may go", wire.Client{Stdout: true}, closeConn, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			p := r.start(wire.Stdio{OpenStdin: true})
			c, _, _ := r.dial(tc.client)
			tc.leave(t, c)
			eventually(t, "the client is gone", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.clients) == 0 })
			eventually(t, "the engine hears: "+tc.want, func() bool { return r.told.String() == tc.want }) // behind the lock under which the client went
			p.out.Close()
		})
	}
	t.Run("before the start", func(t *testing.T) {
		r := newRig(t)
		r.begin(wire.Stdio{OpenStdin: true})
		c, _, _ := r.dial(wire.Client{Stdout: true, Ends: true})
		c.Close()
		eventually(t, "the client is gone", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.clients) == 0 })
		if got := r.told.String(); got != "" {
			t.Errorf("told %q before the start", got)
		}
		if err := r.Started("c1"); err != nil {
			t.Fatal(err)
		}
		if got := r.told.String(); got != "abandoned c1" {
			t.Errorf("told %q after the start", got)
		}
	})
}

func closeConn(_ *testing.T, c *net.UnixConn) { c.Close() }
