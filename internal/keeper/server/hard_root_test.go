//go:build root

package server

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
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

// nurseries returns the pids of the keeper's nurseries. A container's child has
// their name until its exec, but a PID namespace of its own.
func (r *engineRig) nurseries() (pids []int) {
	here, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		r.t.Error(err)
	}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, s := range stats {
		b, err := os.ReadFile(s)
		if err != nil {
			continue
		}
		var pid, ppid int
		var comm, state string
		if fmt.Sscanf(string(b), "%d %s %s %d", &pid, &comm, &state, &ppid); ppid != r.KeeperPid() || comm != "(tare-nursery)" || state == "Z" {
			continue
		}
		if ns, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)); ns == here {
			pids = append(pids, pid)
		}
	}
	return pids
}

func kill(t testing.TB, pid int, sig syscall.Signal) {
	t.Helper()
	fd, err := process.Open(pid)
	if errors.Is(err, os.ErrProcessDone) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	if err := process.Signal(fd, sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

func TestStartsSurviveTheNurseries(t *testing.T) {
	r := newEngineRig(t)
	stop := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(15 * time.Millisecond):
			}
			for _, pid := range r.nurseries() {
				kill(t, pid, syscall.SIGKILL)
				break
			}
		}
	})
	for i := range 60 {
		id := fmt.Sprint("c", i)
		r.run(container(id, "exit 3")).Files.Close()
		if x := r.exit(id); x.Status.ExitStatus() != 3 {
			t.Errorf("%+v", x)
		}
		if err := r.Ack(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	killer.Wait()
}

func TestManyStartsAtOnceLeaveNoDescriptor(t *testing.T) {
	r := newEngineRig(t)
	count := func() int {
		fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.KeeperPid()))
		return len(fds)
	}
	round := func(n int) {
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				s := container(fmt.Sprintf("c%d-%d", n, i), "exit 0")
				s.Stdio.Log = nil
				p, err := r.Start(t.Context(), s)
				if err != nil {
					t.Error(err)
					return
				}
				p.Files.Close()
			})
		}
		all.Wait()
		for i := range 40 {
			id := fmt.Sprintf("c%d-%d", n, i)
			r.exit(id)
			if err := r.Ack(t.Context(), id); err != nil {
				t.Error(err)
			}
		}
	}
	round(0)
	before := count()
	round(1)
	// Mount namespaces are dropped behind the exit.
	for end := time.Now().Add(10 * time.Second); count() > before+3; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d descriptors, then %d", before, count())
		}
	}
}

func TestUpgradeAmongStarts(t *testing.T) {
	r := newEngineRig(t)
	c := r.run(container("c1", "exec sleep 100"))
	c.Files.Close()
	into, err := process.Open(c.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer into.Close()
	ns := userNamespace(t)
	started := func(s keeper.Start) {
		s.Stdio.Log = nil
		p, err := r.Start(t.Context(), s)
		if err != nil {
			t.Errorf("%s: %v", s.ID, err)
			return
		}
		p.Files.Close()
		if x := r.exit(s.ID); x.Status.ExitStatus() != 9 || x.Unknown {
			t.Errorf("%+v", x)
		}
		if err := r.Ack(t.Context(), s.ID); err != nil {
			t.Error(err)
		}
	}
	var all sync.WaitGroup
	for worker := range 3 {
		all.Go(func() {
			for i := range 15 {
				switch id := fmt.Sprintf("u%d-%d", worker, i); worker {
				case 0: // by a nursery of its own, in another's user namespace
					s := container(id, "exit 9")
					s.UserNS = ns
					started(s)
				case 1: // in two halves
					started(execIn(into, id, "exit 9"))
				default:
					started(container(id, "exit 9"))
				}
			}
		})
	}
	for range 4 {
		if err := r.Upgrade(t.Context(), os.Args[0]); err != nil {
			t.Error(err)
		}
	}
	all.Wait()
}

func TestPidIsToldAtTheGate(t *testing.T) {
	r := newEngineRig(t)
	gateR, gateW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	reachedR, reachedW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := spawn.NewPlan()
	p.ResetSignals()
	p.Gate(spawn.FD(0), spawn.FD(1))
	p.CloseOnExec()
	p.Exec("/bin/sh", "", []string{"sh", "-c", "exit 4"}, nil)
	born := make(chan int, 1)
	s := keeper.Start{ID: "g1", CgroupFD: -1, Plan: p.Image(), FDs: []*os.File{reachedW, gateR}, Born: func(pid int) { born <- pid }}
	go func() {
		pid := <-born
		b := make([]byte, 1)
		reachedR.Read(b)
		if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); strings.Contains(exe, "sh") {
			t.Errorf("at the gate the child is %q already", exe)
		}
		gateW.Write([]byte{1})
	}()
	q, err := r.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	q.Files.Close()
	for _, f := range []*os.File{gateR, gateW, reachedR, reachedW} {
		f.Close()
	}
	if x := r.exit("g1"); x.Status.ExitStatus() != 4 {
		t.Errorf("%+v", x)
	}
}

