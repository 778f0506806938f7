package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/inroot"
)

// Where the host has its time zones. The container gets a copy of one file:
// images often have none, and may replace theirs.
const (
	zoneDir   = "/usr/share/zoneinfo"
	localZone = "etc/localtime"
)

// zoneTarget is where programs look for their time zone.
const zoneTarget = "/etc/localtime"

// destNoFollow is an option of our runtime: a link at the place of the mount is
// covered itself, not what it leads to. /etc/localtime often leads to the file of
// one zone, which has to stay what it is.
const destNoFollow = "dest-nofollow"

// maxZone bounds a file of zoneDir, in bytes. The largest have 4 KB.
const maxZone = 1 << 20

// zoneMagic begins every file that describes a time zone (RFC 8536).
const zoneMagic = "TZif"

// zoneMounts are the mount that gives the container its time zone, if it asks for
// one.
func (b *specBuilder) zoneMounts() []specs.Mount {
	if b.in.Localtime == "" {
		return nil
	}
	return []specs.Mount{bindMount(b.in.Localtime, zoneTarget, "ro", "nosuid", "nodev", "noexec", destNoFollow)}
}

// ZoneFile returns what /etc/localtime of a container in that time zone holds.
// api.LocalTimeZone is that of the host, UTC if it says nothing (localtime(5)).
// A name that the host does not know is InvalidArgument.
func ZoneFile(name string) ([]byte, error) { return zoneFileIn("/", zoneDir, name) }

func zoneFileIn(host, zones, name string) ([]byte, error) {
	var b []byte
	var err error
	if name == api.LocalTimeZone {
		b, err = readZone(host, localZone)
		if errors.Is(err, fs.ErrNotExist) {
			b, err = readZone(zones, "UTC")
		}
	} else {
		b, err = readZone(zones, name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("the engine's host has none of that name in %s", zones)
	}
	if err != nil {
		return nil, errdefs.New(errdefs.InvalidArgument, "invalid time zone %q: %w", shown(name), err)
	}
	return b, nil
}

// readZone reads a file below dir. Links of the host are followed as if dir were
// the root: none of them leads out of it.
func readZone(dir, name string) ([]byte, error) {
	root, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	b, err := inroot.ReadFile(root, name, maxZone)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(b, []byte(zoneMagic)) {
		return nil, fmt.Errorf("%s/%s does not describe a time zone", dir, name)
	}
	return b, nil
}
