package overlay

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/disk"
)

// set reads options KEY=VALUE, which begin with "overlay." or as dockerd's with
// "overlay2.":
//
//	overlay.size=10G         limit of containers that name none (project quota)
//	overlay.metacopy=on      a changed owner or mode copies no data up
//	overlay.override_kernel_check=true   dockerd's; it had no meaning any more
func (d *Driver) set(options []string) error {
	for _, o := range options {
		key, value, ok := layer.KeyValue(o)
		if !ok {
			return layer.NotKeyValue(o)
		}
		name, short := strings.CutPrefix(key, "overlay.")
		if !short {
			name, short = strings.CutPrefix(key, "overlay2.")
		}
		if !short {
			name = ""
		}
		if err := d.setOne(key, name, value); err != nil {
			return err
		}
	}
	return nil
}

func (d *Driver) setOne(key, name, value string) (err error) {
	switch name {
	case "size":
		if d.size, err = layer.ParseSize(value); err != nil {
			return err
		}
		if !d.quota {
			return fmt.Errorf("Storage option %s not supported. Filesystem does not support Project Quota: Filesystem does not support, or has not enabled quotas", key) //lint:ignore ST1005 dockerd's text
		}
	case "metacopy":
		d.metacopy, err = onOff(value)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	case "override_kernel_check":
		if _, err := strconv.ParseBool(value); err != nil {
			return err
		}
	default:
		return errors.New("overlay2: unknown option " + key)
	}
	return nil
}

// onOff reads what overlayfs calls a bool, or strconv.
func onOff(s string) (bool, error) {
	switch s {
	case "on":
		return true, nil
	case "off":
		return false, nil
	}
	b, err := strconv.ParseBool(s)
	if err != nil {
		return false, fmt.Errorf("%q is neither on nor off", s)
	}
	return b, nil
}

// errNoQuota has dockerd's text.
const errNoQuota = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"

// Limit reads size.
func (d *Driver) Limit(options map[string]string) (size int64, err error) {
	if len(options) > 0 && !d.quota {
		return 0, errdefs.New(errdefs.InvalidArgument, errNoQuota)
	}
	size = d.size
	for key, value := range options {
		if !strings.EqualFold(key, "size") {
			return 0, errdefs.New(errdefs.InvalidArgument, "Unknown option %s", key)
		}
		if size, err = layer.ParseSize(value); err != nil {
			return 0, err
		}
	}
	return size, nil
}

// Status is what Docker's driver says.
func (d *Driver) Status() [][2]string {
	return [][2]string{
		{"Backing Filesystem", disk.Kind(d.root)},
		{"Supports d_type", "true"}, // overlayfs refuses an upper directory without
		{"Using metacopy", strconv.FormatBool(d.metacopy)},
		{"Native Overlay Diff", strconv.FormatBool(!d.metacopy)},
		{"userxattr", "false"},
	}
}
