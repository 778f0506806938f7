package target

import (
	"fmt"
	"math/bits"
)

// SnapshotOrigin is a device that has snapshots: writes to it first save what they
// change to all of them.
type SnapshotOrigin struct{ Device string }

// Type is snapshot-origin.
func (*SnapshotOrigin) Type() string { return "snapshot-origin" }

// AppendParams appends DEVICE.
func (t *SnapshotOrigin) AppendParams(b []byte) []byte { return append(b, t.Device...) }

// Validate asks for a device.
func (t *SnapshotOrigin) Validate() error {
	if err := checkDevice(t.Device); err != nil {
		return fmt.Errorf("target snapshot-origin: %w", err)
	}
	return nil
}

func (t *SnapshotOrigin) parse(w *words) { t.Device = w.word("device") }

// Snapshot is what was on its origin, with its own changes; what differs lies on a
// second device.
type Snapshot struct {
	Origin, COW string
	// Persistent is P (it survives a restart), PO (and shows when it is full), or N.
	Persistent string
	ChunkSize  uint64 // sectors
	Features   Args   // discard_zeroes_cow, discard_passdown_origin
}

// Type is snapshot.
func (*Snapshot) Type() string { return "snapshot" }

// AppendParams appends ORIGIN COW PERSISTENT CHUNK FEATURES.
func (t *Snapshot) AppendParams(b []byte) []byte {
	b = fmt.Appendf(b, "%s %s %s %d", t.Origin, t.COW, t.Persistent, t.ChunkSize)
	if len(t.Features) > 0 {
		b = t.Features.append(append(b, ' '))
	}
	return b
}

// Validate knows the letters, the features, and that chunks are powers of two.
func (t *Snapshot) Validate() error {
	if err := t.validate(); err != nil {
		return fmt.Errorf("target snapshot: %w", err)
	}
	return nil
}

func (t *Snapshot) validate() error {
	for _, d := range []string{t.Origin, t.COW} {
		if err := checkDevice(d); err != nil {
			return err
		}
	}
	switch t.Persistent {
	case "P", "PO", "N":
	default:
		return fmt.Errorf("%q is none of P, PO and N", t.Persistent)
	}
	if bits.OnesCount64(t.ChunkSize) != 1 {
		return fmt.Errorf("the chunk size, %d, is no power of two", t.ChunkSize)
	}
	return t.Features.check(map[string]int{"discard_zeroes_cow": 0, "discard_passdown_origin": 0})
}

func (t *Snapshot) parse(w *words) {
	t.Origin, t.COW = w.word("origin"), w.word("device for changes")
	t.Persistent, t.ChunkSize = w.word("kind of persistence"), w.number("chunk size")
	if w.more() {
		t.Features = w.args("features")
	}
}

// SnapshotMerge copies a snapshot back into its origin, and is the origin meanwhile.
type SnapshotMerge struct{ Snapshot }

// Type is snapshot-merge.
func (*SnapshotMerge) Type() string { return "snapshot-merge" }

// Validate is Snapshot's.
func (t *SnapshotMerge) Validate() error {
	if err := t.validate(); err != nil {
		return fmt.Errorf("target snapshot-merge: %w", err)
	}
	return nil
}

// SnapshotStatus is how full a snapshot is.
type SnapshotStatus struct {
	// Broken is empty, or Invalid (it was full, or could not be written), Overflow
	// (the same, with PO), "Merge failed", or Unknown.
	Broken   string
	Used     Used   // sectors
	Metadata uint64 // sectors of Used.Used that are not data
}

// AppendStatus appends USED METADATA, or what is broken.
func (s *SnapshotStatus) AppendStatus(b []byte) []byte {
	if s.Broken != "" {
		return append(b, s.Broken...)
	}
	return fmt.Appendf(s.Used.append(b), " %d", s.Metadata)
}

func (s *SnapshotStatus) parse(w *words) {
	for _, broken := range []string{"Invalid", "Overflow", "Merge failed", "Unknown"} {
		if string(w.rest) == broken {
			s.Broken, w.rest = broken, nil
			return
		}
	}
	s.Used, s.Metadata = w.used("number of sectors"), w.number("number of sectors of metadata")
}
