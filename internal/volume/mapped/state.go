package mapped

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/store"
)

// stateFile is in the directory of each volume of the driver, and says what its devices
// are made of. It is written before the kernel, or a disk, is told.
const stateFile = "dm.json"

const stateVersion = 1

type state struct {
	Version int
	ID      string // of the volume's devices, whatever it is called
	Target  kind
	FS      string
	Size    uint64 // sectors
	Chunk   uint64 `json:",omitempty"` // sectors of a stripe's
	Legs    []leg
	Old     []leg `json:",omitempty"` // were replaced, and still have their marks

	// Made says that there is a file system: of crypt without a key file the first key
	// makes it.
	Made bool
	// Growing says that the file system may be smaller than its device.
	Growing bool `json:",omitempty"`
	// Open says that a mirror has been written to since its legs were known to be the same.
	Open bool `json:",omitempty"`
	// Merging is the snapshot that is being copied back.
	Merging string `json:",omitempty"`

	Key *keyCheck `json:",omitempty"`
}

// leg is a part of a volume: a device, or a file in the volume's directory.
type leg struct {
	ID     string // on the device's label; of multipath all have the same
	Device string `json:",omitempty"` // the path that was given
	File   string `json:",omitempty"` // its name
	Size   uint64 // sectors for data

	// Failed says that it lacks something, as it could not be written.
	Failed bool `json:",omitempty"`
	// Fresh says that it has not got all from the others yet.
	Fresh bool `json:",omitempty"`
}

// Each leg begins with its label, and metadata of raid1; data comes after them.
const (
	metadataStart  = 1 << 20 / sectorSize
	metadataLength = 1 << 20 / sectorSize
	headerLength   = metadataStart + metadataLength
)

// name is how a leg is called in texts.
func (l leg) name() string {
	if l.Device != "" {
		return l.Device
	}
	return l.File
}

// newID is a name that nobody guesses.
func newID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

var (
	idRegexp   = regexp.MustCompile("^[0-9a-f]{16}$")
	fileRegexp = regexp.MustCompile("^leg-[0-9a-f]{16}[.]img$")
)

func (d *Driver) put(dir string, st *state) error {
	return d.cfg.Store.Put(filepath.Join(dir, stateFile), st)
}

// get reads the state of a volume. NotFound: it has none.
func get(dir string) (*state, error) {
	st := &state{}
	err := store.Get(filepath.Join(dir, stateFile), st)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errdefs.New(errdefs.NotFound, "%s has no volume on device mapper", dir)
	}
	if err == nil {
		err = st.check()
	}
	if err != nil {
		return nil, err
	}
	return st, nil
}

// check refuses what this version of the engine would misunderstand.
func (st *state) check() error {
	_, known := traits()[st.Target]
	ok := st.Version == stateVersion && known && idRegexp.MatchString(st.ID) && len(st.Legs) > 0 && st.Size > 0
	for _, l := range st.Legs {
		ok = ok && idRegexp.MatchString(l.ID) && (l.Device == "") == fileRegexp.MatchString(l.File)
	}
	if !ok {
		return errdefs.New(errdefs.Internal, "a record of version %d of a volume's devices that is not understood", st.Version)
	}
	return nil
}

// sources are the legs that have all there is, by their place.
func (st *state) sources() (places []int) {
	for i, l := range st.Legs {
		if !l.Failed && !l.Fresh {
			places = append(places, i)
		}
	}
	return places
}

// leg returns the place of the leg that is called so.
func (st *state) leg(name string) (int, error) {
	i := slices.IndexFunc(st.Legs, func(l leg) bool { return l.name() == name })
	if i < 0 {
		return 0, errdefs.New(errdefs.NotFound, "the volume has no device %s", shown(name))
	}
	return i, nil
}
