//go:build root

package server

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// otherProgram is the keeper's program with something behind it: it does the
// same, and is another one.
func otherProgram(t *testing.T, more string) string {
	t.Helper()
	b, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tare-keeper")
	if err := os.WriteFile(path, append(b, more...), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// busy is a keeper with all that an upgrade hands over, and what the rest of it
// must be.
type busy struct {
	*engineRig
	client *net.UnixConn
	lines  int
}

func newBusy(t *testing.T) *busy {
	r := newEngineRig(t)
	theirs, client := hijacked(t)
	s := container("c1", "while read l; do echo got $l; done; exit 6")
	s.Stdio.OpenStdin, s.Stdio.StdinOnce = true, true
	s.Clients = []keeper.Client{{Conn: theirs, Stdin: true, Stdout: true, Stderr: true}}
	p := r.run(s)
	theirs.Close()
	p.Files.Close()
	fd, err := process.Open(p.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	x, err := r.Start(t.Context(), execIn(fd, "x1", "exec sleep 100"))
	if err != nil {
		t.Fatal(err)
	}
	x.Files.Close()
	plan := spawn.NewPlan()
	enclose(plan, "p1")
	plan.ParkStep()
	if _, err := r.Park(t.Context(), keeper.Start{ID: "p1", Flags: namespaces, CgroupFD: -1, Plan: plan.Image()}); err != nil {
		t.Fatal(err)
	}
	return &busy{engineRig: r, client: client}
}

// works types a line and reads it back, starts a process, and has its end told.
func (b *busy) works(t *testing.T) {
	t.Helper()
	b.lines++
	fmt.Fprintln(b.client, b.lines)
	b.client.SetReadDeadline(time.Now().Add(10 * time.Second))
	want := fmt.Sprintln("got", b.lines)
	frame := make([]byte, 8+len(want))
	if n, err := b.client.Read(frame); err != nil || string(frame[8:n]) != want || int(binary.BigEndian.Uint32(frame[4:])) != len(want) {
		t.Fatalf("the client got %q, %v\n%s", frame[:n], err, b.log())
	}
	id := fmt.Sprint("n", b.lines)
	b.run(container(id, "exit 3")).Files.Close()
	if x := b.exit(id); x.Status.ExitStatus() != 3 || x.Unknown {
		t.Errorf("%+v", x)
	}
	if err := b.Ack(t.Context(), id); err != nil {
		t.Error(err)
	}
}

// ends has all of it end, and looks at how.
func (b *busy) ends(t *testing.T) {
	t.Helper()
	q := spawn.NewPlan()
	q.Stdio()
	q.Exec("sh", "/bin", []string{"sh", "-c", "exit 8"}, nil)
	w, err := b.Wake(t.Context(), keeper.Start{ID: "p1", CgroupFD: -1, Plan: q.Image()})
	if err != nil {
		t.Fatalf("%v\n%s", err, b.log())
	}
	w.Files.Close()
	b.client.CloseWrite()
	for id, want := range map[string]int{"p1": 8, "c1": 6} {
		if x := b.exit(id); x.Status.ExitStatus() != want || x.Unknown {
			t.Errorf("%+v", x)
		}
	}
	b.exit("x1") // with its container
	var want strings.Builder
	for i := range b.lines {
		fmt.Fprintln(&want, "got", i+1)
	}
	if got := b.output("c1"); got != want.String() {
		t.Errorf("output %q", got)
	}
}

// TestFailedUpgradeLeavesEverything: whatever is wrong with an upgrade, the
// keeper serves as before.
func TestFailedUpgradeLeavesEverything(t *testing.T) {
	b := newBusy(t)
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.works(t)
	for range 3 {
		if err := b.Upgrade(t.Context(), garbage); err == nil || !strings.Contains(err.Error(), "execute") {
			t.Errorf("garbage was executed: %v", err)
		}
		b.works(t)
	}
	// A start that hangs holds it up until it gives up.
	gate, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Close()
	p := spawn.NewPlan()
	p.ResetSignals()
	p.Gate(spawn.FD(0), spawn.FD(1))
	p.Exec("/bin/sh", "", []string{"sh", "-c", "exit 4"}, nil)
	null, _ := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	defer null.Close()
	started := make(chan error, 1)
	born := make(chan int, 1)
	go func() {
		s := keeper.Start{ID: "g1", CgroupFD: -1, Plan: p.Image(), FDs: []*os.File{null, gate}, Born: func(pid int) { born <- pid }}
		q, err := b.Start(t.Context(), s)
		if err == nil {
			q.Files.Close()
		}
		started <- err
	}()
	<-born
	begun := time.Now()
	if err := b.Upgrade(t.Context(), os.Args[0]); err == nil || !strings.Contains(err.Error(), "in flight") {
		t.Errorf("upgraded over a start: %v", err)
	}
	if d := time.Since(begun); d < upgradeWait {
		t.Errorf("gave up after %v", d)
	}
	b.works(t)
	hold.Write([]byte{1})
	hold.Close()
	if err := <-started; err != nil {
		t.Error(err)
	}
	if x := b.exit("g1"); x.Status.ExitStatus() != 4 {
		t.Errorf("%+v", x)
	}
	b.works(t)
	if err := b.Upgrade(t.Context(), otherProgram(t, "x")); err != nil { // nothing is in the way of one that is right
		t.Fatalf("%v\n%s", err, b.log())
	}
	b.works(t)
	b.ends(t)
}

// TestRenewal is an engine's start with a keeper of another version.
func TestRenewal(t *testing.T) {
	b := newBusy(t)
	pid := b.KeeperPid()
	renewal := &keeper.Renewal{Program: os.Args[0]}
	renew := func() (*keeper.Renewed, error) { return renewal.Renew(t.Context(), b.root, "e1") }
	asked := func() keeper.Identity {
		t.Helper()
		id, err := keeper.Ask(t.Context(), b.root)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	again := func() { // an engine that comes after the renewal
		t.Helper()
		b.Conn.Close()
		b.dial()
		b.works(t)
	}
	if done, err := renew(); done != nil || err != nil {
		t.Errorf("the same program was replaced: %+v, %v", done, err)
	}
	b.works(t) // on the same connection: nobody has taken it away
	first := asked()

	renewal.Program = otherProgram(t, "2")
	if done, err := renew(); err != nil || done == nil || done.Pid != pid {
		t.Fatalf("%+v, %v\n%s", done, err, b.log())
	}
	again()
	if id := asked(); id.Pid != pid || id.Program == first.Program {
		t.Errorf("%+v, was %+v", id, first)
	}

	// Somebody makes it the old one again, and again: once is enough.
	if err := b.Upgrade(t.Context(), os.Args[0]); err != nil {
		t.Fatal(err)
	}
	if done, err := renew(); done != nil || err == nil || !strings.Contains(err.Error(), "before") {
		t.Errorf("%+v, %v", done, err)
	}
	b.works(t)

	broken := filepath.Join(t.TempDir(), "tare-keeper")
	if err := os.WriteFile(broken, []byte("\x7fELF and no more"), 0o755); err != nil {
		t.Fatal(err)
	}
	liar := filepath.Join(t.TempDir(), "tare-keeper") // has no interpreter where the keeper is
	if err := os.WriteFile(liar, []byte("#!/bin/sh\necho "+wire.TakesState(stateVersion)), 0o755); err != nil {
		t.Fatal(err)
	}
	closed := filepath.Join(t.TempDir(), "tare-keeper")
	fifo := closed + ".fifo"
	if err := errors.Join(os.WriteFile(closed, []byte("\x7fELF"), 0o644), syscall.Mkfifo(fifo, 0o755)); err != nil {
		t.Fatal(err)
	}
	for program, want := range map[string]string{
		broken: "cannot take over", liar: "no ELF", "/bin/true": "it says", "/bin/echo": "it says", // echo repeats the question
		closed: "no executable file", fifo: "no executable file",
	} {
		renewal = &keeper.Renewal{Program: program}
		if done, err := renew(); done != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v", program, done, err)
		}
		b.works(t)
	}
	renewal.Program = broken + "/none"
	if done, err := renew(); done != nil || err == nil {
		t.Errorf("%+v, %v", done, err)
	}
	b.works(t)
	b.ends(t)
	if done, err := renewal.Renew(t.Context(), t.TempDir(), "e1"); done != nil || err != nil {
		t.Errorf("no keeper was replaced: %+v, %v", done, err)
	}
}

// TestKeepersOfOtherProtocols: a newer keeper is left as it is, one that is too
// old to talk to is named.
func TestKeepersOfOtherProtocols(t *testing.T) {
	t.Setenv("TARE_TEST_KEEPER", "1") // the program that is tried is this one
	for _, tc := range []struct {
		version     int
		renew, dial string // texts of the errors
	}{
		{wire.ProtocolVersion + 1, "newer than this engine", ""},
		{wire.OldestVersion - 1, "no such request", "the oldest one spoken here"},
	} {
		root := t.TempDir()
		l := otherKeeper(t, root, tc.version)
		renewal := &keeper.Renewal{Program: os.Args[0]}
		if done, err := renewal.Renew(t.Context(), root, "e1"); done != nil || err == nil || !strings.Contains(err.Error(), tc.renew) {
			t.Errorf("version %d: %+v, %v", tc.version, done, err)
		}
		c, err := keeper.Dial(t.Context(), keeper.SocketPath(root), keeper.Hello{EngineID: "e1"}, newEventRecord())
		if err == nil {
			c.Close()
		}
		if (err == nil) != (tc.dial == "") || err != nil && !strings.Contains(err.Error(), tc.dial) {
			t.Errorf("version %d: dial: %v", tc.version, err)
		}
		l.Close()
	}
}

// otherKeeper answers as a keeper of another version, and does nothing.
func otherKeeper(t *testing.T, root string, version int) *net.UnixListener {
	t.Helper()
	if err := os.Mkdir(filepath.Join(root, "keeper"), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := listen(keeper.SocketPath(root))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				w := wire.NewSocket(c)
				for {
					m, err := w.Receive()
					if err != nil {
						return
					}
					doc, _ := json.Marshal(wire.HelloReply{Version: version, Pid: os.Getpid(), Program: "other"})
					if m.Op == wire.OpUpgrade {
						doc, _ = json.Marshal(wire.ErrorDoc{Error: "no such request"})
					}
					m.Close()
					if w.Send(&wire.Message{Op: wire.OpReply, Request: m.Request, Doc: doc}) != nil {
						return
					}
				}
			}()
		}
	}()
	return l
}

// TestOldEnginesAreToldWhy: an engine of a protocol that is not spoken any more
// gets an answer.
func TestOldEnginesAreToldWhy(t *testing.T) {
	r := newEngineRig(t)
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: keeper.SocketPath(r.root), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w := wire.NewSocket(c)
	if err := w.Send(&wire.Message{Op: wire.OpHello, Request: 1, Doc: []byte(`{"Version":0}`)}); err != nil {
		t.Fatal(err)
	}
	m, err := w.Receive()
	if err != nil || !bytes.Contains(m.Doc, []byte("protocol version 0")) {
		t.Errorf("%v, %+v", err, m)
	}
	if _, _, err := r.List(t.Context()); err != nil {
		t.Error("the engine lost its connection:", err)
	}
}
