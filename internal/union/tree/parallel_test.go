package tree_test

import (
	"errors"
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
			err := d.tree.Delete(extra)
			for ; errors.Is(err, syscall.EBUSY); err = d.tree.Delete(extra) { // as long as the others are at it
			}
			if err != nil {
				t.Error(err)
				return
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

// TestMoreBranchesThanDescriptors: a directory of more branches than descriptors
// of directories are held is listed, removed and made anew.
func TestMoreBranchesThanDescriptors(t *testing.T) {
	dir := t.TempDir()
	branches := []*model.Branch{model.NewBranch(true, true)}
	for i := range 60 {
		b := model.NewBranch(false, false)
		b.Files["/d"] = &model.File{Kind: syscall.S_IFDIR, Mode: 0o755}
		if i%2 == 0 {
			b.Files["/d/"+string(rune('A'+i))] = &model.File{Kind: syscall.S_IFREG, Mode: 0o644, Data: "x"}
		}
		b.Files["/e"] = &model.File{Kind: syscall.S_IFDIR, Mode: 0o755}
		branches = append(branches, b)
	}
	m := model.New(branches...)
	d := newDisk(t, dir, m, union.Defaults())
	defer d.tree.Close()
	for _, do := range []func(operations) error{
		func(o operations) error { return o.Rmdir("/d") },
		func(o operations) error { return o.Rmdir("/e") },
		func(o operations) error { return o.Make("/e", model.File{Kind: syscall.S_IFDIR, Mode: 0o700}) },
		func(o operations) error { return o.Rename("/e", "/d", false, false) },
		func(o operations) error { return o.Rename("/e", "/f", false, false) },
	} {
		if want, got := do(m), do(d); want != got {
			t.Errorf("%v, want %v", got, want)
		}
		if diff := model.Compare(m.View(), d.View()); diff != "" {
			t.Fatal(diff)
		}
	}
}

type operations = model.Operations
