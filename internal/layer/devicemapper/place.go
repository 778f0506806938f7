package devicemapper

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/store"
)

// place is what a directory of the driver's holds: the name of the device that has
// its files.
type place struct {
	Version     int    `json:"version"`
	ID          uint32 `json:"id"`
	Transaction uint64 `json:"transaction"` // the device's: an ID is used again after it
}

// placeFile is the document in a directory.
const placeFile = "device.json"

// writePlace says in a directory which device it is; volatile: not to disk.
func writePlace(s *store.Store, dir string, d device, volatile bool) error {
	p, put := place{ledgerVersion, d.ID, d.Transaction}, s.Put
	if volatile {
		put = func(path string, v any, _ ...string) error {
			b, err := json.Marshal(v)
			if err != nil {
				return err
			}
			return os.WriteFile(path, b, 0o600)
		}
	}
	err := put(filepath.Join(dir, placeFile), p)
	failpoint.Hit("thin/placed")
	return err
}

// placeOf reads what writePlace has written.
func placeOf(dir string) (p place, err error) {
	err = readRecord(filepath.Join(dir, placeFile), &p)
	return p, err
}

// placesBelow are those of a directory, the one that it is included: of a layer's,
// that has some in it, or of a container's.
func placesBelow(dir string) (list []place, err error) {
	p, err := placeOf(dir)
	if err == nil {
		return []place{p}, nil
	}
	entries, err := os.ReadDir(dir)
	if nowhere(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		p, err := placeOf(filepath.Join(dir, e.Name()))
		switch {
		case err == nil:
			list = append(list, p)
		case !nowhere(err):
			return nil, err
		}
	}
	return list, nil
}

// nowhere reports whether an error says that there is no place: nothing, no directory,
// or a document that is half there as it was not for the disk.
func nowhere(err error) bool {
	_, half := errors.AsType[*json.SyntaxError](err)
	return half || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// places are all in a data root.
func places(root string) (map[place]bool, error) {
	layers := filepath.Join(root, "layers", name)
	all := map[place]bool{}
	for _, above := range []string{layers, filepath.Join(layers, "staging"), filepath.Join(root, "containers"), filepath.Join(root, "trash")} {
		entries, err := os.ReadDir(above)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			list, err := placesBelow(filepath.Join(above, e.Name()))
			if err != nil {
				return nil, err
			}
			for _, p := range list {
				all[p] = true
			}
		}
	}
	return all, nil
}
