package volume

import (
	"context"
	"time"

	"github.com/tare-engine/tare/internal/linux/disk"
)

// Unknown is the size of a volume that cannot be told.
const Unknown = -1

// Size is what the files of a volume take, in bytes, and the time of which that is. Where
// the file system counts it, or a volume with a limit has a disk, it is the space on disk,
// as of now; else the sizes of the files added up, as Docker does it, a file with several
// names once, which for a volume that it takes long to count is not done each time
// (package tally). It is Unknown of one whose files are not in the data root, or are gone.
func (s *Service) Size(ctx context.Context, v *View) (int64, time.Time, error) {
	now := time.Now()
	d, err := s.driver(v.Driver)
	if err != nil {
		return Unknown, now, nil
	}
	if z, ok := d.(Sizer); ok {
		if size, known := z.Size(s.dir(v.Name), v.Options); known {
			return size, now, nil
		}
	}
	if d.Mounts(s.dir(v.Name), v.Options) {
		return Unknown, now, nil
	}
	size, at, err := s.sizes.Get(ctx, v.Name, func() (int64, error) { return disk.TreeSize(v.Mountpoint) })
	if ctx.Err() != nil {
		return Unknown, now, ctx.Err()
	}
	if err != nil {
		return Unknown, now, nil
	}
	return size, at, nil
}

// SizeNow is Size, counted anew.
func (s *Service) SizeNow(ctx context.Context, v *View) (int64, error) {
	s.sizes.Forget(v.Name)
	size, _, err := s.Size(ctx, v)
	return size, err
}
