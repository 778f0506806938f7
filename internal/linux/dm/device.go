package dm

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CreateOptions are those of Create and Activate.
type CreateOptions struct {
	UUID string
	// Minor is the minor number that the device is to have, if it is not nil. The
	// major number is always device mapper's.
	Minor    *uint32
	ReadOnly bool // of the table, with Activate
	Measure  bool // the table, by IMA, with Activate
	// NodeEarly makes the node with the device, not with its first live table.
	NodeEarly bool
}

// Create makes a device without a table.
func (c *Conn) Create(name string, o CreateOptions) (Info, error) {
	ref := Ref{Name: name, UUID: o.UUID}
	fail := func(err error) (Info, error) { return Info{}, &Error{Op: OpCreate, Ref: ref, Err: err} }
	if err := CheckName(name); err != nil {
		return fail(err)
	}
	for i := range len(name) {
		if !plain(name[i]) && name[i] != '\\' {
			return fail(fmt.Errorf("udev can have no %q in a name; Mangle writes %s", name[i], MangleAll(name)))
		}
	}
	q := &request{op: OpCreate, ref: ref}
	if o.Minor != nil {
		major, err := Major()
		if err != nil {
			return fail(err)
		}
		q.dev = Dev{major, *o.Minor}.encode()
		q.flags |= flagPersistent
	}
	r, err := c.do(q)
	if err != nil {
		return Info{}, err
	}
	defer r.wipe()
	info := r.info()
	if o.NodeEarly && !c.udevMakesNodes() {
		if err := c.nodes.add(name, info.Dev); err != nil {
			return fail(errors.Join(err, c.Remove(Name(name), RemoveOptions{})))
		}
	}
	return info, nil
}

// Activate makes a device with a live table, or none if a step fails: the error is
// that of the step.
func (c *Conn) Activate(name string, t Table, o CreateOptions) (Info, error) {
	info, err := c.Create(name, o)
	if err != nil {
		e := err.(*Error)
		e.Targets = t.types()
		return Info{}, e
	}
	if _, err = c.load(info.Ref(), Ref{Name: name, Dev: info.Dev}, t, LoadOptions{ReadOnly: o.ReadOnly, Measure: o.Measure}); err == nil {
		info, err = c.Resume(Name(name), SuspendOptions{})
	}
	if err != nil {
		if undoErr := c.Remove(Name(name), RemoveOptions{Retry: true}); undoErr != nil {
			err = joined(err, undoErr)
		}
		return Info{}, err
	}
	return info, nil
}

// SuspendOptions are those of Suspend and Resume, which suspends to exchange tables.
type SuspendOptions struct {
	NoFlush  bool // requests on their way may wait in the device, as its target allows
	NoLockFS bool // the file system is not frozen
}

func (o SuspendOptions) flags() (f uint32) {
	if o.NoFlush {
		f |= flagNoFlush
	}
	if o.NoLockFS {
		f |= flagNoLockFS
	}
	return f
}

// Suspend has requests of a device wait until Resume.
func (c *Conn) Suspend(ref Ref, o SuspendOptions) (Info, error) {
	r, err := c.do(&request{op: OpSuspend, ref: ref, flags: o.flags()})
	if err != nil {
		return Info{}, c.about(err)
	}
	defer r.wipe()
	return r.info(), nil
}

// Resume makes the inactive table live, if there is one, and lets requests go on.
func (c *Conn) Resume(ref Ref, o SuspendOptions) (Info, error) {
	log := c.reasons()
	info, err := c.change(&request{op: OpResume, ref: ref, flags: o.flags()}, func(i Info) error { return c.nodes.add(i.Name, i.Dev) })
	said := log()
	var e *Error
	if errors.As(err, &e) && e.Op == OpResume {
		if i, infoErr := c.Info(ref, Query{NoOpenCount: true}); infoErr == nil {
			e.Reason = reason(said, i.Dev)
		}
	}
	return info, err
}

// RemoveOptions are those of Remove.
type RemoveOptions struct {
	Deferred bool // a device in use goes with its last user
	Retry    bool // one in use is tried again for some seconds, as udev may just look at it
}

// How often and how long a removal is tried again, as dmsetup does it.
const (
	retries    = 25
	retryPause = 200 * time.Millisecond
)

