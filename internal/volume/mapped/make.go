package mapped

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/blockdev"
	"github.com/tare-engine/tare/internal/linux/keyring"
	"github.com/tare-engine/tare/internal/linux/mkfs"
)

// Make takes the devices of a new volume, or makes files, and makes a file system on
// them. What a kill leaves of it, DeleteFiles takes away.
func (d *Driver) Make(ctx context.Context, dir string, options map[string]string) error {
	s, err := parse(options)
	if err != nil {
		return err
	}
	c, err := d.open()
	if err != nil {
		return err
	}
	if err := needTargets(c, s.target); err != nil {
		return err
	}
	st := &state{Version: stateVersion, ID: newID(), Target: s.target, FS: s.fs, Chunk: s.chunk}
	if err := d.takeLegs(dir, s, st); err != nil {
		return fmt.Errorf("target %s: %w", s.target, err)
	}
	failpoint.Hit("volume-dm/legs-taken")
	switch {
	case s.target == snapshot:
		return d.keepOrigins(dir, st)
	case s.target == crypt && s.keyfile == "":
		return nil // the first key makes it
	case s.target == crypt:
		return d.firstKeyOfFile(ctx, dir, st, s.keyfile)
	}
	return d.format(ctx, dir, st)
}

// takeLegs decides what a volume is made of, writes it down and marks devices.
func (d *Driver) takeLegs(dir string, s spec, st *state) error {
	if s.target == snapshot {
		return d.takeOrigin(dir, s, st)
	}
	if len(s.devices) > 0 {
		return d.takeDevices(dir, s, st)
	}
	per := s.size
	if s.target == stripe {
		per = roundUp((s.size + uint64(s.legs) - 1) / uint64(s.legs))
	}
	for range s.legs {
		id := newID()
		st.Legs = append(st.Legs, leg{ID: id, File: "leg-" + id + ".img", Size: per})
	}
	st.Size = s.size
	if s.target == stripe {
		st.Size = per * uint64(s.legs)
	}
	for _, l := range st.Legs {
		if err := makeFile(filepath.Join(dir, l.File), l.Size+headerLength); err != nil {
			return err
		}
	}
	return d.put(dir, st)
}

func (d *Driver) takeDevices(dir string, s spec, st *state) (err error) {
	var devices []*blockdev.Device
	defer func() {
		for _, dev := range devices {
			err = errors.Join(err, dev.Close())
		}
	}()
	id := newID()
	for i, path := range s.devices {
		dev, err := d.claim(path, s.force)
		if err != nil {
			return err
		}
		devices = append(devices, dev)
		for _, other := range devices[:i] {
			if other.Major == dev.Major && other.Minor == dev.Minor {
				return invalid("devices %s and %s are the same", s.devices[i-1], path)
			}
		}
		room := roundDown(uint64(dev.Size) / sectorSize)
		if room < headerLength+minSize/sectorSize {
			return invalid("device %s is too small: it has %d bytes, the least is %d", path, dev.Size, headerLength*sectorSize+minSize)
		}
		if s.target != multipath {
			id = newID()
		}
		// What a mirror on devices has not written is not the same on them.
		st.Legs = append(st.Legs, leg{ID: id, Device: path, Size: room - headerLength, Fresh: s.target == mirror && i > 0})
	}
	if st.Size, err = fit(s, st.Legs); err != nil {
		return err
	}
	if err := d.put(dir, st); err != nil {
		return err
	}
	failpoint.Hit("volume-dm/state-written")
	if s.target == multipath {
		return d.markPaths(st, devices)
	}
	for i, dev := range devices {
		if err := d.mark(st, st.Legs[i], dev); err != nil {
			return err
		}
	}
	return nil
}

// mark makes a device a leg of a volume.
func (d *Driver) mark(st *state, l leg, dev *blockdev.Device) error {
	if err := dev.WriteStart(make([]byte, headerLength*sectorSize)); err != nil {
		return err
	}
	return writeLabel(dev, d.labelOf(st, l))
}

// markPaths marks the disk that all paths have to lead to.
func (d *Driver) markPaths(st *state, paths []*blockdev.Device) error {
	want := d.labelOf(st, st.Legs[0])
	if err := d.mark(st, st.Legs[0], paths[0]); err != nil {
		return err
	}
	for i, dev := range paths {
		if have, _, err := readLabel(dev); err != nil || have == nil || *have != want {
			return errors.Join(err, invalid("devices %s and %s lead to different disks", st.Legs[0].Device, st.Legs[i].Device))
		}
	}
	return nil
}

