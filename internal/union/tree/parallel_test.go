package tree_test

import (
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"

	"github.com/tare-engine/tare/internal/union"
	"github.com/tare-engine/tare/internal/union/model"
	"github.com/tare-engine/tare/internal/union/tree"
)

// TestParallelOperations: many do operations in the same few directories while
// branches come and go. What is seen in the end is what a union that was opened
// just now sees, the read-only branches are as before, and no node is left.
func TestParallelOperations(t *testing.T) {
	syscall.Umask(0)
	dir := t.TempDir()
	m := model.RandomOf(rand.New(rand.NewPCG(5, 5)), "whrr", true)
	d := newDisk(t, dir, m, union.Defaults())
	extra := t.TempDir() + "/extra"
	must(t, model.RandomOf(rand.New(rand.NewPCG(6, 6)), "r", true).Branches[0].Write(extra))
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			c := rand.New(rand.NewPCG(uint64(w), 7))
			for range 400 {
				op := model.RandomOperation(c)
				op.Do(d) // refusals are as they come
			}
		})
	}
	workers.Go(func() {
		for i := range 40 {
			b := union.Branch{Dir: extra, Perm: union.RO, WH: i%2 == 0}
			if err := d.tree.Add(i%4, source(t, b)); err != nil {
				t.Error(err)
				return
			}
			for d.tree.Delete(extra) != nil { // in use
			}
		}
	})
	workers.Wait()
	if n := d.tree.Len(); n != 1 {
		t.Errorf("%d nodes are left", n)
	}
	seen := d.View()
	d.tree.Close()
	var sources []tree.Source
	for i, b := range m.Branches {
		perm := map[bool]union.Perm{true: union.RW, false: union.RO}[b.RW]
		sources = append(sources, source(t, union.Branch{Dir: d.dirs[i], Perm: perm, WH: b.Honours && !b.RW}))
		if b.RW {
			continue
		}
		got, err := b.Read(d.dirs[i])
		must(t, err)
		if diff := model.CompareBranch(b, got); diff != "" {
			t.Errorf("branch %d: %s", i, diff)
		}
	}
	fresh, err := tree.Open(sources, union.Defaults(), 16)
	must(t, err)
	again := &disk{t: t, tree: fresh}
	defer fresh.Close()
	if diff := model.Compare(again.View(), seen); diff != "" {
		t.Error(diff)
	}
}
