package server

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
)

// A second half appears inside the container, where others may stop or trace
// it, or hold its report pipe open. So it has a limited time, keeps nothing
// that other starts wait for, and only so many of one container may be there: the
// next ones wait.
const (
	secondWait = 10 * time.Second
	maxSeconds = 32
)

// awaitSecond takes the first half's end, books the second half as the child
// and then reads the report pipe: end of file says that both have got there.
func (s *starter) awaitSecond(b *begin, report *os.File, booked func()) error {
	e := <-b.child.heard
	pid := b.slab.SecondPid()
	if pid > 0 { // it must be reaped, or its container's end hangs
		s.reaper.Book(pid, b.child.hears())
		b.child.setPid(pid)
	}
	booked()
	b.release()
	failpoint.Hit("keeper/exec-second")
	ok := e.Status.Exited() && e.Status.ExitStatus() == 0
	if ok && pid > 0 {
		s.record(b.child)
	} else if pid > 0 {
		s.endSecond(b) // somebody killed the first half behind its clone
	}
	if err := report.SetReadDeadline(time.Now().Add(secondWait)); err != nil {
		return err
	}
	r, err := readReport(report)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = errdefs.New(errdefs.Unavailable, "the process did not begin within %v: something in the container holds it", secondWait)
	case err == nil && len(r) > 0:
		err = b.stepError(r)
	case err == nil && pid <= 0 || !ok:
		err = fmt.Errorf("the child ended before its exec (status %d)", e.Status)
	}
	if err != nil && ok && pid > 0 {
		s.endSecond(b)
	}
	return err
}

// endSecond kills a second half that shall not run and waits for its end, but
// not for one that is frozen: that ends when it thaws.
func (s *starter) endSecond(b *begin) {
	b.child.kill()
	select {
	case <-b.child.heard:
	case <-time.After(time.Second):
	}
}
