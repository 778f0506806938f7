package stream

import (
	"errors"
	"os"

	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/fifo"
	"github.com/tare-engine/tare/internal/linux/rawfd"
)

// Adopt serves a process whose keeper has died, with the engine's duplicates of
// its streams; outputs of which the engine has none are opened by their paths.
// The files are taken over.
func (s *Streams) Adopt(id string, st wire.Stdio, f wire.Files) error {
	defer f.Close()
	t := s.newSet(id, st)
	if err := s.add(t); err != nil {
		return err
	}
	t.mu.Lock()
	err := t.adopt(f)
	t.unlock()
	if err != nil {
		s.Close(id)
	}
	return err
}

func (t *set) adopt(f wire.Files) error {
	if t.stdio.TTY {
		if f.Master == nil {
			return errors.New("the terminal's master is lost")
		}
		fd, err := rawfd.DupFile(f.Master)
		if err != nil {
			return err
		}
		t.setMaster(fd)
		return t.begin()
	}
	var errs []error
	end := func(f *os.File, name string, open func(string) (int, error)) *source {
		fd, err := -1, error(nil)
		if f != nil {
			fd, err = rawfd.DupFile(f)
		} else {
			fd, err = open(t.path(name))
		}
		if err != nil {
			errs = append(errs, err)
			return nil
		}
		return &source{fd: fd, set: t}
	}
	if t.stdio.OpenStdin && f.Stdin != nil { // else it has been closed, and the process has seen the end of file
		fd, err := rawfd.DupFile(f.Stdin)
		if err != nil {
			return err
		}
		t.in.end = &source{fd: fd, set: t}
	}
	t.out[0] = end(f.Stdout, "stdout", fifo.Reader)
	t.out[1] = end(f.Stderr, "stderr", fifo.Reader)
	return errors.Join(append(errs, t.begin())...)
}
