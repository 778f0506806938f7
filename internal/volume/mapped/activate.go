package mapped

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/dm"
	"github.com/tare-engine/tare/internal/linux/dm/target"
)

// Parts of a volume: what follows its name in those of its devices.
const (
	partOrigin   = "origin"
	partPaths    = "paths"
	partSnapshot = "s-"
	partMetadata = "m-"
	partData     = "d-"
)

// activate makes the devices of a volume, and returns the path of the one with the file
// system. Those that are in use, still or by a container of before, stay.
func (d *Driver) activate(dir string, st *state) (path string, err error) {
	c, err := d.open()
	if err != nil {
		return "", err
	}
	if err := needTargets(c, st.Target); err != nil {
		return "", err
	}
	defer d.hold(st.ID)()
	if fresh, err := get(dir); err == nil { // who had the lock may have changed it
		*st = *fresh
	}
	top, err := d.top(dir, st)
	if err != nil {
		return "", err
	}
	path = "/dev/mapper/" + top
	if kept, err := d.keep(c, st, top); kept || err != nil {
		return path, err
	}
	if err := d.notOpen(dir, st); err != nil {
		return "", err
	}
	if err := d.build(c, dir, st); err != nil {
		return "", errors.Join(st.about(err), d.removeAll(c, st, false))
	}
	failpoint.Hit("volume-dm/active")
	return path, d.see(c, dir, st)
}

// top is the device that has the file system.
func (d *Driver) top(dir string, st *state) (string, error) {
	names, err := snapshots(dir)
	if err != nil {
		return "", err
	}
	if len(names) > 0 {
		return d.device(st, partOrigin), nil
	}
	return d.device(st, ""), nil
}

// keep reports whether the volume's device is there and in use, so that it stays. It does
// not go with its last user any more.
func (d *Driver) keep(c *dm.Conn, st *state, top string) (bool, error) {
	info, err := c.Info(dm.Name(top), dm.Query{})
	if err != nil || !info.Live || info.OpenCount == 0 {
		if err == nil || notThere(err) {
			err = d.removeAll(c, st, false) // also what is half made
		}
		return false, err
	}
	all, err := d.devices(c, st)
	if err != nil {
		return false, err
	}
	for _, name := range all {
		if _, err := c.Message(dm.Name(name), 0, []byte("@cancel_deferred_remove")); err != nil && !isAny(err, syscall.EINVAL) {
			return false, err
		}
	}
	return true, nil
}

// notOpen notes, before a mirror is written to, that its legs may differ; that of one
// which was noted already they do: all but the first are copied again.
func (d *Driver) notOpen(dir string, st *state) error {
	if st.Target != mirror {
		return nil
	}
	if st.Open {
		have, err := d.openLegs(dir, st) // those that are not there have failed, and are no first one
		if err != nil {
			return st.about(err)
		}
		if err := have.Close(); err != nil {
			return err
		}
		for _, i := range st.sources()[1:] {
			st.Legs[i].Fresh = true
		}
	}
	st.Open = true
	return d.put(dir, st)
}

// build makes all devices of a volume of which none is there.
func (d *Driver) build(c *dm.Conn, dir string, st *state) error {
	have, err := d.openLegs(dir, st)
	if err != nil {
		return err
	}
	defer have.Close()
	return d.withKey(dir, st, func(key target.Key) error {
		t, err := d.lower(c, st, have.list, key)
		if err != nil {
			return err
		}
		defer t.Wipe()
		base, err := d.add(c, st, "", t)
		if err != nil {
			return err
		}
		return d.addSnapshots(c, dir, st, base)
	})
}

// lower makes the devices that that of a volume is made of, beside its legs, unless they
// are there, and returns the table of it.
func (d *Driver) lower(c *dm.Conn, st *state, have []member, key target.Key) (dm.Table, error) {
	switch st.Target {
	case raid1:
		for i, m := range have {
			meta := &target.Linear{Area: target.Area{Device: m.dev.String(), Offset: metadataStart}}
			data := &target.Linear{Area: m.area()}
			var err error
			if have[i].metadata, err = d.ensure(c, st, partMetadata+m.ID, dm.Table{dm.LineOf(0, metadataLength, meta)}); err != nil {
				return nil, err
			}
			if have[i].data, err = d.ensure(c, st, partData+m.ID, dm.Table{dm.LineOf(0, st.Size, data)}); err != nil {
				return nil, err
			}
		}
	case multipath:
		under, err := d.ensure(c, st, partPaths, st.paths(have))
		if err != nil {
			return nil, err
		}
		return dm.Table{dm.LineOf(0, st.Size, &target.Linear{Area: target.Area{Device: under.String(), Offset: headerLength}})}, nil
	}
	return st.table(have, key), nil
}

// add makes one device.
func (d *Driver) add(c *dm.Conn, st *state, part string, t dm.Table) (dm.Dev, error) {
	name := d.device(st, part)
	info, err := c.Activate(name, t, dm.CreateOptions{UUID: uuidOf(name)})
	if err != nil {
		return dm.Dev{}, kernelError(err)
	}
	failpoint.Hit("volume-dm/device-made")
	return info.Dev, nil
}

// ensure is add, unless there is the device.
func (d *Driver) ensure(c *dm.Conn, st *state, part string, t dm.Table) (dm.Dev, error) {
	info, err := c.Info(dm.Name(d.device(st, part)), dm.Query{NoOpenCount: true})
	if err == nil && info.Live {
		return info.Dev, nil
	}
	if err != nil && !notThere(err) {
		return dm.Dev{}, err
	}
	return d.add(c, st, part, t)
}