// hijacked returns both ends of a client's connection.
func hijacked(t *testing.T) (keepers *os.File, client *net.UnixConn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[1]), "client")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return os.NewFile(uintptr(fds[0]), "keeper's"), c.(*net.UnixConn)
}

func TestClientComesWithTheStart(t *testing.T) {
	r := newEngineRig(t)
	theirs, c := hijacked(t)
	s := container("c1", "while read l; do echo got $l; done; echo end >&2")
	s.Stdio.OpenStdin, s.Stdio.StdinOnce = true, true
	s.Clients = []keeper.Client{{Conn: theirs, Buffered: []byte("early\n"), Stdin: true, Stdout: true, Stderr: true}}
	p := r.run(s)
	theirs.Close()
	p.Files.Close()
	c.Write([]byte("late\n"))
	c.CloseWrite()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	raw, err := io.ReadAll(c)
	var got [3]string
	for len(raw) >= 8 {
		n := 8 + int(binary.BigEndian.Uint32(raw[4:]))
		got[raw[0]] += string(raw[8:n])
		raw = raw[n:]
	}
	if err != nil || got[1] != "got early\ngot late\n" || got[2] != "end\n" {
		t.Errorf("%v %q\n%s", err, got, r.log())
	}
	r.exit("c1")
}

func TestTerminalOfAContainer(t *testing.T) {
	r := newEngineRig(t)
	theirs, c := hijacked(t)
	p := spawn.NewPlan()
	enclose(p, "c1")
	p.Do("devpts", spawn.SysMount, p.Str("devpts"), p.Str("/dev/pts"), p.Str("devpts"), spawn.Nil, p.Str("newinstance,ptmxmode=0666"))
	p.Terminal(spawn.TerminalOptions{Rows: 30, Cols: 100})
	p.ControllingTTY()
	p.CloseOnExec()
	script := "tty; stty size; trap 'stty size; exit 7' WINCH; echo ready; while :; do sleep 0.02; done"
	p.Exec("sh", "/bin", []string{"sh", "-c", script}, []string{"PATH=/bin:/usr/bin"})
	s := keeper.Start{
		ID: "c1", Flags: namespaces, CgroupFD: -1, Plan: p.Image(), Stdio: keeper.Stdio{TTY: true, OpenStdin: true, Rows: 30, Cols: 100},
		Clients: []keeper.Client{{Conn: theirs, Stdin: true, Stdout: true}},
	}
	q := r.run(s)
	theirs.Close()
	if q.Master == nil || q.Stdout != nil {
		t.Errorf("%+v", q)
	}
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	var got bytes.Buffer
	b := make([]byte, 512)
	for resized := false; ; {
		n, err := c.Read(b)
		got.Write(b[:n])
		if !resized && strings.Contains(got.String(), "ready") {
			resized = true
			if err := r.Resize(t.Context(), "c1", 41, 132); err != nil {
				t.Error(err)
			}
		}
		if err != nil {
			break
		}
	}
	q.Files.Close()
	if s := strings.ReplaceAll(got.String(), "\r", ""); s != "/dev/pts/0\n30 100\nready\n41 132\n" {
		t.Errorf("%q\n%s", s, r.log())
	}
	if x := r.exit("c1"); x.Status.ExitStatus() != 7 {
		t.Errorf("%+v", x)
	}
}