// fit is the size of a volume on devices.
func fit(s spec, legs []leg) (uint64, error) {
	least, sum := legs[0].Size, uint64(0)
	for _, l := range legs {
		least, sum = min(least, l.Size), sum+l.Size
	}
	room := sum
	switch {
	case s.target == stripe:
		room = least * uint64(len(legs))
	case s.target.redundant():
		room = least
	}
	size := s.size
	if s.target == stripe && size > 0 {
		n := uint64(len(legs))
		size = roundUp((size+n-1)/n) * n
	}
	if size > room {
		return 0, invalid("the devices have room for %d bytes, not for %d", room*sectorSize, size*sectorSize)
	}
	if size == 0 {
		size = room
	}
	if s.fs == "xfs" && size*sectorSize < minSizeXFS {
		return 0, invalid("the devices have room for %d bytes: xfs needs %d", room*sectorSize, minSizeXFS)
	}
	return size, nil
}

// takeOrigin is takeLegs for a volume that begins as a copy of a device.
func (d *Driver) takeOrigin(dir string, s spec, st *state) error {
	path := s.devices[0]
	dev, err := blockdev.Open(path, false)
	if err != nil {
		return deviceError(err)
	}
	defer dev.Close()
	if have, _, err := readLabel(dev); err != nil || have != nil {
		return errors.Join(err, errdefs.New(errdefs.Conflict, "device %s is a part of another volume: take a snapshot of that one", path))
	}
	if st.FS, err = kindOn(dev); err != nil {
		return err
	}
	st.Size = uint64(dev.Size) / sectorSize
	room := s.size
	if room == 0 {
		room = cowSize(st.Size)
	}
	id := newID()
	st.Legs = []leg{{ID: newID(), Device: path, Size: st.Size}, {ID: id, File: "leg-" + id + ".img", Size: room}}
	if err := makeFile(filepath.Join(dir, st.Legs[1].File), room); err != nil {
		return err
	}
	return d.put(dir, st)
}

// keepOrigins is what is left to be done of a volume that has a file system already.
func (d *Driver) keepOrigins(dir string, st *state) error {
	st.Made = true
	return d.put(dir, st)
}

// kindOn finds out which file system a device has.
func kindOn(dev *blockdev.Device) (string, error) {
	const ext4At, ext4Magic = 1024 + 56, "\x53\xef"
	b, err := dev.ReadStart(labelSize)
	switch {
	case err != nil:
		return "", err
	case len(b) >= ext4At+2 && string(b[ext4At:ext4At+2]) == ext4Magic:
		return "ext4", nil
	case len(b) >= 4 && string(b[:4]) == "XFSB":
		return "xfs", nil
	}
	return "", invalid("the device has neither ext4 nor xfs, of which a volume could begin as a copy")
}

// format makes the file system of a new volume.
func (d *Driver) format(ctx context.Context, dir string, st *state) error {
	path, err := d.activate(dir, st)
	if err != nil {
		return err
	}
	err = mkfs.Make(ctx, st.FS, path)
	if errors.Is(err, mkfs.ErrMissing) {
		err = errdefs.As(errdefs.InvalidArgument, err)
	}
	if err == nil && st.FS == "ext4" {
		err = empty(path)
	}
	failpoint.Hit("volume-dm/formatted")
	if err := errors.Join(err, d.deactivate(dir, st)); err != nil {
		return err
	}
	defer d.hold(st.ID)()
	st.Made = true
	return d.put(dir, st)
}

// empty takes away the directory that a new ext4 has: programs that ask for an empty
// directory, and copies of what an image has, would find something.
func empty(device string) error {
	m, err := openFS("ext4", device)
	if err != nil {
		return err
	}
	return errors.Join(os.Remove("/proc/self/fd/"+strconv.Itoa(int(m.Fd()))+"/lost+found"), m.Close())
}

// DeleteFiles takes the devices of a volume away, and its marks from those that it had.
func (d *Driver) DeleteFiles(dir string) error {
	if filepath.Dir(dir) != filepath.Clean(d.cfg.Dir) { // what lies deeper may be a user's
		return nil
	}
	st, err := get(dir)
	if errdefs.Is(err, errdefs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	err = d.deactivate(dir, st)
	for _, l := range append(st.Legs, st.Old...) {
		if l.Device == "" || st.Target == snapshot {
			continue
		}
		if e := d.clearLabel(st, l); e != nil && !notThere(e) {
			err = errors.Join(err, fmt.Errorf("device %s: take the mark of the volume away: %w", l.Device, e))
		}
	}
	if st.Target == crypt {
		err = errors.Join(err, keyring.Remove(d.keyName(st)))
	}
	return err
}
