package server

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/keeper/reaper"
)

// A second half appears inside the container, where others may stop or trace
// it, or hold its report pipe open; and who owns the container's control group
// may freeze the first. So both have a limited time and keep nothing that other
// starts wait for, and only so many of one container may be there: the next
// ones wait.
const (
	secondWait = 10 * time.Second
	secondTime = 2 * time.Second // what is left at least for one that has waited
	maxSeconds = 32
)

// awaitSecond takes the first half's end, books the second half as the child,
// gives the plans' memory back and then reads the report pipe: end of file says
// that both have got there.
func (s *starter) awaitSecond(b *begin, report *os.File, booked func()) error {
	end := later(b.asked.Add(secondWait), time.Now().Add(secondTime))
	e := s.firstEnd(b, end)
	pid := b.slab.SecondPid()
	if pid > 0 { // it must be reaped, or its container's end hangs
		s.reaper.Book(pid, b.child.hears())
		b.child.setPid(pid)
	}
	b.slab.Put()
	booked()
	b.release()
	failpoint.Hit("keeper/exec-second")
	ok := e.Status.Exited() && e.Status.ExitStatus() == 0
	if ok && pid > 0 {
		s.record(b.child)
	} else if pid > 0 {
		s.endSecond(b) // somebody killed the first half behind its clone
	}
	if err := report.SetReadDeadline(end); err != nil {
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

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// firstEnd waits for the end of a first half, and sees to it when the time is
// over. On version 1 a frozen one dies when it thaws; it has its plan until then,
// and nothing else that others wait for.
func (s *starter) firstEnd(b *begin, end time.Time) reaper.End {
	select {
	case e := <-b.child.heard:
		return e
	case <-time.After(time.Until(end)):
	}
	b.release()
	b.child.kill()
	return <-b.child.heard
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
