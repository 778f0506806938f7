// Package systemd asks systemd, where it is process 1, for transient units over
// D-Bus.
//
//	u := new(systemd.Units)
//	err := u.StartScope("x.scope", pid, map[string]any{"MemoryMax": uint64(1 << 30)})
//	…
//	err = u.Stop("x.scope")
package systemd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// Running reports whether systemd is process 1; sd_booted(3).
func Running() bool {
	st, err := os.Lstat("/run/systemd/system")
	return err == nil && st.IsDir()
}

// ErrNotRunning is returned where systemd is not process 1.
var ErrNotRunning = errors.New("systemd is not process 1 of this machine (there is no /run/systemd/system)")

// patience bounds each call: a unit's job waits for others of its slice.
const patience = 30 * time.Second

// Units are systemd's units. The zero value is ready: the connection is made for
// the first call, and anew when it is lost. Safe for concurrent use.
type Units struct {
	mu   sync.Mutex
	conn *dbus.Conn
	end  context.CancelFunc // of conn
}

// Check connects, if there is no connection yet.
func (u *Units) Check() error {
	_, err := u.connect(nil)
	return err
}

// Close ends the connection.
func (u *Units) Close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.drop()
}

// Preconditions: u.mu is held.
func (u *Units) drop() {
	if u.conn != nil {
		u.conn.Close()
		u.end()
		u.conn = nil
	}
}

// connect returns the connection; one that is not is replaced by another.
func (u *Units) connect(not *dbus.Conn) (*dbus.Conn, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.conn != nil && u.conn != not && u.conn.Connected() {
		return u.conn, nil
	}
	u.drop()
	if !Running() {
		return nil, ErrNotRunning
	}
	ctx, end := context.WithCancel(context.Background()) // of the connection, too
	late := time.AfterFunc(patience, end)
	conn, err := dbus.NewWithContext(ctx)
	if !late.Stop() && err == nil {
		conn.Close()
		err = context.DeadlineExceeded
	}
	if err != nil {
		end()
		return nil, fmt.Errorf("connect with systemd over D-Bus (is the package dbus installed, and dbus.socket active?): %w", err)
	}
	u.conn, u.end = conn, end
	return conn, nil
}

// call calls f with a connection, and once more with another if that was lost, as
// it is when process 1 or the bus is executed anew. f must stand being repeated.
func (u *Units) call(f func(context.Context, *dbus.Conn) error) error {
	conn, err := u.connect(nil)
	if err != nil {
		return err
	}
	err = once(conn, f)
	if err == nil || !errors.Is(err, godbus.ErrClosed) && conn.Connected() {
		return err
	}
	if conn, err = u.connect(conn); err != nil {
		return err
	}
	return once(conn, f)
}

func once(conn *dbus.Conn, f func(context.Context, *dbus.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return f(ctx, conn)
}

// Names of errors; org.freedesktop.systemd1(5) and systemd's bus-common-errors.h.
const (
	errNoSuchUnit = "org.freedesktop.systemd1.NoSuchUnit"
	errUnitExists = "org.freedesktop.systemd1.UnitExists"
)

func isError(err error, name string) bool {
	e, ok := errors.AsType[godbus.Error](err)
	return ok && e.Name == name
}

// StartScope makes a scope around a process and waits until it is there. A unit of
// that name that has failed, or is about to be forgotten, is replaced; any other
// is an error.
func (u *Units) StartScope(name string, pid int, properties map[string]any) error {
	all := maps.Clone(properties)
	all["PIDs"] = []uint32{uint32(pid)}
	err := u.call(func(ctx context.Context, c *dbus.Conn) error {
		var err error
		for pause := time.Millisecond; ; pause *= 2 {
			err = job(ctx, func(done chan<- string) (int, error) {
				return c.StartTransientUnitContext(ctx, name, "replace", list(all), done)
			})
			if !isError(err, errUnitExists) || pause > replaceTime/2 {
				return err
			}
			if err := forget(ctx, c, name); err != nil {
				return err
			}
			time.Sleep(pause)
		}
	})
	if err != nil {
		return fmt.Errorf("start unit %s: %w", name, err)
	}
	return nil
}

// replaceTime is how long, in all, systemd may take to forget a unit that has
// ended.
const replaceTime = time.Second

// Set changes properties of a unit that is there, until it ends.
func (u *Units) Set(name string, properties map[string]any) error {
	err := u.call(func(ctx context.Context, c *dbus.Conn) error {
		return c.SetUnitPropertiesContext(ctx, name, true, list(properties)...)
	})
	if err != nil {
		return fmt.Errorf("set properties of unit %s: %w", name, err)
	}
	return nil
}

// Stop stops a unit, waits until it is stopped and has systemd forget a failure. A
// unit that is gone is stopped.
func (u *Units) Stop(name string) error {
	err := u.call(func(ctx context.Context, c *dbus.Conn) error {
		err := job(ctx, func(done chan<- string) (int, error) { return c.StopUnitContext(ctx, name, "replace", done) })
		if err != nil && !isError(err, errNoSuchUnit) {
			return err
		}
		return forget(ctx, c, name)
	})
	if err != nil {
		return fmt.Errorf("stop unit %s: %w", name, err)
	}
	return nil
}

// forget lets systemd forget that a unit has failed, and so the unit.
func forget(ctx context.Context, c *dbus.Conn, name string) error {
	if err := c.ResetFailedUnitContext(ctx, name); err != nil && !isError(err, errNoSuchUnit) {
		return err
	}
	return nil
}

// job begins a job and waits for its end.
func job(ctx context.Context, begin func(done chan<- string) (int, error)) error {
	done := make(chan string, 1)
	if _, err := begin(done); err != nil {
		return err
	}
	select {
	case result := <-done:
		if result != "done" {
			return fmt.Errorf("its job ended with %q", result)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("its job takes more than %v", patience)
	}
}

// list is properties in the form of the bus.
func list(properties map[string]any) []dbus.Property {
	out := make([]dbus.Property, 0, len(properties))
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		v, ok := properties[name].(godbus.Variant)
		if !ok {
			v = godbus.MakeVariant(properties[name])
		}
		out = append(out, dbus.Property{Name: name, Value: v})
	}
	return out
}

// ParseValue reads the value of a property in the text form of GVariant: 7,
// uint64 7, true, "text", ["a", "b"]. A number or text has its Go type; whatever
// else is a value for properties only.
func ParseValue(text string) (any, error) {
	v, err := godbus.ParseVariant(text, godbus.Signature{})
	if err != nil {
		return nil, err
	}
	switch x := v.Value().(type) {
	case bool, string, byte, int16, uint16, int32, uint32, int64, uint64, float64:
		return x, nil
	}
	return v, nil
}
