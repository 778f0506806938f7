package dm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Targets tell of what happens to them (a leg of a mirror is broken, a pool is
// nearly full) by counting up the device's event number, which Info has. Resumes,
// renames and the like count, too.

// WaitEvent blocks until a device has another event number than event, and returns
// the status then. Nothing ends it before; Wait can be cancelled.
func (c *Conn) WaitEvent(ref Ref, event uint32, q Query) (Info, Table, error) {
	return c.lines(&request{op: OpWait, ref: ref, event: event, flags: q.flags()})
}

// Wait waits until a device has another event number than event, and returns the
// status then, or ctx's error. A device that goes ends it with fs.ErrNotExist.
func (c *Conn) Wait(ctx context.Context, ref Ref, event uint32) (Info, Table, error) {
	w, err := c.Watch()
	if err != nil {
		return Info{}, nil, err
	}
	defer w.Close()
	for {
		if err := w.Arm(); err != nil {
			return Info{}, nil, err
		}
		info, err := c.Info(ref, Query{NoOpenCount: true})
		if err != nil {
			return Info{}, nil, err
		}
		if info.Event != event {
			return c.Status(ref, Query{NoOpenCount: true, NoFlush: true})
		}
		if err := w.Next(ctx); err != nil {
			return Info{}, nil, err
		}
	}
}

// Watch tells of events of all devices.
type Watch struct {
	file *os.File
	conn *Conn
}

// Watch opens the control device once more, for its events.
func (c *Conn) Watch() (*Watch, error) {
	f, err := openControl(filepath.Join(c.opts.Dir, controlName), 0)
	if err != nil {
		return nil, &Error{Op: OpArm, Err: err}
	}
	return &Watch{file: f, conn: &Conn{kernel: device{f}, opts: c.opts}}, nil
}

// Close ends a Next.
func (w *Watch) Close() error { return w.file.Close() }

// Arm has Next return after any event from now on. Who asks for numbers after it
// misses none.
func (w *Watch) Arm() error {
	r, err := w.conn.do(&request{op: OpArm})
	if err != nil {
		return err
	}
	r.wipe()
	return nil
}

// Next waits for an event after the last Arm, or for ctx. One at a time may wait.
func (w *Watch) Next(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { w.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := w.file.SyscallConn()
	for err == nil {
		err = raw.Read(readable)
		if err == nil || ctx.Err() != nil {
			break
		}
		if errors.Is(err, os.ErrDeadlineExceeded) { // that of a context before
			err = w.file.SetReadDeadline(time.Time{})
		}
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return &Error{Op: OpArm, Err: err}
	}
	return nil
}

// readable asks, without waiting, whether an event has come.
func readable(fd uintptr) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0
}
