//go:build root

package server

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/linux/process"
)

// TestSubreaperKnowsTheStatus is the case of an engine that started the keeper
// and inherits its children.
func TestSubreaperKnowsTheStatus(t *testing.T) {
	const setChildSubreaper = 36 // PR_SET_CHILD_SUBREAPER
	if _, _, e := syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0); e != 0 {
		t.Fatal(e)
	}
	defer syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 0, 0)
	r := newEngineRig(t)
	p := r.run(container("c1", "exec sleep 100"))
	p.Files.Close()
	kill := func(pid int, sig syscall.Signal) {
		fd, err := process.Open(pid)
		if err != nil {
			t.Fatal(err)
		}
		process.Signal(fd, sig)
		fd.Close()
	}
	kill(r.KeeperPid(), syscall.SIGKILL)
	<-r.ev.lost
	r.Conn.Close()
	r.spawn()
	r.dial()
	kill(p.Pid, syscall.SIGKILL)
	if x := r.exit("c1"); x.Unknown || x.Status.Signal() != syscall.SIGKILL {
		t.Errorf("%+v\n%s", x, r.log())
	}
}

func TestKeeperDies(t *testing.T) {
	r := newEngineRig(t)
	p := r.run(container("c1", "trap 'echo bye; exit 11' TERM; echo ready; while :; do sleep 0.05; done"))
	defer p.Files.Close()
	// What the keeper has read and not yet logged would die with it.
	r.logged("c1", "ready\n")
	q := r.run(container("c2", "sleep 0.3; exit 1"))
	q.Files.Close()
	other, err := process.Open(q.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	k, err := process.Open(r.KeeperPid())
	if err != nil {
		t.Fatal(err)
	}
	process.Signal(k, syscall.SIGKILL)
	k.Close()
	<-r.ev.lost
	r.Conn.Close()
	waitForEnd(t, other) // init may have reaped it or not
	r.spawn()
	r.dial()
	running, exits, err := r.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	orphans := map[string]int{}
	for _, q := range running {
		q.Files.Close()
		if q.Orphan {
			orphans[q.ID] = q.Pid
		}
	}
	if orphans["c1"] != p.Pid {
		t.Fatalf("orphans %v\n%s", orphans, r.log())
	}
	if len(exits) == 0 {
		exits = append(exits, r.exit("c2"))
	}
	if x := exits[0]; x.ID != "c2" || !x.Unknown && x.Status.ExitStatus() != 1 {
		t.Errorf("%+v", x)
	}
	if err := r.Adopt(t.Context(), *p, keeper.Stdio{Log: &keeper.Log{Dir: "c1"}}); err != nil {
		t.Fatal(err)
	}
	before := cpuTicks(t, r.KeeperPid())
	time.Sleep(300 * time.Millisecond) // what is measured: nothing may happen within
	if n := cpuTicks(t, r.KeeperPid()) - before; n > 5 {
		t.Errorf("watching an orphan took %d ticks of CPU in 300 ms", n)
	}
	fd, _ := process.Open(p.Pid)
	process.Signal(fd, syscall.SIGTERM)
	fd.Close()
	x := r.exit("c1")
	if !x.Unknown && x.Status.ExitStatus() != 11 {
		t.Errorf("%+v", x)
	}
	if got := r.output("c1"); got != "ready\nbye\n" {
		t.Errorf("output %q", got)
	}
}

// waitForEnd waits until the process of a pidfd has ended.
func waitForEnd(t *testing.T, pidfd *os.File) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(time.Millisecond) {
		if over, err := process.Ended(pidfd); over {
			return
		} else if err != nil || time.Now().After(end) {
			t.Fatalf("it does not end: %v", err)
		}
	}
}

// cpuTicks is the CPU time of a process in hundredths of a second.
func cpuTicks(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	var user, system int
	f := strings.Fields(rest)
	fmt.Sscan(f[11], &user)
	fmt.Sscan(f[12], &system)
	return user + system
}
