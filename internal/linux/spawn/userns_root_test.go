//go:build root

package spawn

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// userns returns a user namespace and a process in it.
func userns(t *testing.T) (ns *os.File, pid int) {
	t.Helper()
	root := &syscall.Credential{}
	ids := []syscall.SysProcIDMap{{HostID: 100000, Size: 1000}}
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, Credential: root, GidMappingsEnableSetgroups: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return ns, cmd.Process.Pid
}

func TestNurseryInAUserNamespace(t *testing.T) {
	r, err := NewRegion(8)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ns, pid := userns(t)
	n, err := r.NewNurseryIn(ns)
	if err != nil {
		t.Fatal(err)
	}
	k := &kindergarten{r, n}
	want, err := os.Readlink(ns.Name())
	if err != nil {
		t.Fatal(err)
	}

	// Root of the namespace has all rights over who is in it, but this one.
	trace := func(pid int) []byte {
		p := NewPlan()
		p.ResetSignals()
		p.Stdio()
		p.Do("trace", syscall.SYS_PTRACE, Int(syscall.PTRACE_ATTACH), Int(pid), Nil, Nil)
		p.Exec("/bin/true", "", []string{"true"}, nil)
		c, _ := k.run(t, p)
		wait(t, c.pid)
		return c.report
	}
	if b := trace(pid); len(b) > 0 {
		t.Errorf("no rights over a process of the namespace: %v", b)
	}
	if len(trace(n.Pid())) == 0 {
		t.Error("the nursery can be traced")
		_ = syscall.Kill(n.Pid(), syscall.SIGCONT) // which has stopped it
	}

	// What is new for a child is the namespace's: its root may mount there.
	s := r.Get()
	p := NewPlan()
	p.ResetSignals()
	p.Stdio()
	p.Do("mount", SysMount, p.Str("none"), p.Str("/proc"), p.Str("tmpfs"), Nil, Nil)
	p.Do("work in it", SysChdir, p.Str("/"))
	p.Exec("/bin/sh", "", []string{"sh", "-c", "ls /proc; echo $$"}, nil)
	if err := s.Load(p.Image()); err != nil {
		t.Fatal(err)
	}
	c := k.start(t, s, Options{Cgroup: -1, Flags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID})
	if len(c.report) > 0 {
		t.Errorf("report %+v", s.ReadReport(c.report))
	}
	if got := output(t, c); got != "1\n" {
		t.Errorf("output %q", got)
	}
	wait(t, c.pid)
	s.Put()

	if got, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", n.Pid())); err != nil || got != want {
		t.Errorf("the nursery is in %s, %v", got, err)
	}
	n.Close()
	if ws := wait(t, n.Pid()); ws.ExitStatus() != 0 {
		t.Errorf("nursery ended with %v", ws)
	}
	n.Free()
}

func TestNurseryInAUserNamespaceThatCannotBeJoined(t *testing.T) {
	r, err := NewRegion(1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	own, err := os.Open("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	for range 3 { // it gives its only arena back
		if _, err := r.NewNurseryIn(own); err == nil || !strings.Contains(err.Error(), "join /proc/self/ns/user: invalid argument") {
			t.Error(err)
		}
	}
	if _, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != syscall.ECHILD {
		t.Errorf("a child stays: %v", err)
	}
}