// Remove takes a device away. One that is in use is an error (EBUSY).
func (c *Conn) Remove(ref Ref, o RemoveOptions) error {
	name := ref.Name
	if name == "" {
		info, err := c.Info(ref, Query{NoOpenCount: true})
		if err != nil {
			err.(*Error).Op = OpRemove
			return err
		}
		name = info.Name
	}
	q := &request{op: OpRemove, ref: ref}
	if o.Deferred {
		q.flags |= flagDeferred
	}
	// A deferred removal takes the node at once: later another device may have the number.
	gone := func(Info) error { return c.nodes.remove(name) }
	for try := 1; ; try++ {
		_, err := c.change(q, gone)
		if !o.Retry || try >= retries || !errors.Is(err, unix.EBUSY) {
			return err
		}
		time.Sleep(retryPause)
	}
}

// RemoveAll takes all devices away that are not in use.
func (c *Conn) RemoveAll(o RemoveOptions) error {
	q := &request{op: OpRemoveAll}
	if o.Deferred {
		q.flags |= flagDeferred
	}
	r, err := c.do(q)
	if err != nil {
		return err
	}
	r.wipe()
	return nil
}

// Rename gives a device another name.
func (c *Conn) Rename(ref Ref, name string) (Info, error) {
	if err := CheckName(name); err != nil {
		return Info{}, &Error{Op: OpRename, Ref: ref, Err: err}
	}
	old, err := c.named(ref)
	if err != nil {
		return Info{}, err
	}
	return c.change(&request{op: OpRename, ref: Name(old), data: append([]byte(name), 0)}, func(i Info) error {
		return errors.Join(c.nodes.remove(old), c.nodes.add(name, i.Dev))
	})
}

// SetUUID gives a device a UUID, which it must not have yet.
func (c *Conn) SetUUID(ref Ref, uuid string) (Info, error) {
	if uuid == "" || len(uuid) >= uuidSize || strings.ContainsRune(uuid, 0) {
		return Info{}, &Error{Op: OpRename, Ref: ref, Err: fmt.Errorf("the UUID %q has not 1 to %d bytes", uuid, uuidSize-1)}
	}
	name, err := c.named(ref)
	if err != nil {
		return Info{}, err
	}
	q := &request{op: OpRename, ref: Name(name), flags: flagUUID, data: append([]byte(uuid), 0)}
	return c.change(q, func(Info) error { return nil })
}

// named is the name of a device, by which alone the kernel renames.
func (c *Conn) named(ref Ref) (string, error) {
	if ref.Name != "" {
		return ref.Name, nil
	}
	info, err := c.Info(ref, Query{NoOpenCount: true})
	if err != nil {
		err.(*Error).Op = OpRename
		return "", err
	}
	return info.Name, nil
}

// change makes a request after which nodes change: by udev, which is waited for, or
// by node.
func (c *Conn) change(q *request, node func(Info) error) (Info, error) {
	s, err := c.settle()
	if err != nil {
		return Info{}, &Error{Op: q.op, Ref: q.ref, Err: err}
	}
	q.event = s.field()
	r, err := c.do(q)
	if err != nil {
		return Info{}, joined(c.about(err), s.undo())
	}
	defer r.wipe()
	info := r.info()
	if err := s.wait(r.flags()&flagUevent != 0); err != nil {
		return info, &Error{Op: OpUdev, Ref: q.ref, Err: err}
	}
	if s.ours {
		if err := node(info); err != nil {
			return info, &Error{Op: OpNode, Ref: q.ref, Err: err}
		}
	}
	return info, nil
}

// MakeNodes makes the nodes of all devices that have none, and removes those of
// devices that are not there. Of one device, if a name is given.
func (c *Conn) MakeNodes(name string) error {
	if name != "" {
		info, err := c.Info(Name(name), Query{NoOpenCount: true})
		switch e, _ := err.(*Error); {
		case err == nil:
			err = c.nodes.add(info.Name, info.Dev)
		case e.Err == unix.ENXIO:
			err = c.nodes.remove(name)
		default:
			return err
		}
		if err != nil {
			return &Error{Op: OpNode, Ref: Name(name), Err: err}
		}
		return nil
	}
	all, err := c.List()
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(all))
	var errs []error
	for _, d := range all {
		there[d.Name] = true
		if err := c.nodes.add(d.Name, d.Dev); err != nil {
			errs = append(errs, &Error{Op: OpNode, Ref: Name(d.Name), Err: err})
		}
	}
	names, err := c.nodes.list()
	errs = append(errs, err)
	for _, n := range names {
		if !there[n] {
			errs = append(errs, c.MakeNodes(n)) // it may have come meanwhile
		}
	}
	return errors.Join(errs...)
}
