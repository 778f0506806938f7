package devicemapper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/syncfs"
)

// findBase finds the device with the empty file system, of which the first layer of
// each image is a snapshot. It is made, or replaced by a larger one.
func (d *Driver) findBase() error {
	size := d.opts.baseSize / d.pool.set.BlockSize * d.pool.set.BlockSize
	for _, dev := range d.ledger.all() {
		if dev.ID == d.pool.set.Base {
			d.base = dev
		}
	}
	switch {
	case d.base.ID == 0 && d.pool.set.Base != 0:
		return fmt.Errorf("the thin pool has no device %d, which %s names as the base", d.pool.set.Base, filepath.Join(d.pool.dir, settingFile))
	case d.base.ID == 0:
		if d.opts.baseSize == 0 {
			size = defaultBaseSize
		}
		return d.makeBase(size)
	case d.opts.baseSize != 0 && size < d.base.Size:
		return fmt.Errorf("devmapper: Base device size cannot be smaller than %s", human(d.base.Size))
	case size > d.base.Size:
		return d.growBase(size)
	}
	return nil
}

func (d *Driver) makeBase(size int64) error {
	program, err := mkfs(d.pool.set.FS)
	if err != nil {
		return err
	}
	dev, err := d.ledger.create(0, size)
	if err != nil {
		return err
	}
	if err := d.thins.raw(dev, func(path string) error { return d.format(program, path) }); err != nil {
		return errors.Join(err, d.drop(dev))
	}
	if err := d.emptyTop(dev); err != nil {
		return errors.Join(err, d.drop(dev))
	}
	failpoint.Hit("thin/base-made")
	return d.useBase(dev)
}

// useBase has snapshots be made of a device from now on.
func (d *Driver) useBase(dev device) error {
	if err := d.pool.setBase(dev.ID); err != nil {
		return err
	}
	d.base = dev
	return nil
}

// growBase makes a larger base of the present one, which goes.
func (d *Driver) growBase(size int64) error {
	old := d.base
	dev, err := d.snapshot(old, size)
	if err != nil {
		return err
	}
	failpoint.Hit("thin/base-grown")
	if err := d.useBase(dev); err != nil {
		return errors.Join(err, d.drop(dev))
	}
	return d.drop(old)
}

// mkfs finds the program that makes a file system.
func mkfs(fs string) (string, error) {
	path, err := find("mkfs." + fs)
	if err != nil {
		packages := map[string]string{"ext4": "e2fsprogs", "xfs": "xfsprogs"}
		return "", fmt.Errorf("storage driver devicemapper: dm.fs=%s: %w: install %s, or choose another dm.fs", fs, err, packages[fs])
	}
	return path, nil
}

// find finds a program of the administrator's.
func find(program string) (path string, err error) {
	for _, dir := range []string{"/sbin/", "/usr/sbin/", ""} {
		if path, err = exec.LookPath(dir + program); err == nil {
			return path, nil
		}
	}
	return "", err
}

func (d *Driver) format(program, path string) error {
	args := map[string][]string{
		// A new device reads as zeros: what is not written takes no blocks.
		"ext4": {"-q", "-F", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1"},
		"xfs":  {"-q", "-f", "-K"},
	}[d.pool.set.FS]
	for _, given := range d.opts.mkfsArgs {
		args = append(args, strings.Fields(given)...)
	}
	cmd := exec.CommandContext(context.Background(), program, append(args, path)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// emptyTop leaves nothing in a new file system's root, which becomes the root of
// containers.
func (d *Driver) emptyTop(dev device) error {
	top, err := d.openDevice(dev, toWrite)
	if err != nil {
		return err
	}
	defer top.Close()
	entries, err := top.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, e := range entries { // lost+found
		if err := os.Remove(filepath.Join(fmt.Sprintf("/proc/self/fd/%d", top.Fd()), e)); err != nil {
			return err
		}
	}
	return errors.Join(top.Chmod(0o755), syncfs.Of(top))
}
