package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/docker/go-units"

	"github.com/tare-engine/tare/internal/linux/disk"
)

// explain adds to an error that is about a full disk which file system that
// is, how full, and what helps. Others it returns as they are.
func (s *Server) explain(err error) error {
	if !disk.IsFull(err) {
		return err
	}
	path := pathOf(err)
	if path == "" {
		path = s.dataRoot
	}
	u, uerr := disk.Of(path)
	if path == "" || uerr != nil {
		return err
	}
	if disk.IsQuota(err) {
		return fmt.Errorf("%w (a disk quota on the file system mounted on %s is used up: remove what is not needed, for example with \"system prune\", or raise the quota)", err, u.Mount)
	}
	inodes := ""
	if u.Inodes > 0 {
		inodes = fmt.Sprintf(" and %d of %d inodes", u.FreeInodes, u.Inodes)
	}
	return fmt.Errorf("%w (the file system mounted on %s has %s of %s%s free: remove what is not needed, for example with \"system prune\", or enlarge it)",
		err, u.Mount, units.HumanSize(float64(u.Free)), units.HumanSize(float64(u.Bytes)), inodes)
}

// pathOf finds the path in err's chain that is of the host.
func pathOf(err error) string {
	p := ""
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		p = e.Path
	} else if e, ok := errors.AsType[*os.LinkError](err); ok {
		p = e.New
	}
	if !filepath.IsAbs(p) {
		return ""
	}
	return p
}
