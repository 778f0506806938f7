package layer

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/swap"
)

// lentName is what links to lent layers are called: LENT/N/fs.
const lentName = "fs"

// Lend makes a symbolic link to the files of a chain's topmost layer, which keeps
// the chain until Return. The link is called "fs" and lies in a directory of
// Config.Lent.
func (s *Service) Lend(id ChainID, link string) error {
	return s.lend(id, link, func(target string) error { return os.Symlink(target, link) })
}

// LendInstead makes such a link where a directory is that has the same files. The
// directory becomes aside, a name beside the link that nothing has: whoever has it open
// or mounted may go on with it.
func (s *Service) LendInstead(id ChainID, link, aside string) error {
	if filepath.Dir(aside) != filepath.Dir(link) {
		return errdefs.New(errdefs.InvalidArgument, "%s is not beside %s", aside, link)
	}
	return s.lend(id, link, func(target string) error {
		if err := os.Symlink(target, aside); err != nil {
			return err
		}
		if err := swap.Paths(aside, link); err != nil {
			return errors.Join(err, os.Remove(aside))
		}
		return nil
	})
}

// lend notes a link that place makes, to the target it is given.
func (s *Service) lend(id ChainID, link string, place func(target string) error) error {
	if filepath.Base(link) != lentName || filepath.Dir(filepath.Dir(link)) != s.lentDir {
		return errdefs.New(errdefs.InvalidArgument, "layers are not lent to %s", link)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.load(id); err != nil {
		return err
	}
	target, err := filepath.Rel(filepath.Dir(link), filepath.Join(s.dir(id), "diff"))
	if err != nil {
		return err
	}
	if err := place(target); err != nil {
		return err
	}
	s.lent[link] = id
	return s.spare(id)
}

// Return removes a link that Lend made, or does nothing if it is none.
func (s *Service) Return(link string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.lent[link]; !ok {
		return nil
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	delete(s.lent, link)
	return s.dropUnneeded()
}

// findLent reads the links of an earlier run.
func (s *Service) findLent() error {
	links, err := filepath.Glob(filepath.Join(s.lentDir, "*", lentName))
	if err != nil {
		return err
	}
	for _, link := range links {
		to, err := os.Readlink(link)
		if err != nil {
			continue // the borrower's own
		}
		id := digest.NewDigestFromEncoded(digest.SHA256, filepath.Base(filepath.Dir(to)))
		if checkChain(id) == nil && filepath.Join(filepath.Dir(link), to) == filepath.Join(s.dir(id), "diff") {
			s.lent[link] = id
		}
	}
	return nil
}
