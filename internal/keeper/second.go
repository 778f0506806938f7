package keeper

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
)

// A second half appears inside the container, where others may stop or trace
// it, or hold its report pipe open. So it has a limited time, keeps nothing
// that other starts wait for, and only so many of one container may be there.
const (
	secondWait = 10 * time.Second
	maxSeconds = 32
)

// mayPair refuses an exec in a container that has too many held up.
func (k *Keeper) mayPair(b *begin) error {
	if len(b.Second.Bytes) == 0 {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.seconds[b.holder()] >= maxSeconds {
		return errdefs.New(errdefs.Unavailable, "%d processes of the container have not begun yet", maxSeconds)
	}
	return nil
}

// holder is whose processes may hold the second half up.
func (b *begin) holder() string { return cmp.Or(b.Container, b.ID) }

func (k *Keeper) countSecond(container string, n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.seconds[container] += n; k.seconds[container] == 0 {
		delete(k.seconds, container)
	}
}

// awaitSecond takes the first half's end, books the second half as the child
// and then reads the report pipe: end of file says that both have got there.
func (k *Keeper) awaitSecond(b *begin, report *os.File, booked func()) error {
	e := <-b.child.ended
	pid := b.slab.SecondPid()
	if pid > 0 { // it must be reaped, or its container's end hangs
		k.book(pid, b.child.hears())
		b.child.setPid(pid)
	}
	booked()
	b.release()
	k.countSecond(b.holder(), 1)
	defer k.countSecond(b.holder(), -1)
	failpoint.Hit("keeper/exec-second")
	ok := e.status.Exited() && e.status.ExitStatus() == 0
	if ok && pid > 0 {
		k.record(b.child)
	} else if pid > 0 {
		k.endSecond(b) // somebody killed the first half behind its clone
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
		err = fmt.Errorf("the child ended before its exec (status %d)", e.status)
	}
	if err != nil && ok && pid > 0 {
		k.endSecond(b)
	}
	return err
}

// endSecond kills a second half that shall not run and waits for its end, but
// not for one that is frozen: that ends when it thaws.
func (k *Keeper) endSecond(b *begin) {
	k.signal(b.child)
	select {
	case <-b.child.ended:
	case <-time.After(time.Second):
	}
}
