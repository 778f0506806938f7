package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// uses remembers when images were used last. Nobody waits for a disk: it is
// written a while after a change, to a file that may lose the last minute in a
// crash, and all of it in a power cut; the times at which names were set do for
// what is missing then.
//
//	DATAROOT/images.used   {"sha256:…": "2026-…"}
type uses struct {
	path string

	mu      sync.Mutex
	at      map[ID]time.Time
	pending *time.Timer // nil: nothing is to be written

	writeMu sync.Mutex
}

// useDelay is how long a use waits to be written.
const useDelay = time.Minute

func openUses(path string) *uses {
	u := &uses{path: path, at: map[ID]time.Time{}}
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &u.at)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		slog.Warn("when images were used last is not known", "file", path, "error", err)
		u.at = map[ID]time.Time{}
	}
	return u
}

func (u *uses) touch(id ID, now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.at[id] = now
	if u.pending == nil {
		u.pending = time.AfterFunc(useDelay, func() {
			if err := u.write(); err != nil {
				slog.Warn("write when images were used last", "error", err)
			}
		})
	}
}

func (u *uses) of(id ID) time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.at[id]
}

func (u *uses) forget(id ID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.at, id)
}

// write writes what has changed.
func (u *uses) write() error {
	u.writeMu.Lock()
	defer u.writeMu.Unlock()
	u.mu.Lock()
	if u.pending == nil {
		u.mu.Unlock()
		return nil
	}
	u.pending.Stop()
	u.pending = nil
	b, err := json.Marshal(u.at)
	u.mu.Unlock()
	if err != nil {
		return err
	}
	next := u.path + ".new"
	if err := os.WriteFile(next, append(b, '\n'), 0600); err != nil {
		return err
	}
	return os.Rename(next, u.path)
}

func usesFile(root string) string { return filepath.Join(root, "images.used") }

// Touch notes that an image is used now. It costs nothing that is felt.
func (s *Service) Touch(id ID) { s.uses.touch(id, time.Now()) }

// Pin keeps an image from being pruned or collected, and lets only force
// remove it; with on false it takes that back. All that a reference has are
// pinned, for every platform. The result is the ID of the image it stands for.
func (s *Service) Pin(ctx context.Context, ref string, on bool) (ID, error) {
	end, err := s.begin(ctx)
	if err != nil {
		return "", err
	}
	defer end()
	f, err := s.db.view.Load().find(ref)
	if err != nil {
		return "", err
	}
	err = s.db.update(ctx, func(tx *transaction) error {
		for _, id := range f.all() {
			if err := tx.pin(id, on); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("pin image %s: %w", f.id, err)
	}
	return f.id, nil
}

// lastUsed is when an image was used last: by a container, by what brought it,
// or by being named.
func (s *Service) lastUsed(v *view, id ID) time.Time {
	last := s.uses.of(id)
	for _, n := range v.byID[id] {
		if at := v.names[n].tagged; at.After(last) {
			last = at
		}
	}
	return last
}

// checkPin refuses a removal that takes a pinned image away.
func (r *removal) checkPin() error {
	switch {
	case !r.last || !r.s.db.view.Load().pins[r.id] || r.o.Force && !r.o.KeepPinned:
		return nil
	case r.o.KeepPinned:
		return conflict(r.id, "cannot be forced", "image is pinned")
	}
	return conflict(r.id, "must be forced", "image is pinned")
}
