package mapped

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/blockdev"
	"github.com/tare-engine/tare/internal/linux/device"
	"github.com/tare-engine/tare/internal/linux/disk"
	"github.com/tare-engine/tare/internal/linux/dm"
	"github.com/tare-engine/tare/internal/linux/loop"
)

// members are legs with open devices, until a table has them.
type members struct {
	list  []member
	files []*os.File // loop devices
}

func (m *members) Close() error {
	var err error
	for _, f := range m.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// openLegs opens the legs of a volume that have not failed. Where the volume goes on
// without one that is not there, that has failed from now on: it would lack what is
// written meanwhile.
//
// Preconditions: the volume's lock is held.
func (d *Driver) openLegs(dir string, st *state) (_ *members, err error) {
	all := &members{}
	defer func() {
		if err != nil {
			all.Close()
		}
	}()
	var missing []int
	var why error
	for i, l := range st.Legs {
		if l.Failed {
			continue
		}
		m := member{place: i, leg: l}
		if l.File != "" {
			f, dev, err := attach(filepath.Join(dir, l.File))
			if notThere(err) {
				missing, why = append(missing, i), errors.Join(why, err)
				continue
			}
			if err != nil {
				return nil, err
			}
			all.files, m.dev = append(all.files, f), dev
		} else if m.dev, err = d.find(st, l); err != nil {
			missing, why = append(missing, i), errors.Join(why, err)
			continue
		}
		all.list = append(all.list, m)
	}
	if len(missing) == 0 {
		return all, nil
	}
	return all, d.goWithout(dir, st, all, missing, why)
}

// goWithout notes which legs have failed, unless the others cannot do without them.
func (d *Driver) goWithout(dir string, st *state, have *members, missing []int, why error) error {
	enough := st.Target == multipath && len(have.list) > 0
	for _, m := range have.list {
		enough = enough || st.Target.redundant() && !m.Fresh
	}
	if !enough {
		return why
	}
	slog.Warn("a volume goes on without some of its devices", "dir", dir, "target", st.Target, "err", why)
	if st.Target == multipath {
		return nil
	}
	for _, i := range missing {
		st.Legs[i].Failed = true
	}
	return d.put(dir, st)
}

// find returns the number of the device of a leg, if that is what its path leads to.
func (d *Driver) find(st *state, l leg) (dm.Dev, error) {
	dev, err := blockdev.Open(l.Device, false)
	if err != nil {
		return dm.Dev{}, deviceError(err)
	}
	defer dev.Close()
	number := dm.Dev{Major: dev.Major, Minor: dev.Minor}
	if st.Target == snapshot { // what it begins with has no label
		return number, enough(dev, l.Size)
	}
	switch have, _, err := readLabel(dev); {
	case err != nil:
		return dm.Dev{}, fmt.Errorf("device %s: read its label: %w", l.Device, err)
	case have == nil || *have != d.labelOf(st, l):
		return dm.Dev{}, errdefs.New(errdefs.Conflict, "device %s is not, or not any more, the one of this volume", l.Device)
	}
	return number, enough(dev, l.Size+headerLength)
}

func enough(dev *blockdev.Device, sectors uint64) error {
	if uint64(dev.Size)/sectorSize < sectors {
		return errdefs.New(errdefs.Conflict, "device has shrunk to %d bytes, %d are needed", dev.Size, sectors*sectorSize)
	}
	return nil
}

// attach makes a device of a file, which exists while it is open or a table has it.
func attach(path string) (*os.File, dm.Dev, error) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, dm.Dev{}, err
	}
	defer f.Close()
	dev, err := loop.Attach(f)
	if err != nil {
		return nil, dm.Dev{}, err
	}
	n, err := device.At(dev.Name())
	if err != nil {
		dev.Close()
		return nil, dm.Dev{}, err
	}
	return dev, dm.Dev{Major: uint32(n.Major), Minor: uint32(n.Minor)}, nil
}

// makeFile makes a file of so many sectors, which takes space as it is written to.
func makeFile(path string, sectors uint64) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Truncate(int64(sectors * sectorSize)); err != nil {
		return err
	}
	return f.Sync()
}

func taken(file string) (int64, bool) {
	info, err := os.Lstat(file)
	if err != nil {
		return 0, false
	}
	return disk.Taken(info), true
}