// kernelError says what a busy device is.
func kernelError(err error) error {
	if isAny(err, syscall.EBUSY) {
		return errdefs.New(errdefs.Conflict, "%w: one of the devices is mounted, or part of another device", err)
	}
	return err
}

// needTargets asks the kernel for the targets of a kind, whose modules it may have to load.
func needTargets(c *dm.Conn, k kind) error {
	for _, name := range traits()[k].kernel {
		if _, err := c.Target(name); err != nil {
			return errdefs.New(errdefs.NotImplemented, "target %s: the kernel has no %s (module dm-%s): %w", k, name, moduleOf(name), err)
		}
	}
	return nil
}

func moduleOf(target string) string {
	switch target {
	case "linear", "striped":
		return "mod"
	}
	return target
}

// deactivate takes the devices of a volume away. Those that are in use go with their last
// user.
func (d *Driver) deactivate(dir string, st *state) error {
	if !mayHave() {
		return nil
	}
	c, err := d.open()
	if err != nil {
		return err
	}
	defer d.hold(st.ID)()
	if fresh, err := get(dir); err == nil {
		*st = *fresh
	}
	inStep := d.inStep(c, dir, st)
	if kept, err := d.removeOrigin(c, dir, st); kept || err != nil {
		return err
	}
	if err := d.removeAll(c, st, true); err != nil {
		return err
	}
	d.forget(st.ID)
	failpoint.Hit("volume-dm/removed")
	if !st.Open || !inStep {
		return nil
	}
	if left, err := d.devices(c, st); err != nil || len(left) > 0 {
		return err
	}
	st.Open = false
	for i := range st.Legs {
		st.Legs[i].Fresh = st.Legs[i].Fresh && st.Legs[i].Failed
	}
	return d.put(dir, st)
}

// removeOrigin takes the device away that saves to snapshots: as long as it is there, in
// use by the end of a container say, what it saves to has to be. kept: that is so, and
// the others go when it has gone.
//
// Preconditions: the volume's lock is held.
func (d *Driver) removeOrigin(c *dm.Conn, dir string, st *state) (kept bool, err error) {
	origin := d.device(st, partOrigin)
	before, err := c.Info(dm.Name(origin), dm.Query{NoOpenCount: true})
	if notThere(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := remove(c, []string{origin}, true); err != nil {
		return false, err
	}
	if _, err = c.Info(dm.Name(origin), dm.Query{NoOpenCount: true}); notThere(err) {
		return false, nil
	}
	if err == nil && !before.DeferredRemove {
		id := st.ID
		d.ends.Go(func() { d.removeLater(c, id, dir) })
	}
	return true, err
}

// removeLater removes what is left of a volume when its last user has gone. If that is not
// before the engine's end, the next one does it.
func (d *Driver) removeLater(c *dm.Conn, id, dir string) {
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-time.After(patience):
		}
		if done, err := d.removeRest(c, id, dir); done || err != nil {
			if err != nil {
				slog.Warn("remove the devices of a volume", "dir", dir, "err", err)
			}
			return
		}
	}
}

func (d *Driver) removeRest(c *dm.Conn, id, dir string) (done bool, err error) {
	defer d.hold(id)()
	st := &state{ID: id}
	info, err := c.Info(dm.Name(d.device(st, partOrigin)), dm.Query{NoOpenCount: true})
	switch {
	case notThere(err):
		d.forget(id)
		return true, d.removeAll(c, st, true)
	case err != nil:
		return false, err
	}
	return !info.DeferredRemove, nil // it is in use again
}

// mayHave reports whether the kernel may have devices at all: who has no volume of the
// driver does not load its module.
func mayHave() bool {
	_, err := os.Lstat("/sys/class/misc/device-mapper")
	return err == nil
}

// devices are the names of all devices of a volume.
func (d *Driver) devices(c *dm.Conn, st *state) ([]string, error) {
	all, err := c.List()
	if err != nil {
		return nil, err
	}
	own := d.device(st, "")
	var names []string
	for _, l := range all {
		if l.Name == own || strings.HasPrefix(l.Name, own+"-") {
			names = append(names, l.Name)
		}
	}
	return names, nil
}

func (d *Driver) removeAll(c *dm.Conn, st *state, deferred bool) error {
	names, err := d.devices(c, st)
	if err != nil {
		return err
	}
	return remove(c, names, deferred)
}

// How long who still looks at a device, as the end of a container does, may take.
const (
	patience = time.Second
	pause    = 20 * time.Millisecond
)

// remove takes devices away, some of which are made of others. deferred says that those
// which stay in use go with their last user; else they are an error.
func remove(c *dm.Conn, names []string, deferred bool) error {
	for end := time.Now().Add(patience); ; time.Sleep(pause) {
		before := len(names)
		var err error
		if names, err = removeSome(c, names); err != nil || len(names) == 0 {
			return err
		}
		if len(names) == before && time.Now().After(end) {
			break
		}
	}
	for _, name := range names {
		if !deferred {
			return errdefs.New(errdefs.Conflict, "device %s is in use", name)
		}
		if err := c.Remove(dm.Name(name), dm.RemoveOptions{Deferred: true}); err != nil && !notThere(err) {
			return err
		}
	}
	return nil
}

// removeSome takes those away that nobody uses, and returns the others.
func removeSome(c *dm.Conn, names []string) (left []string, err error) {
	for _, name := range names {
		switch err := c.Remove(dm.Name(name), dm.RemoveOptions{}); {
		case err == nil || notThere(err):
		case isAny(err, syscall.EBUSY):
			left = append(left, name)
		default:
			return nil, fmt.Errorf("remove a volume's device: %w", err)
		}
	}
	return left, nil
}
