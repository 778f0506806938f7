package volume

import (
	"context"
	"errors"
	"os"

	"github.com/tare-engine/tare/internal/ident"
)

// borrow makes the files of a volume appear and opens their directory. It is open, and the
// volume in use, until the function that is returned is called. what begins the name under
// which others see the user.
func (s *Service) borrow(ctx context.Context, name, what string) (dir *os.File, giveBack func() error, err error) {
	user := what + ident.Short(ident.New())
	if err := s.adopt(ctx, name); err != nil {
		return nil, nil, err
	}
	if _, err := s.Acquire(name, user); err != nil {
		return nil, nil, err
	}
	end := func() error {
		err := s.endLook(name, user)
		s.Release(name, user)
		return err
	}
	at, err := s.look(ctx, name, user)
	if err != nil {
		s.Release(name, user)
		return nil, nil, err
	}
	dir, err = at.Open()
	if err = errors.Join(err, at.Close()); err != nil {
		dir.Close() // also of nil
		return nil, nil, errors.Join(err, end())
	}
	return dir, func() error { return errors.Join(dir.Close(), end()) }, nil
}

// look makes the files of a volume appear for us, and says where.
func (s *Service) look(ctx context.Context, name, user string) (*Place, error) {
	e, err := s.hold(name)
	if err != nil {
		return nil, err
	}
	defer e.mu.Unlock()
	return s.mount(ctx, e, user)
}

// endLook takes look back.
func (s *Service) endLook(name, user string) error {
	e, err := s.hold(name)
	if err != nil {
		return nil
	}
	defer e.mu.Unlock()
	return s.unmount(e, user)
}
