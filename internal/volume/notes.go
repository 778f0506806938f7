package volume

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/tare-engine/tare/internal/store"
)

// mountsDir is where it is noted in a volume's directory who has it mounted.
const mountsDir = "mounts"

// noted is what a note says.
type noted struct{ Path string }

// note writes down that a user is about to have a plugin's volume mounted, or where. It
// need not outlive the machine: then nothing is mounted.
func (s *Service) note(name, user string, n noted) error {
	dir := filepath.Join(s.dir(name), mountsDir)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return store.PutVolatile(filepath.Join(dir, user), n)
}

func (s *Service) forgetNote(name, user string) error {
	err := os.Remove(filepath.Join(s.dir(name), mountsDir, user))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// notes are those who have, or may have, a plugin's volume mounted, and where.
func (s *Service) notes(name string) map[string]string {
	dir := filepath.Join(s.dir(name), mountsDir)
	list, _ := os.ReadDir(dir)
	all := map[string]string{}
	for _, f := range list {
		path := filepath.Join(dir, f.Name())
		if ok, _ := filepath.Match(store.TempPattern, f.Name()); ok {
			os.Remove(path)
			continue
		}
		var n noted
		if err := store.Get(path, &n); err != nil {
			slog.Warn("read where a volume is mounted", "volume", name, "err", err)
		}
		all[f.Name()] = n.Path
	}
	return all
}
