package content

import (
	"os"
	"syscall"

	"github.com/opencontainers/go-digest"
)

// statBlock is the unit of st_blocks.
const statBlock = 512

// Stored returns the blobs that are stored with the space that each takes, as
// du(1) counts it.
func (s *Store) Stored() (map[digest.Digest]int64, error) {
	return sizes(s.blobs())
}

// PartialDisk is the space that beginnings of blobs take.
func (s *Store) PartialDisk() (n int64, err error) {
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
			all[d] = info.Sys().(*syscall.Stat_t).Blocks * statBlock
		}
	}
	return all, nil
}
