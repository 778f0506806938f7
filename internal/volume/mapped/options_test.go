package mapped

import (
	"strings"
	"testing"

	"github.com/tare-engine/tare/internal/errdefs"
)

func optionsOf(text string) map[string]string {
	o := map[string]string{}
	for _, w := range strings.Fields(text) {
		k, v, _ := strings.Cut(w, "=")
		o[k] = v
	}
	return o
}

func TestOptions(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "target linear needs device= or, for files in the data root, size=",
		"target=thin":                          `invalid target "thin"`,
		"size=16m colour=red":                  `invalid option: "colour": target linear has none`,
		"size=16m chunk=4k":                    `invalid option: "chunk": target linear has none`,
		"size=16m keyfile=/key":                `invalid option: "keyfile": target linear has none`,
		"size=x":                               `invalid size: "x"`,
		"size=-1":                              `invalid size: "-1"`,
		"size=0":                               `invalid size: "0"`,
		"size=99999999p":                       `invalid size: "99999999p"`,
		"size=1m":                              "size 1MiB is too small for ext4: the least is 8MiB",
		"size=16m fs=xfs":                      "size 16MiB is too small for xfs: the least is 300MiB",
		"size=16m fs=vfat":                     `invalid fs: "vfat": ext4 and xfs can be made`,
		"device=sdb":                           `invalid device: "sdb" is no absolute path`,
		"device=/dev/../etc":                   `invalid device: "/dev/../etc" is no absolute path`,
		"device=/dev/a,":                       `invalid device: "" is no absolute path`,
		"device=/dev/a,/dev/a":                 "device /dev/a is named twice",
		"target=mirror device=/dev/a":          "target mirror takes 2 to 8 devices, not 1",
		"target=stripe legs=1 size=16m":        "target stripe takes 2 to 32 devices, not 1",
		"target=stripe legs=x size=16m":        `invalid legs: "x" is no number`,
		"target=stripe legs=-3 size=16m":       "target stripe takes 2 to 32 devices, not -3",
		"target=stripe chunk=5k size=16m":      `invalid chunk: "5k" is no power of two from 4k to 1m`,
		"target=raid1 legs=2 device=/a,/b":     "legs= is a number of files: it does not go with device=",
		"target=multipath size=16m":            "target multipath needs device=, all ways to one disk",
		"target=snapshot size=16m":             "target snapshot needs device=, the block device that it begins as a copy of",
		"target=crypt size=16m keyfile=secret": `invalid keyfile: "secret" is no absolute path`,
		"size=16m force=perhaps":               `invalid force: "perhaps" is neither`,
	} {
		_, err := parse(optionsOf(text))
		if err == nil || !strings.Contains(err.Error(), want) || !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	s, err := parse(optionsOf("target=stripe size=100000k chunk=16k device=/dev/a,/dev/b fs=xfs force=1"))
	if err == nil || !strings.Contains(err.Error(), "xfs") {
		t.Error(err)
	}
	s, err = parse(optionsOf("target=stripe size=400m chunk=16k device=/dev/a,/dev/b fs=xfs force=1"))
	if err != nil || s.target != stripe || s.size != 400<<20/sectorSize || s.chunk != 32 || len(s.devices) != 2 || s.fs != "xfs" || !s.force {
		t.Errorf("%+v, %v", s, err)
	}
	for text, legs := range map[string]int{"size=16m": 1, "target=crypt size=16m": 1, "target=mirror size=16m": 2, "target=raid1 legs=3 size=16m": 3} {
		if s, err := parse(optionsOf(text)); err != nil || s.legs != legs {
			t.Errorf("%s: %+v, %v", text, s, err)
		}
	}
}

// What is taken are absolute paths, and numbers within bounds.
func FuzzOptions(f *testing.F) {
	f.Add("linear", "device", "/dev/a,/dev/b", "size", "1g")
	f.Add("crypt", "keyfile", "/key", "size", "16m")
	f.Add("stripe", "chunk", "4k", "legs", "8")
	f.Fuzz(func(t *testing.T, target, k1, v1, k2, v2 string) {
		s, err := parse(map[string]string{"target": target, k1: v1, k2: v2})
		if err != nil {
			return
		}
		for _, d := range append(s.devices, "/"+strings.TrimPrefix(s.keyfile, "/")) {
			if d[0] != '/' || strings.ContainsAny(d, "\x00") {
				t.Errorf("%q", d)
			}
		}
		if s.size > maxSize/sectorSize || s.size%unit != 0 || len(s.devices)+s.legs < 1 || len(s.devices)+s.legs > maxLegs || s.chunk < 8 || s.chunk > 2048 {
			t.Errorf("%+v", s)
		}
	})
}
