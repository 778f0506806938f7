package devicemapper

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/mount"
)

// options are what dm.* says; zero values are those that nobody gave.
type options struct {
	baseSize  int64 // bytes of a root
	fs        string
	mkfsArgs  []string
	mounts    mountOptions
	blockSize int64 // bytes

	loopData, loopMetadata     int64  // bytes of the files
	data, metadata, poolDevice string // devices to use instead

	minFree    int // per cent; -1: not given
	discard    *bool
	xfsRetries string
}

// Defaults, those of Docker's driver but for the file system: it took xfs where
// there was mkfs.xfs.
const (
	defaultBaseSize     = 10 << 30
	defaultFS           = "ext4"
	defaultBlockSize    = 64 << 10
	defaultLoopData     = 100 << 30
	defaultLoopMetadata = 2 << 30
	defaultMinFree      = 10
)

// refused are options of Docker's driver that this one does not have, and why.
var refused = map[string]string{
	"dm.directlvm_device":           "LVM is not called: give a pool that LVM has made as dm.thinpooldev, or two devices as dm.datadev and dm.metadatadev",
	"dm.directlvm_device_force":     "LVM is not called",
	"dm.thinp_percent":              "LVM is not called: the pool is as large as its devices",
	"dm.thinp_metapercent":          "LVM is not called: the pool is as large as its devices",
	"dm.thinp_autoextend_percent":   "LVM is not called: enlarge the pool's devices, or dm.loopdatasize, and start the engine again",
	"dm.thinp_autoextend_threshold": "LVM is not called: enlarge the pool's devices, or dm.loopdatasize, and start the engine again",
	"dm.override_udev_sync_check":   "nothing waits for udev here, so there is nothing to override",
	"dm.libdm_log_level":            "libdevmapper is not used",
}

// always are options that can only be true here.
var always = map[string]string{
	"dm.use_deferred_removal":  "devices go with their last mount, whether or not the engine runs then",
	"dm.use_deferred_deletion": "what is removed while something has it mounted is deleted after that",
}

func parseOptions(list []string) (options, error) {
	o := options{minFree: -1}
	for _, option := range list {
		key, value, ok := layer.KeyValue(option)
		if !ok {
			return o, layer.NotKeyValue(option)
		}
		if err := o.set(key, value); err != nil {
			return o, err
		}
	}
	return o, o.check()
}

func (o *options) set(key, value string) (err error) {
	switch key {
	case "dm.basesize":
		o.baseSize, err = layer.ParseSize(value)
	case "dm.loopdatasize":
		o.loopData, err = layer.ParseSize(value)
	case "dm.loopmetadatasize":
		o.loopMetadata, err = layer.ParseSize(value)
	case "dm.fs":
		if o.fs = value; value != "ext4" && value != "xfs" {
			err = fmt.Errorf("unsupported filesystem %s: want ext4 or xfs", value)
		}
	case "dm.mkfsarg":
		o.mkfsArgs = append(o.mkfsArgs, value)
	case "dm.mountopt":
		o.mounts, err = parseMountOptions(value)
	case "dm.blocksize":
		o.blockSize, err = parseBlockSize(value)
	case "dm.datadev":
		o.data = value
	case "dm.metadatadev":
		o.metadata = value
	case "dm.thinpooldev":
		if o.poolDevice = value; !strings.Contains(value, "/") {
			o.poolDevice = "/dev/mapper/" + value
		}
	case "dm.min_free_space":
		o.minFree, err = parsePercent(value)
	case "dm.blkdiscard":
		var is bool
		is, err = parseBool(value)
		o.discard = &is
	case "dm.xfs_nospace_max_retries":
		if _, bad := strconv.ParseUint(value, 10, 31); bad != nil {
			err = fmt.Errorf("%q is no number of tries", value)
		}
		o.xfsRetries = value
	default:
		return o.setOther(key, value)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// setOther has the options that cannot be set.
func (o *options) setOther(key, value string) error {
	if why, ok := refused[key]; ok {
		return fmt.Errorf("%s cannot be set: %s", key, why)
	}
	why, ok := always[key]
	if !ok {
		return fmt.Errorf("devmapper: Unknown option %s", key)
	}
	is, err := parseBool(value)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if !is {
		return fmt.Errorf("%s cannot be false: %s", key, why)
	}
	return nil
}

// check knows what does not go together.
func (o *options) check() error {
	switch {
	case (o.data == "") != (o.metadata == ""):
		return errors.New("dm.datadev and dm.metadatadev go together: give both devices, or none")
	case o.poolDevice != "" && o.data != "":
		return errors.New("dm.thinpooldev is a whole pool: leave dm.datadev and dm.metadatadev out")
	case o.loops() && o.metadata == "":
	case o.loopData != 0 || o.loopMetadata != 0:
		return errors.New("dm.loopdatasize and dm.loopmetadatasize are for a pool on loop files, and devices are given")
	case o.poolDevice != "" && o.blockSize != 0:
		return errors.New("dm.blocksize is that of the pool dm.thinpooldev already: leave it out")
	}
	if o.xfsRetries != "" && o.fs == "ext4" {
		return errors.New("dm.xfs_nospace_max_retries is for dm.fs=xfs")
	}
	return nil
}

// loops reports whether the pool lies on loop files.
func (o *options) loops() bool { return o.poolDevice == "" && o.data == "" }

// least is the share of a pool that has to be free for something new.
func (o *options) least() int {
	if o.minFree < 0 {
		return defaultMinFree
	}
	return o.minFree
}

// discards reports whether the blocks of what is deleted are given back to what is
// below the pool.
func (o *options) discards() bool {
	if o.discard == nil {
		return o.loops()
	}
	return *o.discard
}

func parseBool(s string) (bool, error) {
	is, err := strconv.ParseBool(s)
	if err != nil {
		return false, fmt.Errorf("%q is neither true nor false", s)
	}
	return is, nil
}

// Sizes of a pool's blocks.
const (
	minBlock = 64 << 10
	maxBlock = 1 << 30
)

func parseBlockSize(s string) (int64, error) {
	n, err := layer.ParseSize(s)
	if err == nil && (n < minBlock || n > maxBlock || n%minBlock != 0) {
		err = fmt.Errorf("%s is no multiple of 64K up to 1G", s)
	}
	return n, err
}

func parsePercent(s string) (int, error) {
	n, err := strconv.Atoi(strings.TrimSuffix(s, "%"))
	if err != nil || n < 0 || n >= 100 || !strings.HasSuffix(s, "%") {
		return 0, fmt.Errorf("%q is no share of the pool: want 0%% to 99%%", s)
	}
	return n, nil
}

// mountOptions are those of dm.mountopt.
type mountOptions struct {
	attr  mount.Attr
	words []string // of the file system
}

// attributes are options that are of a mount, not of its file system.
var attributes = map[string]mount.Attr{
	"noatime": mount.NoAtime, "strictatime": mount.StrictAtime, "relatime": 0, "nodiratime": mount.NoDirAtime,
	"nodev": mount.NoDev, "nosuid": mount.NoSuid, "noexec": mount.NoExec,
}

func parseMountOptions(s string) (m mountOptions, err error) {
	for word := range strings.SplitSeq(s, ",") {
		attr, of := attributes[word]
		switch {
		case word == "" || word == "rw" || word == "defaults":
		case word == "ro":
			return m, errors.New("a container cannot be on what is read-only: leave ro out")
		case of:
			m.attr |= attr
		default:
			m.words = append(m.words, word)
		}
	}
	return m, nil
}

// human is a size as docker info writes it.
func human(n int64) string { return units.HumanSize(float64(n)) }