func TestStrangersAreNotServed(t *testing.T) {
	r := newEngineRig(t)
	// The test program in another PID namespace connects and says hello.
	cmd := exec.Command(os.Args[0], "-test.run", "^TestHelloFromElsewhere$", "-test.v")
	cmd.Env = append(os.Environ(), "TARE_TEST_KEEPER=", "TARE_TEST_SOCKET="+keeper.SocketPath(r.root))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "refused: ") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, _, err := r.List(t.Context()); err != nil {
		t.Error("the engine lost its connection:", err)
	}
}

func TestHelloFromElsewhere(t *testing.T) {
	path := os.Getenv("TARE_TEST_SOCKET")
	if path == "" {
		return // part of TestStrangersAreNotServed
	}
	_, err := keeper.Dial(t.Context(), path, keeper.Hello{EngineID: "e2"}, newEventRecord())
	if err == nil {
		t.Fatal("served")
	}
	fmt.Println("refused: ", err)
}

func TestSecondKeeperIsRefused(t *testing.T) {
	r := newEngineRig(t)
	cmd := exec.Command(os.Args[0], "--exec-root", r.root)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another keeper") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestKeeperShowsNothingOfItself(t *testing.T) {
	r := newEngineRig(t)
	r.run(container("c1", "ls /proc/self/fd | wc -l; cat /proc/self/oom_score_adj; readlink /proc/1/exe; env | grep -c TARE")).Files.Close()
	r.exit("c1")
	got := strings.Fields(r.output("c1"))
	if len(got) != 4 || got[0] != "4" || got[1] != "0" || strings.Contains(got[2], "memfd") || got[3] != "0" {
		t.Errorf("%q", got)
	}
	points, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", r.KeeperPid()))
	ours, _ := os.ReadFile("/proc/self/mountinfo")
	if err != nil || bytes.Count(points, []byte("\n")) > bytes.Count(ours, []byte("\n")) || strings.Contains(string(points), "shared:") {
		t.Errorf("%v\n%s", err, points)
	}
}

