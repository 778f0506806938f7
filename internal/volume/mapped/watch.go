package mapped

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/device"
	"github.com/tare-engine/tare/internal/linux/dm"
	"github.com/tare-engine/tare/internal/linux/dm/target"
)

// Volumes that go on without one of their legs are watched while they have devices: which
// leg has failed is written down, so that it is not taken for a good one later, and only
// then does a mirror go on without it. One loop waits for the events of all of them.

// see has a volume watched.
func (d *Driver) see(c *dm.Conn, dir string, st *state) error {
	if !st.Target.redundant() || st.Target == multipath {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen[st.ID] = dir
	if d.watch {
		return nil
	}
	w, err := c.Watch()
	if err != nil {
		return err
	}
	d.watch = true
	d.ends.Go(func() {
		defer w.Close()
		if err := d.watchAll(c, w); d.ctx.Err() == nil {
			slog.Error("volumes on device mapper are watched no more", "err", err)
		}
	})
	return nil
}

func (d *Driver) forget(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.seen, id)
}

// watchAll ends with an error, or the driver.
func (d *Driver) watchAll(c *dm.Conn, w *dm.Watch) error {
	for {
		if err := w.Arm(); err != nil {
			return err
		}
		d.mu.Lock()
		seen := maps.Clone(d.seen)
		d.mu.Unlock()
		again := false
		for id, dir := range seen {
			copying, err := d.look(c, id, dir)
			if err != nil {
				slog.Warn("look at the devices of a volume", "dir", dir, "err", err)
			}
			again = again || copying
		}
		if err := next(d.ctx, w, again); err != nil {
			return err
		}
	}
}

// lookAgain is how often volumes are looked at of which something is being copied: the
// last event of that comes before its end.
const lookAgain = time.Second

// next waits for an event; soon also without.
func next(ctx context.Context, w *dm.Watch, soon bool) error {
	if !soon {
		return w.Next(ctx)
	}
	short, cancel := context.WithTimeout(ctx, lookAgain)
	defer cancel()
	if err := w.Next(short); err != nil && (ctx.Err() != nil || short.Err() == nil) {
		return err
	}
	return nil
}

// look notes what has become of the legs of a volume that has devices, and reports whether
// some of them get what they lack.
func (d *Driver) look(c *dm.Conn, id, dir string) (copying bool, err error) {
	defer d.hold(id)()
	st, err := get(dir)
	if errdefs.Is(err, errdefs.NotFound) || err == nil && (st.ID != id || !st.Made) {
		return false, nil // it has gone, or is not there yet
	}
	if err != nil {
		return false, err
	}
	h, err := d.health(c, dir, st)
	if err != nil || h == nil {
		return false, err
	}
	failed := false
	for i := range st.Legs {
		if h.failed[i] && !st.Legs[i].Failed {
			st.Legs[i].Failed, failed = true, true
			slog.Warn("a device of a volume has failed", "dir", dir, "target", st.Target, "device", st.Legs[i].name())
		}
	}
	switch {
	case failed:
		err = d.lose(c, dir, st)
	case h.inStep():
		err = d.inStepNow(dir, st)
	}
	return slices.ContainsFunc(st.Legs, func(l leg) bool { return l.Fresh && !l.Failed }), err
}

// lose notes that legs have failed, and has a mirror go on without them. If none is left
// that has everything, one of those stays, and who reads or writes sees its errors.
func (d *Driver) lose(c *dm.Conn, dir string, st *state) error {
	if len(st.sources()) == 0 {
		before, err := get(dir)
		if err != nil {
			return err
		}
		last := before.sources()[0]
		for i := range st.Legs {
			st.Legs[i].Failed = i != last
		}
	}
	if err := d.put(dir, st); err != nil {
		return err
	}
	failpoint.Hit("volume-dm/failure-noted")
	if st.Target != mirror {
		return nil
	}
	return d.reload(c, dir, st)
}

// inStepNow notes that all legs have everything.
func (d *Driver) inStepNow(dir string, st *state) error {
	changed := false
	for i := range st.Legs {
		l := &st.Legs[i]
		changed = changed || l.Fresh && !l.Failed
		l.Fresh = l.Fresh && l.Failed
	}
	if !changed {
		return nil
	}
	return d.put(dir, st)
}

