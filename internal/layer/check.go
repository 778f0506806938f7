package layer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/swap"
	"github.com/tare-engine/tare/internal/linux/syncfs"
	"github.com/tare-engine/tare/internal/linux/treecmp"
)

// Damage is one thing in which a committed layer differs from what its tar
// stream says.
type Damage struct {
	Path    string // in the layer, without a slash in front; "" is the layer itself
	Problem string
}

// maxDamages is how many things are named of one layer.
const maxDamages = 1000

// Check compares the committed layer id with the same one that was unpacked
// into the batch. What is damaged below it is in the batch too, or repaired.
func (b *Batch) Check(ctx context.Context, id ChainID) ([]Damage, error) {
	st := b.stagedOf(id)
	if st == nil {
		return nil, fmt.Errorf("layer %s is not in the batch", id)
	}
	if err := b.finish(st); err != nil {
		return nil, err
	}
	var all []Damage
	report := func(p, problem string) bool {
		all = append(all, Damage{p, problem})
		return len(all) < maxDamages
	}
	committed, err := b.s.read(id)
	switch {
	case errors.Is(err, fs.ErrNotExist) || !exists(filepath.Join(b.s.dir(id), recordFile)):
		report("", "is missing")
	case err != nil:
		report("", "has a damaged "+recordFile)
	case !committed.record.same(st.record):
		report("", "has a wrong "+recordFile)
	}
	want, err := b.s.open(ctx, filepath.Join(st.dir, "diff"))
	if err != nil {
		return nil, err
	}
	defer want.Close()
	got, err := b.s.open(ctx, filepath.Join(b.s.dir(id), "diff"))
	if errors.Is(err, fs.ErrNotExist) {
		if len(all) == 0 {
			report("", "is missing")
		}
		return all, nil
	}
	if err != nil {
		return nil, err
	}
	defer got.Close()
	if err := treecmp.Compare(ctx, want, got, report); err != nil {
		return nil, fmt.Errorf("layer %s: %w", id, err)
	}
	return all, nil
}

// same reports whether two records say the same, but for the space that the
// file system happened to take.
func (r record) same(other record) bool {
	r.Disk, other.Disk = 0, 0
	return r == other
}

func exists(p string) bool {
	_, err := os.Lstat(p)
	return err == nil
}

func (b *Batch) stagedOf(id ChainID) *Staged {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.staged[id]
}

// Drop throws a layer of the batch away.
func (b *Batch) Drop(id ChainID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	st := b.staged[id]
	if st == nil {
		return nil
	}
	delete(b.staged, id)
	return b.s.trash.put(st.dir)
}

// replacedPrefix begins the directories, beside a layer's diff/, of trees that
// were replaced and that a container may still have mounted.
const replacedPrefix = "replaced-"

// Replace puts a layer of the batch, which Check has seen, into the place of
// the committed one, in one step. Containers that have that mounted keep it:
// it goes when none stands on the layer any more and a later Replace or
// DropReplaced sees that. Whoever calls makes sure that the layer is not being
// removed.
func (b *Batch) Replace(id ChainID) error {
	st := b.stagedOf(id)
	if st == nil {
		return fmt.Errorf("layer %s is not in the batch", id)
	}
	s, dir := b.s, b.s.dir(id)
	if err := os.Mkdir(dir, 0700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// In staging a kill would have the next start delete what the swap left there.
	other := filepath.Join(dir, replacedPrefix+filepath.Base(st.dir))
	if err := os.Rename(filepath.Join(st.dir, "diff"), other); err != nil {
		return err
	}
	if err := syncfs.All(s.layers); err != nil {
		return err
	}
	failpoint.Hit("repair/layer-beside")
	err := swap.Paths(other, filepath.Join(dir, "diff"))
	if errors.Is(err, fs.ErrNotExist) {
		err = os.Rename(other, filepath.Join(dir, "diff"))
	}
	if err != nil {
		return err
	}
	failpoint.Hit("repair/layer-swapped")
	if err := os.Rename(filepath.Join(st.dir, recordFile), filepath.Join(dir, recordFile)); err != nil {
		return err
	}
	if err := errors.Join(syncfs.Dir(dir), syncfs.Dir(s.layers)); err != nil {
		return err
	}
	s.mu.Lock()
	clear(s.chains) // what was read of a damaged record; those in use stay whole
	s.mu.Unlock()
	return errors.Join(b.Drop(id), s.DropReplaced())
}

// DropReplaced removes what Replace has left beside layers that no container
// stands on.
func (s *Service) DropReplaced() error {
	found, err := filepath.Glob(filepath.Join(s.layers, "*", replacedPrefix+"*"))
	if err != nil || len(found) == 0 {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock() // no container comes to stand on a layer meanwhile
	needed, all := s.needed()
	if !all {
		return nil
	}
	var errs []error
	for _, dir := range found {
		chain := filepath.Base(filepath.Dir(dir))
		if !needed[ChainID("sha256:"+chain)] {
			errs = append(errs, s.trash.put(dir))
		}
	}
	return errors.Join(errs...)
}
