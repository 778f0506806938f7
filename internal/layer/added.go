package layer

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// addedPrefix begins the links to chains that were added to a container.
const addedPrefix = "added-"

// addedTo lists the chains that were added to a container.
func (s *Service) addedTo(id string) []ChainID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.added[id])
}

// addTo notes, on disk too, that a container needs a chain beside its own.
func (s *Service) addTo(id string, on ChainID) (*chain, error) {
	if err := checkChain(on); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.load(on)
	if err != nil {
		return nil, err
	}
	err = os.Symlink(filepath.Join("..", "..", "layers", s.driver.Name(), on.Encoded()), s.addedLink(id, on))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if !slices.Contains(s.added[id], on) {
		s.added[id] = append(s.added[id], on)
	}
	return c, s.spare(on)
}

func (s *Service) addedLink(id string, on ChainID) string {
	return filepath.Join(s.containers, id, addedPrefix+on.Encoded())
}

// takeFrom is what addTo did, back; of no chains: of all.
func (s *Service) takeFrom(id string, chains ...ChainID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(chains) == 0 {
		chains = slices.Clone(s.added[id])
	}
	for _, on := range chains {
		if err := os.Remove(s.addedLink(id, on)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		s.added[id] = slices.DeleteFunc(s.added[id], func(o ChainID) bool { return o == on })
	}
	if len(s.added[id]) == 0 {
		delete(s.added, id)
	}
	if len(chains) == 0 {
		return nil
	}
	return s.dropUnneeded()
}

// findAdded reads the links of an earlier run.
func (s *Service) findAdded() error {
	if _, ok := s.driver.(Changer); !ok {
		return nil
	}
	links, err := filepath.Glob(filepath.Join(s.containers, "*", addedPrefix+"*"))
	if err != nil {
		return fmt.Errorf("find what was added to containers: %w", err)
	}
	for _, link := range links {
		id, chain := filepath.Base(filepath.Dir(link)), strings.TrimPrefix(filepath.Base(link), addedPrefix)
		if on := digest.NewDigestFromEncoded(digest.SHA256, chain); checkChain(on) == nil {
			s.added[id] = append(s.added[id], on)
		}
	}
	return nil
}