// reload gives the device of a volume the table that its state says. What is on its way
// waits for that, as does what a mirror holds back.
//
// Preconditions: the volume's lock is held, and it has a device.
func (d *Driver) reload(c *dm.Conn, dir string, st *state) error {
	have, err := d.openLegs(dir, st)
	if err != nil {
		return err
	}
	defer have.Close()
	err = d.withKey(dir, st, func(key target.Key) error {
		if st.Target == multipath { // the table above it stays
			return load(c, d.device(st, partPaths), st.paths(have.list))
		}
		t, err := d.lower(c, st, have.list, key)
		if err != nil {
			return err
		}
		defer t.Wipe()
		return load(c, d.device(st, ""), t)
	})
	if err == nil {
		err = d.dropParts(c, st)
	}
	return st.about(err)
}

// load exchanges the table of a device.
func load(c *dm.Conn, name string, t dm.Table) error {
	if _, err := c.Load(dm.Name(name), t, dm.LoadOptions{}); err != nil {
		return kernelError(err)
	}
	_, err := c.Resume(dm.Name(name), dm.SuspendOptions{NoFlush: true, NoLockFS: true})
	return err
}

// dropParts removes the devices of legs that a volume of raid1 has no more.
func (d *Driver) dropParts(c *dm.Conn, st *state) error {
	if st.Target != raid1 {
		return nil
	}
	want := map[string]bool{}
	for _, l := range st.Legs {
		if !l.Failed {
			want[d.device(st, partMetadata+l.ID)], want[d.device(st, partData+l.ID)] = true, true
		}
	}
	names, err := d.devices(c, st)
	var old []string
	for _, name := range names {
		part := strings.TrimPrefix(name, d.device(st, "")+"-")
		if !want[name] && (strings.HasPrefix(part, partMetadata) || strings.HasPrefix(part, partData)) {
			old = append(old, name)
		}
	}
	return errors.Join(err, remove(c, old, true))
}

// health is what the kernel says of the legs of a volume.
type health struct {
	failed map[int]bool
	step   target.Used // how much is the same on all
	busy   bool        // it is being made so
}

func (h *health) inStep() bool {
	return len(h.failed) == 0 && h.step.Used == h.step.Total && !h.busy
}

// health asks; nil: the volume has no device, or one leg alone.
func (d *Driver) health(c *dm.Conn, dir string, st *state) (*health, error) {
	_, lines, err := c.Status(dm.Name(d.device(st, "")), dm.Query{NoFlush: true, NoOpenCount: true})
	if notThere(err) || err == nil && len(lines) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	said, err := target.ParseStatus(lines[0].Type, lines[0].Params)
	if err != nil {
		return nil, err
	}
	h := &health{failed: map[int]bool{}}
	switch said := said.(type) {
	case *target.MirrorStatus:
		h.step = said.InSync
		places := d.places(dir, st, said.Devices)
		for i := range said.Health {
			if i < len(places) && places[i] >= 0 && said.Health[i] != 'A' {
				h.failed[places[i]] = true
			}
		}
	case *target.RaidStatus:
		h.step, h.busy = said.Sync, said.Action != "idle"
		for i := range min(len(said.Health), len(st.Legs)) {
			if said.Health[i] == 'D' {
				h.failed[i] = true
			}
		}
	default:
		return nil, nil
	}
	return h, nil
}

// places are those of the legs that have the devices. One whose path does not lead to a
// device any more is that which is left; -1: none, as the state has just changed.
func (d *Driver) places(dir string, st *state, devices []string) []int {
	at, lost := map[string]int{}, -1
	for i, l := range st.Legs {
		if l.Failed {
			continue
		}
		if n, err := numberOf(dir, l); err == nil {
			at[n] = i
		} else {
			lost = i
		}
	}
	places := make([]int, len(devices))
	for i, dev := range devices {
		place, known := at[dev]
		if !known {
			place = lost
		}
		places[i] = place
	}
	return places
}

func numberOf(dir string, l leg) (string, error) {
	if l.File != "" {
		f, n, err := attach(filepath.Join(dir, l.File))
		if err != nil {
			return "", err
		}
		return n.String(), f.Close()
	}
	n, err := device.At(l.Device)
	return dm.Dev{Major: uint32(n.Major), Minor: uint32(n.Minor)}.String(), err
}

// inStep reports whether the legs of a mirror have the same now.
func (d *Driver) inStep(c *dm.Conn, dir string, st *state) bool {
	if !st.Open {
		return false
	}
	h, err := d.health(c, dir, st)
	alone := h == nil && len(st.sources()) == 1
	return err == nil && (alone || h != nil && h.inStep())
}
