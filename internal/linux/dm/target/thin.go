package target

import "fmt"

// ThinPool gives blocks of a data device to thin devices; which is whose it keeps on
// a metadata device.
type ThinPool struct {
	Metadata, Data string
	BlockSize      uint64 // sectors: 128 to 2,097,152, a multiple of 128
	LowWater       uint64 // free blocks at which there is an event
	// Features are skip_block_zeroing, ignore_discard, no_discard_passdown,
	// read_only, error_if_no_space.
	Features Args
}

// Type is thin-pool.
func (*ThinPool) Type() string { return "thin-pool" }

// AppendParams appends METADATA DATA BLOCKSIZE LOWWATER FEATURES.
func (t *ThinPool) AppendParams(b []byte) []byte {
	b = fmt.Appendf(b, "%s %s %d %d ", t.Metadata, t.Data, t.BlockSize, t.LowWater)
	return append(t.Features.append(b), ' ')
}

// Sizes of a pool's blocks.
const (
	minThinBlock = 128
	maxThinBlock = 2 << 20
)

// Validate knows the block sizes and features.
func (t *ThinPool) Validate() error {
	err := t.Features.check(map[string]int{"skip_block_zeroing": 0, "ignore_discard": 0, "no_discard_passdown": 0, "read_only": 0, "error_if_no_space": 0})
	for _, d := range []string{t.Metadata, t.Data} {
		if err == nil {
			err = checkDevice(d)
		}
	}
	if err == nil && (t.BlockSize < minThinBlock || t.BlockSize > maxThinBlock || t.BlockSize%minThinBlock != 0) {
		err = fmt.Errorf("the block size, %d, is no multiple of %d up to %d", t.BlockSize, minThinBlock, maxThinBlock)
	}
	if err != nil {
		return fmt.Errorf("target thin-pool: %w", err)
	}
	return nil
}

func (t *ThinPool) parse(w *words) {
	t.Metadata, t.Data = w.word("metadata device"), w.word("data device")
	t.BlockSize, t.LowWater = w.number("block size"), w.number("low water mark")
	if w.more() {
		t.Features = w.args("features")
	}
}

// ThinPoolStatus is how full a pool is, and whether it works.
type ThinPoolStatus struct {
	Failed         bool // nothing else is known then
	Transaction    uint64
	Metadata, Data Used   // blocks
	HeldRoot       string // block, or -
	Mode           string // rw, ro, out_of_data_space
	Discard        string // discard_passdown, no_discard_passdown, ignore_discard
	NoSpace        string // queue_if_no_space, error_if_no_space
	NeedsCheck     string // needs_check, or -
	MetadataLow    uint64 // free blocks of metadata at which there is an event
}

const failed = "Fail"

// AppendStatus appends them in this order.
func (s *ThinPoolStatus) AppendStatus(b []byte) []byte {
	if s.Failed {
		return append(b, failed...)
	}
	b = fmt.Appendf(b, "%d ", s.Transaction)
	b = s.Data.append(append(s.Metadata.append(b), ' '))
	return fmt.Appendf(b, " %s %s %s %s %s %d ", s.HeldRoot, s.Mode, s.Discard, s.NoSpace, s.NeedsCheck, s.MetadataLow)
}

func (s *ThinPoolStatus) parse(w *words) {
	if string(w.rest) == failed {
		s.Failed, w.rest = true, nil
		return
	}
	s.Transaction, s.Metadata, s.Data = w.number("transaction"), w.used("metadata"), w.used("data")
	s.HeldRoot, s.Mode, s.Discard = w.word("held root"), w.word("mode"), w.word("discard mode")
	s.NoSpace, s.NeedsCheck, s.MetadataLow = w.word("mode without space"), w.word("need of a check"), w.number("low water mark")
}

// Thin is a device of a pool.
type Thin struct {
	Pool   string
	ID     uint64 // less than 1<<24
	Origin string // an external one, read-only, or empty
}

// Type is thin.
func (*Thin) Type() string { return "thin" }

// AppendParams appends POOL ID ORIGIN.
func (t *Thin) AppendParams(b []byte) []byte {
	b = fmt.Appendf(b, "%s %d", t.Pool, t.ID)
	if t.Origin != "" {
		b = append(append(b, ' '), t.Origin...)
	}
	return b
}

// maxThinID is the highest ID in a pool.
const maxThinID = 1<<24 - 1

// Validate knows the highest ID.
func (t *Thin) Validate() error {
	err := checkDevice(t.Pool)
	if err == nil && t.Origin != "" {
		err = checkDevice(t.Origin)
	}
	if err == nil && t.ID > maxThinID {
		err = fmt.Errorf("the ID, %d, is above %d", t.ID, maxThinID)
	}
	if err != nil {
		return fmt.Errorf("target thin: %w", err)
	}
	return nil
}

func (t *Thin) parse(w *words) {
	t.Pool, t.ID = w.word("pool"), w.number("ID")
	if w.more() {
		t.Origin = w.word("origin")
	}
}

// ThinStatus is how much of a thin device has blocks.
type ThinStatus struct {
	State   string // empty, Fail (the pool's), or - (it is not there)
	Mapped  uint64 // sectors
	Highest string // last mapped sector, or -
}

// AppendStatus appends MAPPED HIGHEST.
func (s *ThinStatus) AppendStatus(b []byte) []byte {
	if s.State != "" {
		return append(b, s.State...)
	}
	return fmt.Appendf(b, "%d %s", s.Mapped, s.Highest)
}

func (s *ThinStatus) parse(w *words) {
	switch state := string(w.rest); state {
	case failed, "-":
		s.State, w.rest = state, nil
	default:
		s.Mapped, s.Highest = w.number("number of sectors"), w.word("last sector")
	}
}
