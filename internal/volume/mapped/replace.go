package mapped

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/blockdev"
	"github.com/tare-engine/tare/internal/linux/dm"
)

// Replace gives a volume a device in the place of another, also while containers use it:
// a mirror copies to it what the others have. It may be the same device, that has been
// away. Without a new one it is another file, or the same device.
func (d *Driver) Replace(_ context.Context, dir, old, with string) error {
	st, err := get(dir)
	if err != nil {
		return err
	}
	if !st.Target.redundant() {
		return errdefs.New(errdefs.InvalidArgument, "target %s has a part of the files on each device: none can be replaced", st.Target)
	}
	if with != "" {
		if err := checkPath("device", with); err != nil {
			return err
		}
	}
	c, err := d.open()
	if err != nil {
		return err
	}
	defer d.hold(st.ID)()
	if st, err = get(dir); err != nil {
		return err
	}
	place, err := st.leg(old)
	if err != nil {
		return err
	}
	if with == "" {
		with = st.Legs[place].Device
	}
	if st.Target == multipath {
		return d.replacePath(c, dir, st, place, with)
	}
	return d.replaceLeg(c, dir, st, place, with)
}

// replaceLeg is Replace for mirrors. The state is written first: a kill after that leaves
// a volume one of whose legs is not there yet.
//
// Preconditions: the volume's lock is held.
func (d *Driver) replaceLeg(c *dm.Conn, dir string, st *state, place int, with string) error {
	before := st.Legs[place]
	others := 0
	for _, i := range st.sources() {
		if i != place {
			others++
		}
	}
	if others == 0 {
		return errdefs.New(errdefs.Conflict, "no other device of the volume has all of its files: add none in the place of %s", before.name())
	}
	for i, l := range st.Legs {
		if i != place && with != "" && l.Device == with {
			return invalid("device %s is a part of the volume already", with)
		}
	}
	if with != "" && with == before.Device { // it has to be let go of first
		st.Legs[place].Failed = true
		if err := d.adjust(c, dir, st); err != nil {
			return err
		}
	}
	next := leg{ID: newID(), Device: with, Size: max(before.Size, st.Size), Fresh: true} // it may have failed before the volume grew
	take, err := d.prepare(dir, st, before, &next)
	if err != nil {
		return err
	}
	st.Legs[place], st.Old = next, append(st.Old, before)
	if err := d.put(dir, st); err != nil {
		return err
	}
	failpoint.Hit("volume-dm/replaced")
	if err := take(); err != nil {
		return err
	}
	failpoint.Hit("volume-dm/leg-marked")
	if err := d.adjust(c, dir, st); err != nil {
		return err
	}
	return d.discardOld(dir, st)
}

// prepare opens what is to be a leg, and returns what makes it one.
func (d *Driver) prepare(dir string, st *state, before leg, next *leg) (take func() error, err error) {
	need := next.Size + headerLength
	if next.Device == "" {
		next.File = "leg-" + next.ID + ".img"
		return func() error { return makeFile(filepath.Join(dir, next.File), need) }, nil
	}
	dev, err := d.claim(next.Device, false, d.labelOf(st, before))
	if err != nil {
		return nil, err
	}
	if uint64(dev.Size)/sectorSize < need {
		dev.Close()
		return nil, invalid("device %s is too small: it has %d bytes, %d are needed", next.Device, dev.Size, need*sectorSize)
	}
	l := *next
	return func() error { return errors.Join(d.mark(st, l, dev), dev.Close()) }, nil
}

// adjust writes the state of a volume and, if it has a device, gives it its table.
//
// Preconditions: the volume's lock is held.
func (d *Driver) adjust(c *dm.Conn, dir string, st *state) error {
	if err := d.put(dir, st); err != nil {
		return err
	}
	info, err := c.Info(dm.Name(d.device(st, "")), dm.Query{NoOpenCount: true})
	if notThere(err) || err == nil && !info.Live {
		return nil
	}
	if err != nil {
		return err
	}
	return d.reload(c, dir, st)
}

// discardOld gives devices back that are no legs any more, as far as they can be reached.
//
// Preconditions: the volume's lock is held, and its device is made of others.
func (d *Driver) discardOld(dir string, st *state) error {
	var left []leg
	for _, l := range st.Old {
		if err := d.discard(dir, st, l); err != nil && !notThere(err) {
			slog.Warn("a device that was replaced keeps the mark of its volume", "dir", dir, "device", l.name(), "err", err)
			left = append(left, l)
		}
	}
	if len(left) == len(st.Old) {
		return nil
	}
	st.Old = left
	return d.put(dir, st)
}

// discard takes the mark of a volume away, or the file.
func (d *Driver) discard(dir string, st *state, l leg) error {
	if l.File != "" {
		return os.Remove(filepath.Join(dir, l.File))
	}
	return d.clearLabel(st, l)
}

// replacePath is Replace for the ways to a disk.
//
// Preconditions: the volume's lock is held.
func (d *Driver) replacePath(c *dm.Conn, dir string, st *state, place int, with string) error {
	for i, l := range st.Legs {
		if i != place && l.Device == with {
			return invalid("device %s is a part of the volume already", with)
		}
	}
	dev, err := blockdev.Open(with, false)
	if err != nil {
		return deviceError(err)
	}
	have, _, err := readLabel(dev)
	if err = errors.Join(err, dev.Close()); err != nil {
		return fmt.Errorf("device %s: %w", with, err)
	}
	if have == nil || *have != d.labelOf(st, st.Legs[place]) {
		return invalid("device %s leads to another disk", with)
	}
	st.Legs[place].Device = with
	return d.adjust(c, dir, st)
}
