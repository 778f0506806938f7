package spawn

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// pair loads a pair of plans: an empty first half, and one that runs script.
func pair(t *testing.T, k *kindergarten, second *Plan) *Slab {
	t.Helper()
	s := k.Get()
	t.Cleanup(s.Put)
	p := NewPlan()
	p.ResetSignals()
	p.Stdio()
	p.CloneSecond()
	if err := s.Load(p.Image()); err != nil {
		t.Fatal(err)
	}
	if err := s.Pair(second.Image()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPair(t *testing.T) {
	k := newKindergarten(t)
	p := NewPlan()
	p.Exec("/bin/sh", "", []string{"sh", "-c", "echo $PPID; ls /proc/self/fd | wc -l; exit 3"}, nil)
	s := pair(t, k, p)
	c := k.start(t, s, Options{Cgroup: -1})
	if len(c.report) > 0 {
		t.Fatalf("report %+v", s.ReadReport(c.report))
	}
	if ws := wait(t, c.pid); ws.ExitStatus() != 0 {
		t.Fatalf("first half: %v", ws)
	}
	want := fmt.Sprintf("%d\n4\n", os.Getpid()) // 0 to 2 and the directory
	if got := output(t, c); got != want {
		t.Errorf("output %q, want %q", got, want)
	}
	if ws := wait(t, s.SecondPid()); ws.ExitStatus() != 3 {
		t.Errorf("second half: %v", ws)
	}
}

func TestSecondHalfHasNoSharedMemory(t *testing.T) {
	k := newKindergarten(t)
	p := NewPlan()
	b := p.Bytes(make([]byte, 8192))
	p.Do("open maps", SysOpen, p.Str("/proc/self/maps"), Nil).To(3)
	p.Do("read maps", SysRead, Slot(3), b, Int(8192)).To(4)
	p.Do("write maps", SysWrite, Int(1), b, Slot(4))
	p.Exec("/bin/true", "", []string{"true"}, nil)
	s := pair(t, k, p)
	c := k.start(t, s, Options{Cgroup: -1})
	wait(t, c.pid)
	wait(t, s.SecondPid())
	got := output(t, c)
	if got == "" || strings.Contains(got, "plans") || strings.Count(got, "\n") > 3 {
		t.Errorf("mappings of the second half:\n%s", got)
	}
}

func TestSecondHalfReports(t *testing.T) {
	k := newKindergarten(t)
	p := NewPlan()
	p.Do("one", SysGetpid)
	p.Exec("/no/such", "", []string{"x"}, nil)
	s := pair(t, k, p)
	c := k.start(t, s, Options{Cgroup: -1})
	wait(t, c.pid)
	wait(t, s.SecondPid())
	if r := s.ReadReport(c.report); r.Errno != syscall.ENOENT || r.Step != 1 || !r.Second {
		t.Errorf("report %+v", r)
	}
}
