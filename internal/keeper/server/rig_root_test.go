//go:build root

package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// engineRig is a keeper in a process of its own, with this test as its engine.
type engineRig struct {
	t    testing.TB
	root string // exec root
	data string // directory of logs
	*keeper.Conn
	ev *eventRecord
}

// eventRecord keeps the events of a connection.
type eventRecord struct {
	mu     sync.Mutex
	exits  map[string]keeper.Exit
	losses []string
	lost   chan error
	change chan struct{}
}

func newEventRecord() *eventRecord {
	return &eventRecord{exits: map[string]keeper.Exit{}, lost: make(chan error, 1), change: make(chan struct{}, 1024)}
}

func (r *eventRecord) Exited(x keeper.Exit) {
	r.mu.Lock()
	r.exits[x.ID] = x
	r.mu.Unlock()
	r.change <- struct{}{}
}
func (r *eventRecord) Detached(string, uint64) {}
func (r *eventRecord) StdinClosed(string)      {}
func (r *eventRecord) LogLost(id string, lines int64, reason string) {
	r.mu.Lock()
	r.losses = append(r.losses, fmt.Sprintf("%s %d %s", id, lines, reason))
	r.mu.Unlock()
}
func (r *eventRecord) Lost(err error) { r.lost <- err }

// exit waits for the end of a process.
func (r *engineRig) exit(id string) keeper.Exit {
	r.t.Helper()
	for end := time.After(15 * time.Second); ; {
		r.ev.mu.Lock()
		x, ok := r.ev.exits[id]
		r.ev.mu.Unlock()
		if ok {
			return x
		}
		select {
		case <-r.ev.change:
		case <-time.After(20 * time.Millisecond): // another waiter took the word
		case <-end:
			r.t.Fatalf("no exit of %s\n%s", id, r.log())
		}
	}
}

func newEngineRig(t testing.TB) *engineRig {
	t.Helper()
	t.Setenv("TARE_TEST_KEEPER", "1")
	r := &engineRig{t: t, root: filepath.Join(t.TempDir(), "run"), data: t.TempDir()}
	r.spawn()
	r.dial()
	t.Cleanup(r.end)
	return r
}

func (r *engineRig) spawn() {
	r.t.Helper()
	if err := keeper.Spawn(r.t.Context(), os.Args[0], r.root, "--log-level", "debug"); err != nil {
		r.t.Fatalf("%v\n%s", err, r.log())
	}
}

func (r *engineRig) dial() {
	r.t.Helper()
	containers, err := os.Open(r.data)
	if err != nil {
		r.t.Fatal(err)
	}
	defer containers.Close()
	r.ev = newEventRecord()
	r.Conn, err = keeper.Dial(r.t.Context(), keeper.SocketPath(r.root), keeper.Hello{EngineID: "e1", Containers: containers, Spool: containers}, r.ev)
	if err != nil {
		r.t.Fatalf("%v\n%s", err, r.log())
	}
}

// end kills what runs, and checks that the keeper ends with nothing left.
func (r *engineRig) end() {
	ctx := context.Background()
	running, exits, err := r.List(ctx)
	if err != nil {
		r.t.Error(err)
	}
	for _, p := range running {
		p.Files.Close()
		if p.Parked {
			err = errors.Join(err, r.Evict(ctx, p.ID))
			continue
		}
		if fd, err := process.Open(p.Pid); err == nil {
			process.Signal(fd, syscall.SIGKILL)
			fd.Close()
		}
		exits = append(exits, r.exit(p.ID))
	}
	for _, x := range exits {
		err = errors.Join(err, r.Ack(ctx, x.ID))
	}
	if err := errors.Join(err, r.Shutdown(ctx)); err != nil {
		r.t.Errorf("shutdown: %v\n%s", err, r.log())
		r.killKeeper() // it does not outlive its test
	}
	r.Close()
	for _, dir := range []string{"live", "exits"} {
		if left, _ := os.ReadDir(filepath.Join(r.root, dir)); len(left) > 0 {
			r.t.Errorf("left in %s: %v", dir, left)
		}
	}
	if r.t.Failed() {
		r.t.Log(r.log())
	}
}

func (r *engineRig) killKeeper() {
	if fd, err := process.Open(r.KeeperPid()); err == nil {
		process.Signal(fd, syscall.SIGKILL)
		fd.Close()
	}
}

func (r *engineRig) log() string {
	b, _ := os.ReadFile(filepath.Join(r.root, "keeper", "log"))
	return string(b)
}

const namespaces = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET

// enclose makes the steps of a container on the host's root.
func enclose(p *spawn.Plan, id string) {
	p.ResetSignals()
	p.Do("private", spawn.SysMount, spawn.Nil, p.Str("/"), spawn.Nil, spawn.Int(syscall.MS_REC|syscall.MS_PRIVATE), spawn.Nil)
	p.Do("hostname", spawn.SysSethostname, p.Str(id), spawn.Int(len(id)))
	p.Do("proc", spawn.SysMount, p.Str("proc"), p.Str("/proc"), p.Str("proc"), spawn.Nil, spawn.Nil)
}

func container(id, script string) keeper.Start {
	p := spawn.NewPlan()
	enclose(p, id)
	p.Stdio()
	p.CloseOnExec()
	p.Exec("sh", "/bin:/usr/bin", []string{"sh", "-c", script}, []string{"PATH=/bin:/usr/bin"})
	return keeper.Start{ID: id, Flags: namespaces, CgroupFD: -1, Plan: p.Image(), Stdio: keeper.Stdio{Log: &keeper.Log{Dir: id}}}
}

func (r *engineRig) run(s keeper.Start) *keeper.Process {
	r.t.Helper()
	if s.Stdio.Log != nil {
		if err := os.MkdirAll(filepath.Join(r.data, s.Stdio.Log.Dir), 0o700); err != nil {
			r.t.Fatal(err)
		}
	}
	p, err := r.Start(r.t.Context(), s)
	if err != nil {
		r.t.Fatalf("%v\n%s", err, r.log())
	}
	return p
}

// output is what the log of a process holds, as it stands in the file.
func (r *engineRig) output(id string) string {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.data, id, id+"-json.log"))
	if err != nil {
		r.t.Fatalf("%v\n%s", err, r.log())
	}
	var out strings.Builder
	for l := range bytes.Lines(b) {
		_, l, _ := bytes.Cut(l, []byte(`{"log":"`))
		l, _, _ = bytes.Cut(l, []byte(`\n","stream"`))
		out.Write(append(l, '\n'))
	}
	return out.String()
}

// logged waits until the log of a process holds a text.
func (r *engineRig) logged(id, want string) {
	r.t.Helper()
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(filepath.Join(r.data, id, id+"-json.log")); err == nil && strings.Contains(r.output(id), want) {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("no %q in the log of %s", want, id)
		}
	}
}
