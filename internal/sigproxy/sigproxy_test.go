//go:build linux

package sigproxy

import (
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"
)

// next is the next signal to come.
func next(t *testing.T, c <-chan os.Signal) os.Signal {
	t.Helper()
	select {
	case s := <-c:
		return s
	case <-time.After(10 * time.Second):
		t.Fatal("no signal comes")
		return nil
	}
}

func TestUsualSignalsComeAtOnceOthersLater(t *testing.T) {
	t.Cleanup(func() { signal.Reset() })
	c := make(chan os.Signal, 8)
	Notify(c)
	send := func(s syscall.Signal) {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range usual {
		send(s.(syscall.Signal))
		if got := next(t, c); got != s {
			t.Errorf("%v came for %v", got, s)
		}
	}
	// The process goes on, with an error, when nobody reads what it writes.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("a write that nobody reads is no error")
	}
	notifyRest(c)
	const realTime = syscall.Signal(37)
	for _, s := range []syscall.Signal{syscall.SIGALRM, syscall.SIGTTIN, realTime, last} {
		send(s)
		if got := next(t, c); got != s {
			t.Errorf("%v came for %v", got, s)
		}
	}
	send(syscall.SIGURG)
	send(syscall.SIGPIPE)
	send(syscall.SIGUSR1)
	if got := next(t, c); got != syscall.SIGUSR1 {
		t.Errorf("%v came", got)
	}
}
