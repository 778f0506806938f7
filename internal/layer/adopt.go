package layer

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/overlay"
	"github.com/tare-engine/tare/internal/linux/syncfs"
	"github.com/tare-engine/tare/internal/linux/treecopy"
)

// CanAdopt reports why Adopt is not possible here; nil: it is.
func (s *Service) CanAdopt() error {
	if s.driver.Form() != Stacked {
		return errdefs.New(errdefs.NotImplemented, "the storage driver %s does not keep what a container has changed as overlayfs does: start the engine with --storage-driver overlay", s.driver.Name())
	}
	return nil
}

// Adopt fills the read-write directory of a container, which Prepare has just made,
// with a copy of an upper directory of overlayfs, to disk.
func (s *Service) Adopt(ctx context.Context, id string, upper *os.File) error {
	if err := s.CanAdopt(); err != nil {
		return err
	}
	rw, err := os.Open(filepath.Join(s.containers, id, "rw"))
	if err != nil {
		return err
	}
	defer rw.Close()
	if err := treecopy.CopyFiles(ctx, upper, rw, treecopy.Options{}); err != nil {
		return err
	}
	if _, err := upper.Seek(0, 0); err != nil { // it has been read
		return err
	}
	err = overlay.CopyMarks(upper, rw)
	if errors.Is(err, overlay.ErrPartial) {
		return errdefs.As(errdefs.InvalidArgument, err)
	}
	if err != nil {
		return err
	}
	failpoint.Hit("import-engine/layer-copied")
	return syncfs.Of(rw)
}
