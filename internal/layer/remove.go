package layer

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/failpoint"
)

// RemoveChain removes the topmost layer of a chain. One that a container or
// another layer stands on goes when the last of them goes.
func (s *Service) RemoveChain(ids ...ChainID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if id != "" && checkChain(id) == nil {
			s.doomed[id] = struct{}{}
		}
	}
	return s.dropUnneeded()
}

// retain has a chain stay that is to go with the last container. It is NotFound
// if it has gone.
func (s *Service) retain(id ChainID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spare(id)
}

// spare is retain. Preconditions: s.mu is held.
func (s *Service) spare(id ChainID) error {
	c, err := s.load(id)
	for err == nil && c.id != "" {
		delete(s.doomed, c.id)
		c, err = s.load(c.record.Parent)
	}
	return err
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

// dropUnneeded takes the doomed layers that no container and no layer stands on
// out of the books and into the trash. Preconditions: s.mu is held, so that nobody finds a
// layer that is about to go.
func (s *Service) dropUnneeded() error {
	if len(s.doomed) == 0 {
		return nil
	}
	needed, _ := s.needed()
	if err := s.addParents(needed); err != nil {
		return err
	}
	var errs []error
	for id := range s.doomed {
		if !needed[id] {
			delete(s.doomed, id)
			delete(s.chains, id)
			errs = append(errs, s.drop(id))
		}
	}
	return errors.Join(errs...)
}

// addParents adds what layers stand on that stay. Preconditions: s.mu is held.
func (s *Service) addParents(needed map[ChainID]bool) error {
	entries, err := os.ReadDir(s.layers)
	if err != nil {
		return err
	}
	for _, e := range entries {
		id := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
		if _, goes := s.doomed[id]; checkChain(id) != nil || goes && !needed[id] {
			continue
		}
		for c, err := s.load(id); err == nil && c.record.Parent != "" && !needed[c.record.Parent]; c, err = s.load(c.record.Parent) {
			needed[c.record.Parent] = true
		}
	}
	return nil
}

// needed are the layers that containers stand on, or that are lent; not all of them
// if a layer is damaged. Preconditions: s.mu is held.
func (s *Service) needed() (needed map[ChainID]bool, all bool) {
	needed, all = map[ChainID]bool{}, true
	tops := slices.Collect(maps.Values(s.lent))
	for _, p := range s.containing {
		tops = append(tops, p.chain)
	}
	for _, chains := range s.added {
		tops = append(tops, chains...)
	}
	for _, id := range tops {
		for id != "" && !needed[id] {
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

// drop moves a layer that nobody knows any more into the trash.
func (s *Service) drop(id ChainID) error {
	// Without its record a layer does not exist: a kill between these two leaves a
	// directory that the next Prune takes, or the next layer with this ID.
	if err := os.Remove(filepath.Join(s.dir(id), recordFile)); err != nil && !os.IsNotExist(err) {
		return err
	}
	failpoint.Hit("rm/layer-record")
	return s.trash.put(s.dir(id))
}
