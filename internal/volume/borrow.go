package volume

import (
	"context"

	"github.com/tare-engine/tare/internal/ident"
)

// borrow makes the files of a volume appear, which is in use until the function that
// it returns is called. what begins the name under which others see the user.
func (s *Service) borrow(ctx context.Context, name, what string) (_ *View, giveBack func() error, err error) {
	user := what + ident.Short(ident.New())
	if err := s.adopt(ctx, name); err != nil {
		return nil, nil, err
	}
	if _, err := s.Acquire(name, user); err != nil {
		return nil, nil, err
	}
	giveBack = func() error {
		err := s.endLook(name, user)
		s.Release(name, user)
		return err
	}
	v, err := s.look(ctx, name, user)
	if err != nil {
		s.Release(name, user)
		return nil, nil, err
	}
	return v, giveBack, nil
}

// look makes the files of a volume appear for us, and says where.
func (s *Service) look(ctx context.Context, name, user string) (*View, error) {
	e, err := s.hold(name)
	if err != nil {
		return nil, err
	}
	defer e.mu.Unlock()
	if err := s.mount(ctx, e, user); err != nil {
		return nil, err
	}
	return e.view.Load(), nil
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
