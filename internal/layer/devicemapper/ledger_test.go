package devicemapper

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// fakePool is a pool in memory. It outlives ledgers, which are killed when it has made
// so many changes, before or after the last.
type fakePool struct {
	number uint64
	ids    map[uint32]bool
	busy   map[uint32]bool
	refuse string // operation that fails

	left  int  // changes until the kill
	after bool // which is made
}

var errKilled = errors.New("killed")

func newFakePool() *fakePool {
	return &fakePool{ids: map[uint32]bool{}, busy: map[uint32]bool{}, left: -1}
}

// change makes one, unless there is a kill before it.
func (p *fakePool) change(op string, f func() error) error {
	if p.left == 0 {
		return errKilled
	}
	if p.refuse == op {
		return syscall.ENOSPC
	}
	if p.left > 0 {
		p.left--
	}
	if p.left == 0 && !p.after {
		return errKilled
	}
	if err := f(); err != nil {
		return err
	}
	if p.left == 0 {
		return errKilled
	}
	return nil
}

func (p *fakePool) Transaction() (uint64, error) {
	if p.left == 0 {
		return 0, errKilled
	}
	return p.number, nil
}

func (p *fakePool) SetTransaction(from, to uint64) error {
	return p.change("count", func() error {
		if p.number != from {
			return fmt.Errorf("the pool has %d, not %d", p.number, from)
		}
		p.number = to
		return nil
	})
}

func (p *fakePool) CreateThin(id uint32) error {
	return p.change("create", func() error {
		if p.ids[id] {
			return syscall.EEXIST
		}
		p.ids[id] = true
		return nil
	})
}

func (p *fakePool) CreateSnap(id, origin uint32) error {
	if !p.ids[origin] {
		return syscall.ENODATA
	}
	return p.CreateThin(id)
}

func (p *fakePool) Delete(id uint32) error {
	return p.change("delete", func() error {
		switch {
		case !p.ids[id]:
			return fs.ErrNotExist
		case p.busy[id]:
			return syscall.EBUSY
		}
		delete(p.ids, id)
		return nil
	})
}

// agree fails unless pool and records have the same devices, also on disk.
func agree(t *testing.T, dir string, p *fakePool, when string) *ledger {
	t.Helper()
	p.left = -1
	l, err := openLedger(dir, p)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	var records []uint32
	for _, d := range l.all() {
		records = append(records, d.ID)
	}
	slices.Sort(records)
	if ids := slices.Sorted(maps.Keys(p.ids)); !slices.Equal(records, ids) {
		t.Errorf("%s: records %v, pool %v", when, records, ids)
	}
	if again, err := openLedger(dir, p); err != nil || len(again.all()) != len(records) {
		t.Errorf("%s: opened again: %v", when, err)
	}
	return l
}

// TestLedgerAgreesAfterKills does random changes, each with a kill somewhere in it.
func TestLedgerAgreesAfterKills(t *testing.T) {
	dir, p := t.TempDir(), newFakePool()
	l := agree(t, dir, p, "new")
	kept := map[uint32]bool{}
	for i := range 300 {
		p.left, p.after = rand.IntN(4), rand.IntN(2) == 0
		when := fmt.Sprintf("round %d, %d changes left, last one made: %v", i, p.left, p.after)
		all := l.all()
		if len(all) > 0 && rand.IntN(2) == 0 {
			d := all[rand.IntN(len(all))]
			if err := l.delete(d); err == nil {
				delete(kept, d.ID)
			} else if !errors.Is(err, errKilled) {
				t.Fatalf("%s: %v", when, err)
			}
			l = agree(t, dir, p, when)
			if _, there := l.find(placeOfDevice(d)); !there { // begun, and so ended
				delete(kept, d.ID)
			}
		} else {
			var parent uint32
			if len(all) > 0 {
				parent = all[rand.IntN(len(all))].ID
			}
			d, err := l.create(parent, 1<<20)
			if err == nil {
				kept[d.ID] = true
			} else if !errors.Is(err, errKilled) {
				t.Fatalf("%s: %v", when, err)
			}
			l = agree(t, dir, p, when)
		}
		for id := range kept {
			if !p.ids[id] {
				t.Fatalf("%s: device %d is lost", when, id)
			}
		}
		if len(kept) != len(p.ids) {
			t.Fatalf("%s: the pool has %v, kept are %v", when, p.ids, kept)
		}
	}
}

func placeOfDevice(d device) place { return place{ledgerVersion, d.ID, d.Transaction} }

// TestLedgerAfterRefusals: what the pool refuses leaves nothing, and all goes on.
func TestLedgerAfterRefusals(t *testing.T) {
	dir, p := t.TempDir(), newFakePool()
	l := agree(t, dir, p, "new")
	first, err := l.create(0, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range []string{"create", "count"} {
		p.refuse = op
		if _, err := l.create(first.ID, 1); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s refused: %v", op, err)
		}
		p.refuse = ""
		if len(p.ids) != 1 || len(l.all()) != 1 {
			t.Errorf("%s refused: the pool has %v, the ledger %v", op, p.ids, l.all())
		}
	}
	second, err := l.create(first.ID, 1)
	if err != nil {
		t.Fatal(err)
	}
	p.busy[second.ID] = true
	if err := l.delete(second); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("in use: %v", err)
	}
	l = agree(t, dir, p, "with a deletion that was refused")
	if d, ok := l.find(placeOfDevice(second)); !ok || !d.Doomed {
		t.Errorf("in use at the next start: %+v, %v", d, ok)
	}
	p.busy[second.ID] = false
	if err := l.delete(second); err != nil {
		t.Error(err)
	}
	l = agree(t, dir, p, "after it")
	if len(l.all()) != 1 {
		t.Errorf("left: %v", l.all())
	}
}

// TestIDsAreUsedAgain, and a place of the device before is none of the one after it.
func TestIDsAreUsedAgain(t *testing.T) {
	dir, p := t.TempDir(), newFakePool()
	l := agree(t, dir, p, "new")
	l.last = maxID - 1
	last, err := l.create(0, 1)
	if err != nil || last.ID != maxID {
		t.Fatal(last, err)
	}
	one, err := l.create(0, 1)
	if err != nil || one.ID != 1 {
		t.Fatal(one, err)
	}
	if err := l.delete(one); err != nil {
		t.Fatal(err)
	}
	l.last = maxID
	again, err := l.create(0, 1)
	if err != nil || again.ID != 1 {
		t.Fatal(again, err)
	}
	if _, found := l.find(placeOfDevice(one)); found {
		t.Error("the place of a deleted device names another one")
	}
	if err := l.delete(one); err != nil || !p.ids[1] {
		t.Errorf("deleted again: %v, %v", err, p.ids)
	}
}

// TestForeignPools: a pool that is not that of the records is not touched.
func TestForeignPools(t *testing.T) {
	dir, p := t.TempDir(), newFakePool()
	l := agree(t, dir, p, "new")
	for range 3 {
		if _, err := l.create(0, 1); err != nil {
			t.Fatal(err)
		}
	}
	for _, number := range []uint64{0, 1, 4, 9} {
		p.number = number
		if _, err := openLedger(dir, p); err == nil || !strings.Contains(err.Error(), "another data root") {
			t.Errorf("transaction %d: %v", number, err)
		}
	}
	p.number = 3
	if err := os.Remove(filepath.Join(dir, "transaction.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := openLedger(dir, p); err == nil || !strings.Contains(err.Error(), "transaction.json is missing") {
		t.Errorf("without the transaction: %v", err)
	}
	if len(p.ids) != 3 {
		t.Errorf("the pool has %v", p.ids)
	}
}
