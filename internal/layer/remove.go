package layer

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/failpoint"
)

// RemoveChain removes the topmost layer of a chain. One that a container or
// another layer stands on goes when the last of them goes.
func (s *Service) RemoveChain(ids ...ChainID) error {
	s.mu.Lock()
	for _, id := range ids {
		if id != "" && checkChain(id) == nil {
			s.doomed[id] = struct{}{}
		}
	}
	dead := s.unneeded()
	s.mu.Unlock()
	return s.drop(dead)
}

// Prune removes all layers but those of the given chains, and those that
// containers stand on. It is how layers go that a kill left over.
func (s *Service) Prune(keep []ChainID) error {
	kept := map[ChainID]bool{}
	for _, id := range keep {
		for c, err := s.chainOf(id); err == nil && c.id != "" && !kept[c.id]; c, err = s.chainOf(c.record.Parent) {
			kept[c.id] = true
		}
	}
	entries, err := os.ReadDir(s.layers)
	if err != nil {
		return err
	}
	var gone []ChainID
	for _, e := range entries {
		id := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
		if checkChain(id) == nil && !kept[id] {
			gone = append(gone, id)
		}
	}
	return s.RemoveChain(gone...)
}

// unneeded takes the doomed layers that no container stands on out of the
// books, topmost first. Preconditions: s.mu is held.
func (s *Service) unneeded() []ChainID {
	if len(s.doomed) == 0 {
		return nil
	}
	needed, _ := s.needed()
	var dead []ChainID
	for id := range s.doomed {
		if !needed[id] {
			dead = append(dead, id)
			delete(s.doomed, id)
			delete(s.chains, id)
		}
	}
	return dead
}

// needed are the layers that containers stand on; not all of them if a layer
// is damaged. Preconditions: s.mu is held.
func (s *Service) needed() (needed map[ChainID]bool, all bool) {
	needed, all = map[ChainID]bool{}, true
	for _, p := range s.containing {
		for id := p.chain; id != "" && !needed[id]; {
			needed[id] = true
			c, err := s.load(id)
			if err != nil {
				all = false
				break
			}
			id = c.record.Parent
		}
	}
	return needed, all
}

// drop moves layers that nobody knows any more into the trash.
func (s *Service) drop(ids []ChainID) error {
	var errs []error
	for _, id := range ids {
		// Without its record a layer does not exist: a kill between these two
		// leaves a directory that the next Prune takes.
		if err := os.Remove(filepath.Join(s.dir(id), recordFile)); err != nil && !os.IsNotExist(err) {
			errs = append(errs, err)
			continue
		}
		failpoint.Hit("rm/layer-record")
		errs = append(errs, s.trash.put(s.dir(id)))
	}
	return errors.Join(errs...)
}
