package mapped

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/docker/go-units"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/blockdev"
	"github.com/tare-engine/tare/internal/linux/dm"
	"github.com/tare-engine/tare/internal/linux/dm/target"
	"github.com/tare-engine/tare/internal/linux/fsgrow"
	"github.com/tare-engine/tare/internal/linux/loop"
)

// Resize has a volume that is mounted at a directory grow to a size in bytes, files and
// all; containers may use it meanwhile. A kill leaves it as it was, or it grows when it
// is mounted the next time.
func (d *Driver) Resize(_ context.Context, dir, at string, size int64) error {
	st, err := get(dir)
	if err != nil {
		return err
	}
	c, err := d.open()
	if err != nil {
		return err
	}
	defer d.hold(st.ID)()
	if st, err = get(dir); err != nil {
		return err
	}
	grown := *st
	if err := grown.grow(dir, uint64(size)); err != nil {
		return err
	}
	failpoint.Hit("volume-dm/legs-grown")
	grown.Growing = true
	if err := d.put(dir, &grown); err != nil {
		return err
	}
	failpoint.Hit("volume-dm/growth-noted")
	if st.Target == raid1 {
		if err := d.growParts(c, dir, &grown); err != nil {
			return err
		}
	}
	if err := d.reload(c, dir, &grown); err != nil {
		return err
	}
	failpoint.Hit("volume-dm/device-grown")
	return d.growFS(dir, at, &grown)
}

// grow makes legs that are files larger, and finds out whether devices are large enough.
func (st *state) grow(dir string, size uint64) error {
	want := roundUp((size + sectorSize - 1) / sectorSize)
	names, err := snapshots(dir)
	switch {
	case err != nil:
		return err
	case st.Target == snapshot || len(names) > 0:
		return errdefs.New(errdefs.Conflict, "a volume with snapshots does not grow: remove them first")
	case want <= st.Size:
		return invalid("the volume has %s already: it can only grow", units.BytesSize(float64(st.Size*sectorSize)))
	}
	n, per := uint64(len(st.Legs)), want
	if st.Target == stripe {
		per = roundUp((want + n - 1) / n)
		want = per * n
	}
	if st.Target == linear || st.Target == crypt { // the last one grows
		per = want
		for _, l := range st.Legs[:n-1] {
			per -= l.Size
		}
	}
	for i := range st.Legs {
		l := &st.Legs[i]
		if l.Failed || (st.Target == linear || st.Target == crypt) && uint64(i) != n-1 {
			continue
		}
		if err := l.grow(dir, per); err != nil {
			return err
		}
	}
	st.Size = want
	return nil
}

// grow makes a leg as large as it has to be.
func (l *leg) grow(dir string, sectors uint64) error {
	if l.Size >= sectors {
		return nil
	}
	if l.Device != "" {
		dev, err := blockdev.Open(l.Device, false)
		if err != nil {
			return deviceError(err)
		}
		defer dev.Close()
		if room := uint64(dev.Size) / sectorSize; room < sectors+headerLength {
			return invalid("device %s is too small: it has %d bytes, %d are needed", l.Device, dev.Size, (sectors+headerLength)*sectorSize)
		}
		l.Size = sectors
		return nil
	}
	path := filepath.Join(dir, l.File)
	if err := os.Truncate(path, int64((sectors+headerLength)*sectorSize)); err != nil {
		return err
	}
	f, _, err := attach(path)
	if err != nil {
		return err
	}
	l.Size = sectors
	return errors.Join(loop.Refresh(f), f.Close())
}

// growFS has the file system of a volume that is mounted take all of its device.
func (d *Driver) growFS(dir, at string, st *state) error {
	f, err := os.Open(at)
	if err != nil {
		return err
	}
	err = fsgrow.To(f, int64(st.Size*sectorSize))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	st.Growing = false
	return d.put(dir, st)
}

// growParts gives the devices of legs of raid1 the size that the volume is to have.
//
// Preconditions: the volume's lock is held.
func (d *Driver) growParts(c *dm.Conn, dir string, st *state) error {
	have, err := d.openLegs(dir, st)
	if err != nil {
		return err
	}
	defer have.Close()
	for _, m := range have.list {
		data := &target.Linear{Area: m.area()}
		if err := load(c, d.device(st, partData+m.ID), dm.Table{dm.LineOf(0, st.Size, data)}); err != nil {
			return st.about(err)
		}
	}
	return nil
}
