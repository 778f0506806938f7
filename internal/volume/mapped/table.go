package mapped

import (
	"strconv"

	"github.com/tare-engine/tare/internal/linux/dm"
	"github.com/tare-engine/tare/internal/linux/dm/target"
)

// member is a leg whose device is open.
type member struct {
	place int
	leg
	dev dm.Dev
	// of raid1, by its own devices
	metadata, data dm.Dev
}

// table is what is behind a volume's device, made of those of its legs that are there.
// key is that of crypt; who is done with the table wipes it.
func (st *state) table(have []member, key target.Key) dm.Table {
	switch st.Target {
	case stripe:
		t := &target.Striped{ChunkSize: st.Chunk}
		for _, m := range have {
			t.Stripes = append(t.Stripes, m.area())
		}
		return dm.Table{dm.LineOf(0, st.Size, t)}
	case mirror:
		return st.mirror(have)
	case raid1:
		return st.raid(have)
	case snapshot:
		t := &target.Snapshot{Origin: have[0].dev.String(), COW: have[1].dev.String(), Persistent: "P", ChunkSize: snapshotChunk}
		return dm.Table{dm.LineOf(0, st.Size, t)}
	case crypt:
		return st.inRow(have, func(start uint64, a target.Area) dm.Parameterised {
			return &target.Crypt{Cipher: cipher, Key: key, IVOffset: start, Area: a}
		})
	}
	return st.inRow(have, func(_ uint64, a target.Area) dm.Parameterised { return &target.Linear{Area: a} })
}

func (m member) area() target.Area { return target.Area{Device: m.dev.String(), Offset: headerLength} }

// inRow has one leg after the other.
func (st *state) inRow(have []member, of func(start uint64, a target.Area) dm.Parameterised) (t dm.Table) {
	for start, i := uint64(0), 0; start < st.Size && i < len(have); i++ {
		n := min(have[i].Size, st.Size-start)
		t = append(t, dm.LineOf(start, n, of(start, have[i].area())))
		start += n
	}
	return t
}

// regionSize is how much a mirror takes for in step or not: 512 kB, or more for such
// that would have more than a million of them.
func (st *state) regionSize() uint64 {
	const least, most = 1024, 1 << 20
	n := uint64(least)
	for st.Size/n > most {
		n *= 2
	}
	return n
}

// mirror puts legs that have everything first: the kernel copies from the first one.
func (st *state) mirror(have []member) dm.Table {
	var sources, others []member
	for _, m := range have {
		if m.Fresh {
			others = append(others, m)
		} else {
			sources = append(sources, m)
		}
	}
	all := append(sources, others...)
	if len(all) == 1 {
		return dm.Table{dm.LineOf(0, st.Size, &target.Linear{Area: all[0].area()})}
	}
	// With handle_errors alone a write that not all legs take waits until the table is
	// changed: else a leg that has been away could become the first one.
	t := &target.Mirror{Log: target.MirrorLog{Type: "core", Args: target.Args{strconv.FormatUint(st.regionSize(), 10)}}, Features: target.Args{"handle_errors"}}
	if len(others) == 0 {
		t.Log.Args = append(t.Log.Args, "nosync")
	}
	for _, m := range all {
		t.Legs = append(t.Legs, m.area())
	}
	return dm.Table{dm.LineOf(0, st.Size, t)}
}

func (st *state) raid(have []member) dm.Table {
	t := &target.Raid{Level: "raid1", Options: target.Args{"region_size", strconv.FormatUint(st.regionSize(), 10)}}
	if !st.Made && st.Legs[0].File != "" { // zeros are zeros
		t.Options = append(t.Options, "nosync")
	}
	at := map[int]member{}
	for _, m := range have {
		at[m.place] = m
	}
	for i, l := range st.Legs {
		m, there := at[i]
		if !there {
			t.Disks = append(t.Disks, target.RaidDisk{Metadata: "-", Data: "-"})
			continue
		}
		if l.Fresh && st.Made {
			t.Options = append(t.Options, "rebuild", strconv.Itoa(i))
		}
		t.Disks = append(t.Disks, target.RaidDisk{Metadata: m.metadata.String(), Data: m.data.String()})
	}
	return dm.Table{dm.LineOf(0, st.Size, t)}
}

// paths is the table of the device that a volume of multipath is a part of: the target
// has no offset. All ways are in one group, so that each is used.
func (st *state) paths(have []member) dm.Table {
	g := target.PathGroup{Selector: "round-robin"}
	for _, m := range have {
		g.Paths = append(g.Paths, target.Path{Device: m.dev.String(), Args: []string{"1"}})
	}
	return dm.Table{dm.LineOf(0, st.Size+headerLength, &target.Multipath{Features: target.Args{"queue_mode", "bio"}, Initial: 1, Groups: []target.PathGroup{g}})}
}

// snapshotChunk is how much is copied when a part of it changes, in sectors.
const snapshotChunk = 32

// cowSize is how large the file of changes has to be to have all of a volume, in sectors:
// 16 bytes are noted for each chunk.
func cowSize(size uint64) uint64 { return roundUp(size + size/256 + unit) }
