package snapshot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/filemeta"
)

// own is what a snapshot's directory is called when a layer has taken its place.
func (s *Snapshotter) own(id string) string { return filepath.Join(s.dir(id), "own") }

// lent reports whether a snapshot's files are those of a layer.
func (s *Snapshotter) lent(id string) bool {
	info, err := os.Lstat(s.fs(id))
	return err == nil && info.Mode()&fs.ModeSymlink != 0
}

// packable reports whether an archive that BuildKit makes of a directory holds all of it:
// sockets and extended attributes but file capabilities are not in it, and later steps
// are to find them.
func packable(dir string) (bool, error) {
	packed := true
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		names, err := filemeta.Attributes(path)
		if err != nil {
			return err
		}
		if d.Type() == fs.ModeSocket || slices.ContainsFunc(names, func(n string) bool { return n != "security.capability" }) {
			packed = false
			return filepath.SkipAll
		}
		return nil
	})
	return packed, err
}

// giveUp has a layer of an image with the same files take the place of a snapshot's own
// directory, if there is one. Mounts of the directory go on with it: it stays until
// DropOwn. One that has what no archive holds stays.
func (s *Snapshotter) giveUp(id string, chain layer.ChainID) error {
	if chain == "" || !s.layers.Stacks() || !s.layers.Has(chain) || s.lent(id) {
		return nil
	}
	if packed, err := packable(s.fs(id)); err != nil || !packed {
		return err
	}
	err := s.layers.LendInstead(chain, s.fs(id), s.own(id))
	if errors.Is(err, fs.ErrExist) { // another build was quicker
		return nil
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replaced[id] = time.Now()
	return nil
}

// DropOwn discards the directories that layers have replaced before a time, and reports
// whether there are more.
//
// Preconditions: nothing that was mounted before that time is mounted still.
func (s *Snapshotter) DropOwn(before time.Time) (more bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for id, since := range s.replaced {
		if !since.Before(before) {
			continue
		}
		delete(s.replaced, id)
		errs = append(errs, s.discardOwn(id))
	}
	return len(s.replaced) > 0, errors.Join(errs...)
}

// discardOwn discards the directory that a layer has replaced, if it is there.
func (s *Snapshotter) discardOwn(id string) error { return s.layers.Discard(s.own(id)) }
