package content

import (
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/linux/disk"
)

// Stored returns the blobs that are stored with the space that each takes, as
// du(1) counts it.
func (s *Store) Stored() (map[digest.Digest]int64, error) {
	return sizes(s.blobs())
}

// Rest is the space that everything else takes but for what is being received:
// the beginnings of blobs, and the directories.
func (s *Store) Rest() (n int64, err error) {
	for _, dir := range []string{s.dir, filepath.Join(s.dir, "blobs"), s.blobs(), s.partial()} {
		info, err := os.Stat(dir)
		if err != nil {
			return 0, err
		}
		n += disk.Taken(info)
	}
	all, err := sizes(s.partial())
	for _, size := range all {
		n += size
	}
	return n, err
}

func sizes(dir string) (map[digest.Digest]int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	all := make(map[digest.Digest]int64, len(entries))
	for _, e := range entries {
		d := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
		if check(d) != nil {
			continue
		}
		if info, err := e.Info(); err == nil { // one that goes now does not count
			all[d] = disk.Taken(info)
		}
	}
	return all, nil
}
