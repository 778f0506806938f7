package main

import (
	"io"
	"os"
	"syscall"

	"github.com/moby/term"
	"github.com/tare-engine/tare/internal/linux/tty"
	"github.com/tare-engine/tare/internal/linux/unixconn"
	"github.com/tare-engine/tare/internal/sigproxy"
)

// session is a process in the foreground: its terminal, our signals, its end.
type session struct {
	sock    *os.File // ours, on which the master comes; nil: no terminal
	master  *os.File
	state   *term.State
	copied  chan struct{} // closed when all output is written
	signals chan os.Signal
}

func newSession() *session {
	s := &session{signals: make(chan os.Signal, 32)}
	sigproxy.Notify(s.signals)
	return s
}

// console returns the end of a socket pair over which a child sends the master
// of its terminal. The caller closes it once the child has it.
func (s *session) console() (*os.File, error) {
	ours, theirs, err := unixconn.Pair()
	if err != nil {
		return nil, err
	}
	s.sock = os.NewFile(uintptr(ours), "console")
	return os.NewFile(uintptr(theirs), "console"), nil
}

// attach connects our streams with the terminal that the child has sent.
func (s *session) attach() error {
	if s.sock == nil {
		return nil
	}
	fd, err := unixconn.ReceiveFD(int(s.sock.Fd()))
	s.sock.Close()
	if err != nil {
		return err
	}
	s.master = os.NewFile(uintptr(fd), "master")
	if term.IsTerminal(os.Stdin.Fd()) {
		if s.state, err = term.SetRawTerminal(os.Stdin.Fd()); err != nil {
			return err
		}
		s.resize()
	}
	s.copied = make(chan struct{})
	go func() {
		_, _ = io.Copy(os.Stdout, s.master) // ends with EIO when the last slave closes
		close(s.copied)
	}()
	go func() { _, _ = io.Copy(s.master, os.Stdin) }()
	return nil
}

func (s *session) resize() {
	if w, err := term.GetWinsize(os.Stdin.Fd()); err == nil && s.master != nil {
		_ = tty.Resize(int(s.master.Fd()), w.Height, w.Width)
	}
}

// wait forwards signals until the process has ended, and returns the exit code
// that a shell would show. As their reaper we also take the orphans.
func (s *session) wait(pid int) (int, error) {
	if err := s.attach(); err != nil {
		return 0, err
	}
	defer s.restore()
	sigproxy.NotifyRest(s.signals)
	ended := make(chan syscall.WaitStatus)
	go func() { ended <- reapUntil(pid) }()
	for {
		select {
		case ws := <-ended:
			if s.copied != nil {
				<-s.copied
			}
			return codeOf(ws), nil
		case sig := <-s.signals:
			if sig == syscall.SIGWINCH {
				s.resize()
			} else {
				_ = syscall.Kill(pid, sig.(syscall.Signal))
			}
		}
	}
}

func (s *session) restore() {
	if s.state != nil {
		_ = term.RestoreTerminal(os.Stdin.Fd(), s.state)
	}
}

func reapUntil(pid int) syscall.WaitStatus {
	for {
		var ws syscall.WaitStatus
		p, err := syscall.Wait4(-1, &ws, 0, nil)
		if p == pid || err != nil && err != syscall.EINTR {
			return ws
		}
	}
}

func codeOf(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}
