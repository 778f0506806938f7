package volume

import (
	"context"
	"sync"

	"github.com/tare-engine/tare/internal/linux/disk"
)

// measuring lets those who ask for sizes at the same time share one walk.
type measuring struct {
	mu    sync.Mutex
	walks map[string]*walk // by name of the volume
}

type walk struct {
	done chan struct{} // closed when the rest is settled
	size int64
	err  error
}

// Unknown is the size of a volume that cannot be told.
const Unknown = -1

// Size is the sizes of the files of a volume added up, in bytes, as Docker does it, a
// file with several names once; of a volume with a limit it is what its disk takes. It
// is Unknown of one whose files are not in the data root, or are gone. What has been
// counted is never used again: it would not be true for long.
func (s *Service) Size(ctx context.Context, v *View) (int64, error) {
	d, err := s.driver(v.Driver)
	if err != nil {
		return Unknown, nil
	}
	if z, ok := d.(Sizer); ok {
		if size, known := z.Size(s.dir(v.Name), v.Options); known {
			return size, nil
		}
	}
	if d.Mounts(v.Options) {
		return Unknown, nil
	}
	m := &s.measuring
	m.mu.Lock()
	w := m.walks[v.Name]
	if w == nil {
		w = &walk{done: make(chan struct{})}
		if m.walks == nil {
			m.walks = map[string]*walk{}
		}
		m.walks[v.Name] = w
		go func() {
			w.size, w.err = disk.TreeSize(v.Mountpoint)
			m.mu.Lock()
			delete(m.walks, v.Name)
			m.mu.Unlock()
			close(w.done)
		}()
	}
	m.mu.Unlock()
	select {
	case <-w.done:
	case <-ctx.Done():
		return Unknown, ctx.Err()
	}
	if w.err != nil {
		return Unknown, nil
	}
	return w.size, nil
}
