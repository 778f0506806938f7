package devicemapper

import (
	"strings"
	"testing"
)

func TestOptions(t *testing.T) {
	o, err := parseOptions([]string{
		"dm.basesize=20G", "DM.FS=xfs", "dm.blocksize=128K", "dm.mkfsarg=-i size=512", "dm.mkfsarg=-q", "dm.mountopt=noatime,nodiscard", "dm.min_free_space=5%",
		"dm.use_deferred_removal=true", "dm.use_deferred_deletion=1", "dm.blkdiscard=false", "dm.xfs_nospace_max_retries=3", "dm.loopdatasize=1T", "dm.loopmetadatasize=4G",
	})
	if err != nil {
		t.Fatal(err)
	}
	if o.baseSize != 20<<30 || o.fs != "xfs" || o.blockSize != 128<<10 || len(o.mkfsArgs) != 2 || len(o.mounts.words) != 1 || o.mounts.attr == 0 || o.least() != 5 ||
		o.discards() || o.xfsRetries != "3" || o.loopData != 1<<40 || o.loopMetadata != 4<<30 || !o.loops() {
		t.Errorf("%+v", o)
	}
	o, err = parseOptions([]string{"dm.thinpooldev=vg-pool"})
	if err != nil || o.poolDevice != "/dev/mapper/vg-pool" || o.discards() || o.loops() || o.least() != 10 {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestWrongOptions(t *testing.T) {
	for option, want := range map[string]string{
		"dm":                             "Unable to parse key/value option: dm",
		"dm.foo=1":                       "devmapper: Unknown option dm.foo",
		"dm.basesize=much":               "dm.basesize: invalid size: 'much'",
		"dm.basesize=0":                  "dm.basesize: invalid size: '0': it must be more than 0",
		"dm.fs=btrfs":                    "dm.fs: unsupported filesystem btrfs: want ext4 or xfs",
		"dm.blocksize=100K":              "dm.blocksize: 100K is no multiple of 64K up to 1G",
		"dm.min_free_space=10":           `dm.min_free_space: "10" is no share of the pool: want 0% to 99%`,
		"dm.min_free_space=100%":         `dm.min_free_space: "100%" is no share of the pool: want 0% to 99%`,
		"dm.use_deferred_removal=false":  "dm.use_deferred_removal cannot be false: devices go with their last mount, whether or not the engine runs then",
		"dm.use_deferred_deletion=no":    `dm.use_deferred_deletion: "no" is neither true nor false`,
		"dm.directlvm_device=/dev/sdb":   "dm.directlvm_device cannot be set: LVM is not called: give a pool that LVM has made as dm.thinpooldev, or two devices as dm.datadev and dm.metadatadev",
		"dm.thinp_percent=95":            "dm.thinp_percent cannot be set: LVM is not called: the pool is as large as its devices",
		"dm.libdm_log_level=3":           "dm.libdm_log_level cannot be set: libdevmapper is not used",
		"dm.datadev=/dev/sdb":            "dm.datadev and dm.metadatadev go together: give both devices, or none",
		"dm.mountopt=noatime,ro":         "dm.mountopt: a container cannot be on what is read-only: leave ro out",
		"dm.xfs_nospace_max_retries=all": `dm.xfs_nospace_max_retries: "all" is no number of tries`,
	} {
		if _, err := parseOptions([]string{option}); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", option, err, want)
		}
	}
	for options, want := range map[string]string{
		"dm.thinpooldev=p dm.datadev=/d dm.metadatadev=/m":   "dm.thinpooldev is a whole pool",
		"dm.loopdatasize=1G dm.datadev=/d dm.metadatadev=/m": "are for a pool on loop files",
		"dm.thinpooldev=p dm.blocksize=64K":                  "dm.blocksize is that of the pool dm.thinpooldev already",
		"dm.fs=ext4 dm.xfs_nospace_max_retries=0":            "is for dm.fs=xfs",
	} {
		if _, err := parseOptions(strings.Fields(options)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", options, err, want)
		}
	}
}
