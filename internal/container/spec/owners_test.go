package spec

import (
	"math"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// A map is whole, and nothing but the one id is seen as another.
func TestAsAnother(t *testing.T) {
	ids := []uint32{0, 1, 2, 5, 1000, 1001, math.MaxUint32 - 2, math.MaxUint32 - 1}
	for _, id := range ids {
		for _, seen := range ids {
			m := asAnother(id, seen)
			if got := seenAs(t, m, id); got != int64(seen) {
				t.Errorf("%d as %d is seen as %d", id, seen, got)
			}
			if got := seenAs(t, m, seen); id != seen && got != -1 {
				t.Errorf("%d as %d: the files of %d are seen as those of %d", id, seen, seen, got)
			}
			for _, other := range ids {
				if got := seenAs(t, m, other); other != id && other != seen && got != int64(other) {
					t.Errorf("%d as %d: %d is seen as %d", id, seen, other, got)
				}
			}
		}
	}
}

// seenAs is what a map makes of an id, -1 for nothing. It fails if several rows have it.
func seenAs(t *testing.T, m []specs.LinuxIDMapping, id uint32) int64 {
	t.Helper()
	found := int64(-1)
	for _, r := range m {
		if r.Size == 0 || uint64(r.HostID)+uint64(r.Size) > math.MaxUint32 || uint64(r.ContainerID)+uint64(r.Size) > math.MaxUint32 {
			t.Fatalf("a row that the kernel refuses: %+v", r)
		}
		if id >= r.ContainerID && id-r.ContainerID < r.Size {
			if found >= 0 {
				t.Fatalf("%d is in two rows of %+v", id, m)
			}
			found = int64(r.HostID + id - r.ContainerID)
		}
	}
	return found
}