// TestStoppedExecsStopNobodyElse: processes of a container can stop what
// appears among them before it has begun. Here it stops itself.
func TestStoppedExecsStopNobodyElse(t *testing.T) {
	r := newEngineRig(t)
	c := r.run(container("c1", "exec sleep 100"))
	c.Files.Close()
	fd, err := process.Open(c.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	const execs = 2 * maxStarts
	done := make(chan error, execs)
	for i := range execs {
		x := stoppedExec(fd, fmt.Sprintf("x%d", i))
		go func() {
			_, err := r.Start(t.Context(), x)
			done <- err
		}()
	}
	first := execIn(fd, "first", "") // and who owns its control group can freeze a first half
	p := spawn.NewPlan()
	p.Do("frozen", syscall.SYS_NANOSLEEP, p.Words(spawn.Int(1000), spawn.Int(0)), spawn.Nil)
	p.CloneSecond()
	first.Container, first.Plan = "c3", p.Image()
	firstDone := make(chan error, 1)
	go func() {
		_, err := r.Start(t.Context(), first)
		firstDone <- err
	}()
	for range execs - maxSeconds - maxStarts { // that many at least are refused
		if err := <-done; err == nil {
			t.Error("a stopped process has begun")
		}
	}
	begun := time.Now()
	r.run(container("c2", "exec true")).Files.Close()
	if d := time.Since(begun); d > 20*time.Second {
		t.Errorf("another container started after %v", d)
	}
	if err := <-firstDone; err == nil {
		t.Error("an exec whose first half hangs has begun")
	}
	process.Signal(fd, 9)
	for range maxSeconds + maxStarts {
		<-done // killed: how far it got cannot be told
	}
	if d := time.Since(begun); d > secondWait/2 {
		t.Errorf("the execs ended after %v", d)
	}
}

// stoppedExec is an exec whose second half is stopped before it has begun.
func stoppedExec(c *os.File, id string) keeper.Start {
	x := execIn(c, id, "")
	p := spawn.NewPlan()
	p.Do("setsid", spawn.SysSetsid)
	p.Do("stop the process group", syscall.SYS_KILL, spawn.Nil, spawn.Int(syscall.SIGSTOP))
	p.Exec("true", "/bin", []string{"true"}, nil)
	x.Second = p.Image()
	return x
}

// TestManyContainersWithStoppedExecs: together they have more of them than there
// are arenas or requests in service, and others start all the same.
func TestManyContainersWithStoppedExecs(t *testing.T) {
	const hostile, execs = 8, 40
	r := newEngineRig(t)
	born, ended := make(chan int, hostile*execs), make(chan error, hostile*execs)
	var inits []*os.File
	for i := range hostile {
		c := r.run(container(fmt.Sprintf("c%d", i), "exec sleep 100"))
		c.Files.Close()
		fd, err := process.Open(c.Pid)
		if err != nil {
			t.Fatal(err)
		}
		defer fd.Close()
		inits = append(inits, fd)
		for j := range execs {
			x := stoppedExec(fd, fmt.Sprintf("c%dx%d", i, j))
			x.Container, x.Born = fmt.Sprintf("c%d", i), func(pid int) { born <- pid }
			go func() {
				_, err := r.Start(t.Context(), x)
				ended <- err
			}()
		}
	}
	for range hostile * maxSeconds {
		select {
		case <-born:
		case err := <-ended:
			t.Fatalf("one ended while others came: %v", err)
		}
	}
	c := r.run(container("other", "exec sleep 100"))
	c.Files.Close()
	fd, err := process.Open(c.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	x := execIn(fd, "x", "exit 4")
	x.Container = "other"
	r.run(x).Files.Close()
	if x := r.exit("x"); x.Status.ExitStatus() != 4 {
		t.Errorf("%+v", x)
	}
	if len(ended) > 0 {
		t.Errorf("others began when %d stopped ones had ended: %v", len(ended), <-ended)
	}
	for _, fd := range inits {
		process.Signal(fd, 9)
	}
	for range cap(ended) - len(ended) {
		<-ended
	}
}

// TestHeldRuntimes: a container can also hold up another runtime's exec.
func TestHeldRuntimes(t *testing.T) {
	r := newEngineRig(t)
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC); err != nil { // one that blocks who reads
		t.Fatal(err)
	}
	held, hold := os.NewFile(uintptr(fds[0]), "held"), os.NewFile(uintptr(fds[1]), "hold")
	defer held.Close()
	const execs = 2 * maxStarts
	began, ended := make(chan bool, execs), make(chan error, execs)
	said, says, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	for i := range execs {
		p := spawn.NewPlan()
		p.Do("stdin", spawn.SysDup3, spawn.FD(0), spawn.Int(0), spawn.Nil)
		p.Do("stdout", spawn.SysDup3, spawn.FD(1), spawn.Int(1), spawn.Nil)
		p.Exec("sh", "/bin:/usr/bin", []string{"sh", "-c", "echo; read x"}, nil)
		x := keeper.Start{ID: fmt.Sprint("x", i), Container: fmt.Sprint("c", i/maxSeconds), External: true, CgroupFD: -1, Plan: p.Image(), FDs: []*os.File{held, says}}
		go func() {
			_, err := r.Start(t.Context(), x)
			ended <- err
		}()
	}
	go func() {
		for range execs {
			if _, err := said.Read(make([]byte, 1)); err != nil {
				return
			}
			began <- true
		}
	}()
	defer says.Close()
	for range execs {
		select {
		case <-began:
		case <-time.After(secondWait):
			hold.Close()
			t.Fatal("not all runtimes were executed")
		case err := <-ended:
			hold.Close()
			t.Fatal(err)
		}
	}
	r.run(container("other", "exit 0")).Files.Close()
	hold.Close()
	for range execs {
		if err := <-ended; err == nil {
			t.Error("a runtime that left no process has started one")
		}
	}
}

// TestManyExecsAtOnce: more of them than may be on their way into one container
// wait for each other.
func TestManyExecsAtOnce(t *testing.T) {
	r := newEngineRig(t)
	c := r.run(container("c1", "exec sleep 100"))
	c.Files.Close()
	fd, err := process.Open(c.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	const execs = 2 * maxStarts
	done := make(chan error, execs)
	for i := range execs {
		x := execIn(fd, fmt.Sprintf("x%d", i), "")
		p := spawn.NewPlan()
		p.Do("setsid", spawn.SysSetsid)
		p.Do("a slow machine", syscall.SYS_NANOSLEEP, p.Words(spawn.Int(0), spawn.Int(100_000_000)), spawn.Nil)
		p.Exec("true", "/bin", []string{"true"}, nil)
		x.Second = p.Image()
		go func() {
			_, err := r.Start(t.Context(), x)
			done <- err
		}()
	}
	for range execs {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
