package mapped

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/blockdev"
)

// label is at the start of each device of a volume: paths of devices may lead to another
// one after a boot, or to one that has been away.
type label struct {
	Engine string
	Volume string // its ID
	Leg    string // its ID
}

const (
	labelMagic = "tare volume leg\n"
	labelSize  = 4096
	// dataStart is where file systems, partitions, LVM and others have marks of theirs.
	dataStart = 1 << 20
)

// readLabel reads the label of a device; nil: it has none. empty reports whether there is
// nothing else at its start either.
func readLabel(dev *blockdev.Device) (l *label, empty bool, err error) {
	b, err := dev.ReadStart(dataStart)
	if err != nil {
		return nil, false, err
	}
	if rest, is := bytes.CutPrefix(b, []byte(labelMagic)); is {
		end := bytes.IndexByte(rest[:min(len(rest), labelSize-len(labelMagic))], 0)
		l = &label{}
		if end < 0 || json.Unmarshal(rest[:end], l) != nil {
			l = nil
		}
		return l, false, nil
	}
	return nil, len(bytes.Trim(b, "\x00")) == 0, nil
}

func writeLabel(dev *blockdev.Device, l label) error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return dev.WriteStart(append([]byte(labelMagic), b...))
}

// clearLabel takes the label of a leg from its device, if it has it.
func (d *Driver) clearLabel(st *state, l leg) error {
	dev, err := blockdev.Open(l.Device, false)
	if err != nil {
		return err
	}
	defer dev.Close()
	if have, _, err := readLabel(dev); err != nil || have == nil || *have != d.labelOf(st, l) {
		return err
	}
	return dev.WriteStart(make([]byte, dataStart))
}

func (d *Driver) labelOf(st *state, l leg) label { return label{d.cfg.Engine, st.ID, l.ID} }

// claim opens a device for a new leg, which nobody may have. before are labels that it
// may have.
func (d *Driver) claim(path string, force bool, before ...label) (*blockdev.Device, error) {
	dev, err := blockdev.Open(path, true)
	if err != nil {
		return nil, deviceError(err)
	}
	fail := func(err error) (*blockdev.Device, error) {
		dev.Close()
		return nil, err
	}
	have, empty, err := readLabel(dev)
	if err != nil {
		return fail(err)
	}
	for _, l := range before {
		if have != nil && *have == l {
			return dev, nil
		}
	}
	switch {
	case have != nil:
		return fail(errdefs.New(errdefs.Conflict, "device %s is in use by another volume (of engine %s, devices %s); if that is gone: wipefs, or dd zeros over the first MiB", path, shown(have.Engine), shown(have.Volume)))
	case !empty && !force:
		return fail(errdefs.New(errdefs.Conflict, "device %s has data: say -o force=true to lose it", path))
	}
	return dev, nil
}

// deviceError classifies what is wrong with a path that a user has given.
func deviceError(err error) error {
	switch {
	case isAny(err, blockdev.ErrBusy):
		return errdefs.As(errdefs.Conflict, err)
	case isAny(err, blockdev.ErrNoBlock) || notThere(err):
		return errdefs.As(errdefs.InvalidArgument, err)
	}
	return fmt.Errorf("device: %w", err)
}
