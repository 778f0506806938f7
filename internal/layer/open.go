package layer

import (
	"context"
	"io"
	"os"

	"github.com/tare-engine/tare/internal/linux/filemeta"
	"github.com/tare-engine/tare/internal/linux/syncfs"
)

// Opener is what a driver is besides whose directories do not have the files in
// them: they say where the files are. They are renamed and removed like others.
// The root of what Prepare makes there has the metadata of the one below, or is
// root's with mode 0755.
type Opener interface {
	// Open returns the top of a directory's files. It is fs.ErrNotExist if there is
	// none. The caller closes the result, and has written to disk before what it
	// changed.
	Open(ctx context.Context, dir string, write bool) (*os.File, error)
}

// open opens the top of what a driver's directory has, to be read.
func (s *Service) open(ctx context.Context, dir string) (*os.File, error) {
	if o, ok := s.driver.(Opener); ok {
		return o.Open(ctx, dir, false)
	}
	return os.Open(dir)
}

// openNew opens what Prepare has just made, to be filled; done ends that, and says
// whether all of it came to where a later write to disk finds it.
func (s *Service) openNew(ctx context.Context, dir string) (root *os.File, done func() error, err error) {
	o, ok := s.driver.(Opener)
	if !ok {
		root, err = os.Open(dir)
		return root, func() error { return nil }, err
	}
	root, err = o.Open(ctx, dir, true)
	return root, func() error { return syncfs.Of(root) }, err
}

// setTop gives the top of what Prepare has just made its metadata, if that was not
// done.
func (s *Service) setTop(dir string, m filemeta.Meta) error {
	if s.opens() {
		return nil
	}
	return m.Set(dir)
}

// opens reports whether the driver's directories are opened by the driver.
func (s *Service) opens() bool {
	_, ok := s.driver.(Opener)
	return ok
}

// closeDriver closes a driver that holds something.
func (s *Service) closeDriver() error {
	if c, ok := s.driver.(io.Closer); ok {
		return c.Close()
	}
	return nil
}
