package mapped

import (
	"math/bits"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/mkfs"
)

// spec is what the options of a volume say.
type spec struct {
	target  kind
	devices []string // paths; none: files in the volume's directory
	legs    int      // files
	size    uint64   // sectors; 0: what the devices have
	fs      string
	chunk   uint64 // sectors of a stripe's chunk
	keyfile string
	force   bool // what the devices have may be lost
}

// kind is a word of the option "target".
type kind string

const (
	linear    kind = "linear"
	stripe    kind = "stripe"
	mirror    kind = "mirror"
	raid1     kind = "raid1"
	snapshot  kind = "snapshot"
	crypt     kind = "crypt"
	multipath kind = "multipath"
)

// trait is what distinguishes kinds.
type trait struct {
	kernel  []string // targets that the kernel must have
	least   int      // legs
	most    int
	options []string // beside those of all
}

func traits() map[kind]trait {
	return map[kind]trait{
		linear:    {[]string{"linear"}, 1, maxLegs, []string{"size", "fs", "force"}},
		stripe:    {[]string{"striped"}, 2, maxLegs, []string{"size", "fs", "force", "legs", "chunk"}},
		mirror:    {[]string{"mirror"}, 2, 8, []string{"size", "fs", "force", "legs"}},
		raid1:     {[]string{"raid", "linear"}, 2, 8, []string{"size", "fs", "force", "legs"}},
		snapshot:  {[]string{"snapshot"}, 1, 1, []string{"size"}},
		crypt:     {[]string{"crypt"}, 1, maxLegs, []string{"size", "fs", "force", "keyfile"}},
		multipath: {[]string{"multipath"}, 2, maxLegs, []string{"size", "fs", "force"}},
	}
}

// redundant reports whether a volume goes on without one of its legs.
func (k kind) redundant() bool { return k == mirror || k == raid1 || k == multipath }

const (
	maxLegs     = 32
	maxPath     = 4095
	sectorSize  = 512
	unit        = 1 << 20 / sectorSize // sizes are multiples of it
	defaultLegs = 2

	// minSize has room for ext4 with a journal, and for xfs that of xfsprogs.
	minSize    = 8 << 20
	minSizeXFS = 300 << 20

	minChunk, maxChunk, defaultChunk = 4 << 10, 1 << 20, 64 << 10
)

func invalid(format string, args ...any) error {
	return errdefs.New(errdefs.InvalidArgument, format, args...)
}

// parse reads options, of which nothing is trusted.
func parse(options map[string]string) (s spec, err error) {
	s = spec{target: linear, fs: "ext4", chunk: defaultChunk / sectorSize}
	if t, given := options["target"]; given {
		s.target = kind(t)
	}
	of, known := traits()[s.target]
	if !known {
		return s, invalid("invalid target %q: linear, stripe, mirror, raid1, snapshot, crypt and multipath are there", shown(string(s.target)))
	}
	for name, value := range options {
		if name != "target" && name != "device" && !slices.Contains(of.options, name) {
			return s, invalid("invalid option: %q: target %s has none of this name", shown(name), s.target)
		}
		if err := s.set(name, value); err != nil {
			return s, err
		}
	}
	return s, s.check(of)
}

// set takes one option.
func (s *spec) set(name, value string) (err error) {
	switch name {
	case "device":
		s.devices, err = parseDevices(value)
	case "size":
		s.size, err = parseSize(value)
	case "legs":
		if s.legs, err = strconv.Atoi(value); err != nil {
			err = invalid("invalid legs: %q is no number", shown(value))
		}
	case "fs":
		if s.fs = value; !slices.Contains(mkfs.Kinds(), value) {
			err = invalid("invalid fs: %q: %s can be made", shown(value), strings.Join(mkfs.Kinds(), " and "))
		}
	case "chunk":
		s.chunk, err = parseChunk(value)
	case "keyfile":
		s.keyfile, err = value, checkPath("keyfile", value)
	case "force":
		if s.force, err = strconv.ParseBool(value); err != nil {
			err = invalid("invalid force: %q is neither true nor false", shown(value))
		}
	}
	return err
}

// check compares options with each other.
func (s *spec) check(of trait) error {
	n := len(s.devices)
	switch {
	case s.target == snapshot && n == 0:
		return invalid("target snapshot needs device=, the block device that it begins as a copy of")
	case s.target == multipath && n == 0:
		return invalid("target multipath needs device=, all ways to one disk")
	case n == 0 && s.size == 0:
		return invalid("target %s needs device= or, for files in the data root, size=", s.target)
	case n > 0 && s.legs > 0:
		return invalid("legs= is a number of files: it does not go with device=")
	case n == 0:
		if s.legs == 0 {
			s.legs = max(of.least, min(of.most, defaultLegs))
			if s.target == linear || s.target == crypt {
				s.legs = 1
			}
		}
		n = s.legs
	}
	if n < of.least || n > of.most {
		return invalid("target %s takes %d to %d devices, not %d", s.target, of.least, of.most, n)
	}
	least := uint64(minSize)
	if s.fs == "xfs" {
		least = minSizeXFS
	}
	if s.size > 0 && s.size*sectorSize < least && s.target != snapshot {
		return invalid("size %s is too small for %s: the least is %s", units.BytesSize(float64(s.size*sectorSize)), s.fs, units.BytesSize(float64(least)))
	}
	return nil
}

func parseDevices(value string) ([]string, error) {
	list := strings.Split(value, ",")
	for i, path := range list {
		if err := checkPath("device", path); err != nil {
			return nil, err
		}
		if slices.Contains(list[:i], path) {
			return nil, invalid("device %s is named twice", path)
		}
	}
	return list, nil
}

func checkPath(what, path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || len(path) > maxPath || strings.ContainsRune(path, 0) {
		return invalid("invalid %s: %q is no absolute path", what, shown(path))
	}
	return nil
}

// parseSize reads a size, which is rounded up, in sectors.
func parseSize(value string) (uint64, error) {
	size, err := units.RAMInBytes(value)
	if err != nil || size <= 0 || size > maxSize {
		return 0, invalid("invalid size: %q", shown(value))
	}
	return roundUp(uint64(size) / sectorSize), nil
}

// maxSize is far beyond what a file may have.
const maxSize = 1 << 60

func roundUp(sectors uint64) uint64   { return (sectors + unit - 1) / unit * unit }
func roundDown(sectors uint64) uint64 { return sectors / unit * unit }

func parseChunk(value string) (uint64, error) {
	n, err := units.RAMInBytes(value)
	if err != nil || n < minChunk || n > maxChunk || bits.OnesCount64(uint64(n)) != 1 {
		return 0, invalid("invalid chunk: %q is no power of two from 4k to 1m", shown(value))
	}
	return uint64(n) / sectorSize, nil
}

// shown cuts a value that goes into an error text.
func shown(s string) string { return s[:min(len(s), 200)] }
