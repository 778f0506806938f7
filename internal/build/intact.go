package build

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tare-engine/tare/internal/dataroot/bolt"
	"github.com/tare-engine/tare/internal/linux/host"
	"github.com/tare-engine/tare/internal/linux/syncfs"
)

// Nobody waits for the disk when the cache changes. Whether all of it is there can be
// told by the boot during which it was used last: what a killed engine has written the
// kernel has, what a machine has that lost its power nobody knows.

// usedMark is the file of a cache in use: it names the boot.
const usedMark = "used"

var errNotWritten = errors.New("the machine has gone down while the cache was in use: it may not have been written")

// intact reports, as an error, why a cache is not to be used. bbolt does not look: it
// takes the pages of a damaged database for what they should be, and ends the program
// with a fault.
func intact(root string) error {
	boot, err := host.BootID()
	if err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(root, usedMark))
	if err == nil && strings.TrimSpace(string(b)) != boot {
		return errNotWritten
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	list, err := filepath.Glob(filepath.Join(root, "*.db"))
	if err != nil {
		return err
	}
	for _, path := range list {
		if err := readable(path); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
	}
	return nil
}

// readable reads a database from beginning to end.
func readable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return bolt.Read(f, walk)
}

func walk(b *bolt.Bucket) error {
	return b.Each(func(_, _ []byte, sub *bolt.Bucket) error {
		if sub == nil {
			return nil
		}
		return walk(sub)
	})
}

// use notes, on disk, that a cache is in use.
func use(root string) error {
	boot, err := host.BootID()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(root, usedMark), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(boot)
	return errors.Join(err, f.Sync(), f.Close(), syncfs.Dir(root))
}

// disuse has a cache, which is closed, written.
func disuse(root string) error {
	if err := syncfs.All(root); err != nil {
		return err
	}
	return os.Remove(filepath.Join(root, usedMark))
}
