package layer

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/linux/disk"
)

// allocated is the space that a tree takes, as du(1) counts it.
func allocated(dir string) (n int64, err error) {
	err = eachFile(context.Background(), dir, func(info fs.FileInfo) { n += disk.Taken(info) })
	return n, err
}

// eachFile calls f for everything in a tree; files with several names count
// once. What goes meanwhile does not count.
func eachFile(ctx context.Context, dir string, f func(fs.FileInfo)) error {
	linked := links{}
	return filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if !linked.seen(info) {
			f(info)
		}
		return nil
	})
}

// links are the files with several names that were met.
type links map[struct{ dev, ino uint64 }]struct{}

// seen reports whether a file was met by another name.
func (l links) seen(info fs.FileInfo) bool {
	st := info.Sys().(*syscall.Stat_t)
	if st.Nlink < 2 || info.IsDir() {
		return false
	}
	at := struct{ dev, ino uint64 }{st.Dev, st.Ino} // subvolumes of btrfs are devices
	_, seen := l[at]
	l[at] = struct{}{}
	return seen
}

// Disk is the space that the topmost layer of a chain takes, with its record
// and its mount points, without walking it: it was counted when it was unpacked.
// Of a layer that an older version unpacked it is counted when it is first
// asked for.
func (s *Service) Disk(id ChainID) (int64, error) {
	c, err := s.chainOf(id)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	tree, init := c.record.Disk, c.initDisk
	s.mu.Unlock()
	dir := s.dir(id)
	if tree == 0 {
		if tree, err = allocated(filepath.Join(dir, "diff")); err != nil {
			return 0, err
		}
	}
	if init == 0 {
		if init, err = allocated(filepath.Join(dir, "init")); err != nil { // a dozen entries
			return 0, err
		}
	}
	s.mu.Lock()
	c.record.Disk, c.initDisk = tree, init
	s.mu.Unlock()
	return tree + init + Blocks(dir) + Blocks(filepath.Join(dir, recordFile)), nil
}

// Blocks is the space that one file or directory takes by itself; 0 if it is not
// there.
func Blocks(p string) int64 {
	info, err := os.Lstat(p)
	if err != nil {
		return 0
	}
	return disk.Taken(info)
}

// Stored returns the chains whose topmost layer is stored, whoever needs it,
// each with its Disk.
func (s *Service) Stored(ctx context.Context) (map[ChainID]int64, error) {
	entries, err := os.ReadDir(s.layers)
	if err != nil {
		return nil, err
	}
	all := map[ChainID]int64{}
	for _, e := range entries {
		id := digest.NewDigestFromEncoded(digest.SHA256, e.Name())
		if checkChain(id) != nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if n, err := s.Disk(id); err == nil { // one that is damaged, or goes now, does not count
			all[id] = n
		}
	}
	return all, nil
}

// Rest is the space that the directories above the layers take.
func (s *Service) Rest() int64 { return Blocks(s.layers) + Blocks(filepath.Dir(s.layers)) }

// Disk is what the layers of the batch will take when they are committed, with
// the mount points of so many chains.
func (b *Batch) Disk(tops int) int64 {
	const (
		around    = 2 * 4096  // the layer's directory and its record
		mountDirs = 10 * 4096 // of the mount points, at most
	)
	b.mu.Lock()
	defer b.mu.Unlock()
	n := int64(tops) * mountDirs
	for _, st := range b.staged {
		n += st.record.Disk + around
	}
	return n
}
