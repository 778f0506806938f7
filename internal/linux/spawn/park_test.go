package spawn

import (
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParkedChildWakes(t *testing.T) {
	k := newKindergarten(t)
	ours, theirs, err := ParkSocket()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	s := k.Get()
	t.Cleanup(s.Put)
	p := NewPlan()
	p.Do("umask", SysUmask, Int(0o27))
	p.ParkStep()
	if err := s.LoadParked(p.Image()); err != nil {
		t.Fatal(err)
	}
	rep, repw := pipe(t)
	pid, err := k.n.Start(s, Options{Cgroup: -1}, []*os.File{repw, theirs})
	repw.Close()
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(rep); len(b) != 0 {
		t.Fatalf("report %+v", s.ReadReport(b))
	}
	// As after an upgrade: another program's slab for the same arena.
	arena, addr := s.Place()
	again, err := k.Parked(arena, addr)
	if err != nil {
		t.Fatal(err)
	}
	own, ownw := pipe(t)
	q := NewPlan()
	q.Stdio()
	q.Do("own descriptor survives the exec", SysFcntl, FD(0), Int(unix.F_SETFD), Nil)
	q.Exec("/bin/sh", "", []string{"sh", "-c", "umask; echo own >&8"}, nil)
	at, err := again.LoadSecond(q.Image())
	if err != nil {
		t.Fatal(err)
	}
	_, repw = pipe(t)
	out, outw := pipe(t)
	null, _ := os.Open(os.DevNull)
	if err := Wake(ours, at, []*os.File{repw, null, outw, outw, ownw}); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*os.File{null, outw, ownw} {
		f.Close()
	}
	wait(t, pid)
	repw.Close()
	if got := output(t, child{out: out}); got != "0027\n" {
		t.Errorf("output %q", got)
	}
	if got := output(t, child{out: own}); got != "own\n" {
		t.Errorf("own descriptor: %q", got)
	}
}

func TestParkedChildEndsWithItsSocket(t *testing.T) {
	k := newKindergarten(t)
	ours, theirs, err := ParkSocket()
	if err != nil {
		t.Fatal(err)
	}
	s := k.Get()
	t.Cleanup(s.Put)
	p := NewPlan()
	p.ParkStep()
	if err := s.LoadParked(p.Image()); err != nil {
		t.Fatal(err)
	}
	_, repw := pipe(t)
	pid, err := k.n.Start(s, Options{Cgroup: -1}, []*os.File{repw, theirs})
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	ours.Close()
	if ws := wait(t, pid); ws.ExitStatus() != 0 {
		t.Errorf("status %v", ws)
	}
}
