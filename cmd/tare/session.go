package main

import (
	"errors"
	"io"
	"os"

	"github.com/moby/term"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
)

// session joins our terminal with the streams of a process in a container.
//
//	our stdin  ──▶ detach keys? ──▶ stream ──▶ process
//	our stdout ◀── raw or frames ◀── stream ◀── process
//
// It ends when the process's output does, or when the detach keys are typed.
// Our own stdin ending only ends the process's.
type session struct {
	in       *os.File // nil: the process gets no input from us
	out, err io.Writer
	tty      bool   // the process has a terminal
	keys     []byte // what detaches; heeded with a terminal only
	isRaw    bool   // our terminal was put into raw mode
}

// restoreOnSignal puts the terminal back when a signal ends us, if it is raw. Else
// there is nothing to do, and taking signals costs a tenth of a short session.
func (s *session) restoreOnSignal(restore func()) (stop func()) {
	if !s.isRaw {
		return func() {}
	}
	return restoreOnSignal(restore)
}

// errDetached says that the user typed the detach keys.
var errDetached = errors.New("read escape sequence")

// errDetachKeys is what docker says when the engine does not take the keys: it
// asks no reason.
var errDetachKeys = &exitError{1, "unable to upgrade to tcp, received 400"}

// newSession makes a session of the cli's terminal. Streams not wanted are
// discarded.
func newSession(c *cli, stdin, stdout, stderr, tty bool, keys string) (*session, error) {
	s := &session{out: io.Discard, err: io.Discard, tty: tty}
	if stdin {
		s.in = c.in
	}
	if stdout {
		s.out = c.out
	}
	if stderr {
		s.err = c.err
		if tty {
			s.err = c.out // a terminal has one stream
		}
	}
	if keys == "" {
		keys = api.DefaultDetachKeys
	}
	var err error
	if s.keys, err = api.ParseDetachKeys(keys); err != nil {
		return nil, errDetachKeys
	}
	return s, nil
}

// checkTTY refuses a terminal for the process where we have none to give.
func checkTTY(in *os.File, stdin, tty bool) error {
	if stdin && tty && !term.IsTerminal(in.Fd()) {
		return &exitError{1, "the input device is not a TTY"}
	}
	return nil
}

// raw puts our terminal into raw mode, if this session types into another
// one. The function it returns puts it back and may be called twice.
func (s *session) raw() (restore func(), err error) {
	if s.in == nil || !s.tty || !term.IsTerminal(s.in.Fd()) {
		return func() {}, nil
	}
	old, err := term.SetRawTerminal(s.in.Fd())
	if err != nil {
		return nil, err
	}
	s.isRaw = true
	return func() { term.RestoreTerminal(s.in.Fd(), old) }, nil
}

// run copies until the output ends (nil), it cannot be copied, or the user
// detaches (errDetached). output reads the stream.
func (s *session) run(stream *client.Stream, output func(stdout, stderr io.Writer) error) error {
	if s.in == nil {
		stream.CloseWrite()
		return output(ours{s.out}, ours{s.err})
	}
	done := make(chan error, 2)
	go func() { done <- output(ours{s.out}, ours{s.err}) }()
	// This one is left behind when the output ends first: a read of a
	// terminal cannot be called back, and the program ends anyway.
	go func() {
		var in io.Reader = s.in
		if s.tty && len(s.keys) > 0 {
			in = &detachReader{in: s.in, keys: s.keys}
		}
		if _, err := io.Copy(stream, in); errors.Is(err, errDetached) {
			done <- errDetached
			return
		}
		stream.CloseWrite()
	}()
	return <-done
}

// ours is where output goes. That it cannot be written there is no fault of the
// connection from which it comes.
type ours struct{ io.Writer }

type unwritableError struct{ error }

func (e unwritableError) Unwrap() error { return e.error }

func (w ours) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		err = unwritableError{err}
	}
	return n, err
}

// detachReader passes bytes on until the detach keys come. The beginning of
// the keys is held back until it is clear that it is not them.
type detachReader struct {
	in   io.Reader
	keys []byte
	seen int    // keys matched so far
	out  []byte // decided but not yet taken
	err  error
}

func (d *detachReader) Read(p []byte) (int, error) {
	for len(d.out) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		n, err := d.in.Read(p)
		d.err = err
		d.take(p[:n])
		if err != nil && d.err == err {
			d.out = append(d.out, d.keys[:d.seen]...) // the end decides too
			d.seen = 0
		}
	}
	n := copy(p, d.out)
	d.out = d.out[n:]
	return n, nil
}

// take decides about bytes that were typed.
func (d *detachReader) take(typed []byte) {
	for _, b := range typed {
		if b != d.keys[d.seen] && d.seen > 0 {
			d.out = append(d.out, d.keys[:d.seen]...)
			d.seen = 0
		}
		if b != d.keys[d.seen] {
			d.out = append(d.out, b)
			continue
		}
		if d.seen++; d.seen == len(d.keys) {
			d.seen, d.err = 0, errDetached
			return
		}
	}
}
