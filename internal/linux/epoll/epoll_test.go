package epoll

import (
	"os"
	"syscall"
	"testing"
	"time"
)

func pipe(t *testing.T) (r, w int) {
	t.Helper()
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(p[0]) })
	return p[0], p[1]
}

func TestWaitTellsEachChangeOnce(t *testing.T) {
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	r, w := pipe(t)
	key := uint64(7<<40 | 3)
	if err := p.Add(r, key, Read); err != nil {
		t.Fatal(err)
	}
	got := make(chan Event)
	go func() {
		defer close(got)
		events := make([]Event, 4)
		for {
			n, err := p.Wait(events)
			if err != nil {
				return
			}
			for _, e := range events[:n] {
				got <- e
			}
		}
	}()
	next := func() Event {
		select {
		case e := <-got:
			return e
		case <-time.After(5 * time.Second):
			t.Fatal("nothing is told")
		}
		panic("unreachable")
	}
	for range 3 { // unread bytes: each write is a change
		if _, err := syscall.Write(w, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if e := next(); e.Key != key || e.Ready&Read == 0 {
			t.Fatalf("told %+v", e)
		}
	}
	syscall.Close(w)
	if e := next(); e.Ready&Hup == 0 {
		t.Fatalf("told %+v at the end", e)
	}
	if err := p.Remove(r); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if _, ok := <-got; ok {
		t.Fatal("told after Close")
	}
}

func TestAddRefusesFiles(t *testing.T) {
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := p.Add(int(f.Fd()), 1, Read); err == nil {
		t.Error("a descriptor that cannot be polled was taken")
	}
}
