package target

import (
	"fmt"
	"slices"
	"strconv"
)

// Raid is the md driver's RAID.
type Raid struct {
	// Level is raid0, raid1, raid4, raid5_la, raid5_ra, raid5_ls, raid5_rs,
	// raid5_n, raid6_zr, raid6_nr, raid6_nc, raid10 or another of the raid6 kinds.
	Level     string
	ChunkSize uint64 // sectors; 0 with raid1
	Options   Args   // without the chunk size, which the kernel counts as the first
	Disks     []RaidDisk
}

// RaidDisk is a place in the array.
type RaidDisk struct{ Metadata, Data string } // devices, or -

// absent is the device of a place that has none.
const absent = "-"

// raidOptions are the names, and how many values follow.
var raidOptions = map[string]int{
	"sync": 0, "nosync": 0, "rebuild": 1, "daemon_sleep": 1, "min_recovery_rate": 1, "max_recovery_rate": 1,
	"write_mostly": 1, "max_write_behind": 1, "stripe_cache": 1, "region_size": 1, "raid10_copies": 1,
	"raid10_format": 1, "delta_disks": 1, "data_offset": 1, "journal_dev": 1, "journal_mode": 1,
}

// leastDisks is how many places a level needs at least.
var leastDisks = map[string]int{
	"raid0": 2, "raid1": 1, "raid4": 3, "raid10": 2,
	"raid5_la": 3, "raid5_ra": 3, "raid5_ls": 3, "raid5_rs": 3, "raid5_n": 3,
	"raid6_zr": 5, "raid6_nr": 5, "raid6_nc": 5, "raid6_ls_6": 5, "raid6_rs_6": 5, "raid6_la_6": 5, "raid6_ra_6": 5, "raid6_n_6": 5,
	"raid10_near": 2, "raid10_far": 2, "raid10_offset": 2, "raid0_meta": 2,
}

// Type is raid.
func (*Raid) Type() string { return "raid" }

// AppendParams appends LEVEL NUMBER CHUNK OPTIONS NUMBER DISKS.
func (t *Raid) AppendParams(b []byte) []byte {
	b = append(append(b, t.Level...), ' ')
	b = append(Args{strconv.FormatUint(t.ChunkSize, 10)}, t.Options...).append(b)
	b = fmt.Appendf(b, " %d", len(t.Disks))
	for _, d := range t.Disks {
		b = fmt.Appendf(b, " %s %s", d.Metadata, d.Data)
	}
	return b
}

// Validate knows levels, their least number of disks, and options.
func (t *Raid) Validate() error {
	err := t.Options.check(raidOptions)
	least, ok := leastDisks[t.Level]
	switch {
	case err != nil:
	case !ok:
		err = fmt.Errorf("there is no level %q", t.Level)
	case len(t.Disks) < least:
		err = fmt.Errorf("%s with %d disks, which needs %d", t.Level, len(t.Disks), least)
	case slices.Contains(t.Options, "sync") && slices.Contains(t.Options, "nosync"):
		err = fmt.Errorf("both sync and nosync")
	}
	for _, d := range t.Disks {
		for _, dev := range []string{d.Metadata, d.Data} {
			if err == nil {
				err = checkDevice(dev)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("target raid: %w", err)
	}
	return nil
}

func (t *Raid) parse(w *words) {
	t.Level = w.word("level")
	n := w.count("number of options")
	if n < 1 {
		w.fail("the chunk size is missing")
		return
	}
	t.ChunkSize = w.number("chunk size")
	t.Options = Args(w.list(n-1, "option"))
	for range w.count("number of disks") {
		d := RaidDisk{w.word("metadata device"), w.word("data device")}
		if w.err != nil {
			return
		}
		t.Disks = append(t.Disks, d)
	}
}

// RaidStatus is the health of an array, and what it does beside its work.
type RaidStatus struct {
	Level      string
	Disks      uint64
	Health     string // a letter for each: A (in step), a (alive, not in step), D (dead), - (absent)
	Sync       Used   // sectors
	Action     string // idle, frozen, resync, recover, check, repair, reshape
	Mismatches uint64
	DataOffset uint64
	Journal    string // A (written through), a (written back), D (dead), - (none)
}

// AppendStatus appends them in this order.
func (s *RaidStatus) AppendStatus(b []byte) []byte {
	b = s.Sync.append(fmt.Appendf(b, "%s %d %s ", s.Level, s.Disks, s.Health))
	return fmt.Appendf(b, " %s %d %d %s", s.Action, s.Mismatches, s.DataOffset, s.Journal)
}

func (s *RaidStatus) parse(w *words) {
	s.Level, s.Disks, s.Health, s.Sync = w.word("level"), w.number("number of disks"), w.word("health"), w.used("sync")
	s.Action, s.Mismatches = w.word("action"), w.number("number of mismatches")
	s.DataOffset, s.Journal = w.number("offset of data"), w.word("state of the journal")
}
