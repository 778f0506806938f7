// Package local is the volume driver for files of the engine's machine: in the data
// root, or of any file system that the kernel can mount.
//
//	(no option)                                a directory of the data root
//	size=10g                                   the same with a limit: see disk.go and subvolume.go
//	type=tmpfs device=tmpfs o=size=64m         what mount(8) would mount, while a container runs
//	type=none device=/srv/db o=bind            a directory of the host
//	type=nfs device=:/export o=addr=nas,rw     a directory of a server
package local

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/go-units"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/volume"
)

// Driver is the driver. The zero value is usable.
type Driver struct{}

var (
	_ volume.Driver  = Driver{}
	_ volume.Sizer   = Driver{}
	_ volume.Maker   = Driver{}
	_ volume.Deleter = Driver{}
	_ volume.Holder  = Driver{}
)

// Name is the driver's name.
func (Driver) Name() string { return "local" }

// option is one that a volume may have, with those that it needs beside it.
type option struct {
	name  string
	needs []string
}

// options are in the order of complaints.
func options() []option {
	return []option{{"device", []string{"type"}}, {"type", []string{"device"}}, {"o", []string{"device", "type"}}, {"size", nil}}
}

// Check refuses what no volume can have, in Docker's words.
func (Driver) Check(given map[string]string) error {
	known := options()
	for name, value := range given {
		if !slices.ContainsFunc(known, func(o option) bool { return o.name == name }) {
			return errdefs.New(errdefs.InvalidArgument, "invalid option: %q", name)
		}
		if strings.ContainsRune(value, 0) || len(value) > maxOption {
			return errdefs.New(errdefs.InvalidArgument, "invalid value of option %q", name)
		}
	}
	for _, o := range known {
		if _, has := given[o.name]; !has {
			continue
		}
		for _, need := range o.needs {
			if _, has := given[need]; !has {
				return errdefs.New(errdefs.InvalidArgument, "missing required option: %q", need)
			}
		}
	}
	if _, limited := given["size"]; !limited {
		return nil
	}
	if _, typed := given["type"]; typed {
		return errdefs.New(errdefs.InvalidArgument, "option \"size\" limits files in the data root: it does not go with \"type\"")
	}
	_, err := sizeOf(given)
	return err
}

// maxOption is what mount(2) takes: a page.
const maxOption = 4095

// sizeOf is the limit of a volume in bytes; 0: it has none.
func sizeOf(options map[string]string) (int64, error) {
	text, limited := options["size"]
	if !limited {
		return 0, nil
	}
	size, err := units.RAMInBytes(text)
	if err != nil {
		return 0, errdefs.New(errdefs.InvalidArgument, "invalid size: %q", text)
	}
	if size != 0 && size < minSize {
		return 0, errdefs.New(errdefs.InvalidArgument, "size %s is too small: the least is %s", text, units.BytesSize(minSize))
	}
	return size, nil
}

// Make makes the file that is the file system of a volume with a limit, unless its
// directory keeps it.
func (Driver) Make(ctx context.Context, dir string, options map[string]string) error {
	size, err := sizeOf(options)
	if err != nil || size == 0 {
		return err
	}
	kept, err := keepsLimit(filepath.Join(dir, volume.Files))
	if err != nil || kept {
		return err
	}
	return makeDisk(ctx, dir, size)
}

// Mounts reports whether the files have to be mounted.
func (Driver) Mounts(dir string, options map[string]string) bool {
	return options["type"] != "" || onDisk(dir, options)
}

// Mount mounts them.
func (Driver) Mount(ctx context.Context, dir, at string, options map[string]string) error {
	if err := mountAt(ctx, dir, at, options); err != nil {
		return fmt.Errorf("failed to mount local volume: %w", err)
	}
	return nil
}

func mountAt(ctx context.Context, dir, at string, options map[string]string) error {
	if options["type"] == "" {
		return mountDisk(dir, at)
	}
	o, err := resolveAddress(ctx, options["type"], options["o"])
	if err != nil {
		return err
	}
	return mount.Classic(options["device"], at, options["type"], o)
}

// Content is the directory of a volume, or its disk.
func (Driver) Content(dir string, options map[string]string) (name string, err error) {
	switch {
	case options["type"] != "":
		return "", nil
	case onDisk(dir, options):
		return diskFile, awaitDisk(dir)
	}
	return volume.Files, nil
}

// Unmount takes it back, at once for those that come and later for those that still look.
func (Driver) Unmount(at string) error { return mount.Detach(at) }

// resolveAddress replaces the name of a server by its address: the kernel resolves none.
func resolveAddress(ctx context.Context, fstype, options string) (string, error) {
	if fstype != "nfs" && fstype != "nfs4" && fstype != "cifs" {
		return options, nil
	}
	list := strings.Split(options, ",")
	for i, o := range list {
		name, ok := strings.CutPrefix(o, "addr=")
		if !ok || net.ParseIP(name) != nil {
			continue
		}
		found, err := net.DefaultResolver.LookupIPAddr(ctx, name)
		if err != nil {
			return "", fmt.Errorf("error resolving passed in network volume address: %w", err)
		}
		list[i] = "addr=" + found[0].String()
	}
	return strings.Join(list, ","), nil
}
