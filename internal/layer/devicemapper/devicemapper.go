// Package devicemapper is the storage driver on a thin pool of device mapper: each
// layer and each container is a thin device with a file system, made as a snapshot of
// the one below. What they have in common is stored once, in blocks of the pool.
//
//	DATAROOT/devicemapper/pool.json          the pool's block size, file system, devices
//	                      data, metadata     loop files of the pool, unless devices are given
//	                      devices/ID.json    a thin device
//	                      transaction.json   the last change of the pool
//	DATAROOT/layers/devicemapper/CHAIN/diff/device.json
//	                                         which device has the layer
//
// A device is active while something has it mounted. It, and the pool under it, go with
// the last mount, whether or not the engine runs then: containers and their devices do
// not notice that it comes and goes.
package devicemapper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/docker/go-units"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/dm"
	"github.com/tare-engine/tare/internal/linux/fsgrow"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/linux/treerm"
)

const name = "devicemapper"

// Driver keeps whole roots that share what they have in common.
type Driver struct {
	layer.WholeRoots
	opts   options
	conn   *dm.Conn
	pool   *pool
	ledger *ledger
	thins  *thins
	base   device

	stop    context.CancelFunc
	working sync.WaitGroup
	dooms   chan struct{} // holds one token when there is a doomed device
}

var _ interface {
	layer.Driver
	layer.Opener
	layer.Deleter
	layer.Warner
} = (*Driver)(nil)

// New returns the driver for a data root, or why it cannot work there. The options
// are KEY=VALUE, those of Docker's driver.
func New(root string, list ...string) (*Driver, error) {
	o, err := parseOptions(list)
	if err != nil {
		return nil, err
	}
	conn, err := dm.Open(dm.Options{Udev: dm.UdevOff})
	if err != nil {
		return nil, fmt.Errorf("storage driver devicemapper: %w", err)
	}
	d := &Driver{WholeRoots: layer.WholeRoots{Root: root}, opts: o, conn: conn, dooms: make(chan struct{}, 1)}
	d.Opened = d.openOf
	if err := d.open(); err != nil {
		return nil, errors.Join(err, d.letGo())
	}
	return d, nil
}

// open takes up the pool, puts in order what an earlier run has left, and makes what
// the first needs.
func (d *Driver) open() error {
	if _, err := d.conn.Target("thin-pool"); err != nil {
		return fmt.Errorf("storage driver devicemapper: the kernel has no target thin-pool (module dm-thin-pool): %w", err)
	}
	dir := filepath.Join(d.Root, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var err error
	if d.pool, err = openPool(d.conn, dir, d.opts); err != nil {
		return err
	}
	if d.ledger, err = openLedger(dir, d.pool); err != nil {
		return err
	}
	d.thins = newThins(d.pool, d.opts)
	if err := errors.Join(d.thins.sweep(), d.dropUnplaced()); err != nil {
		return err
	}
	if err := d.findBase(); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	d.stop = stop
	d.working.Go(func() { d.reap(ctx) })
	d.working.Go(func() { d.watch(ctx) })
	return nil
}

// Uninstall takes what a kill has left of the driver out of the kernel, but for what
// is mounted, which goes with its mount. No engine runs on the data root.
func Uninstall(root string) error {
	p := &pool{dir: filepath.Join(root, name)}
	err := readRecord(filepath.Join(p.dir, settingFile), &p.set)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if p.conn, err = dm.Open(dm.Options{Udev: dm.UdevOff}); err != nil {
		if errors.Is(err, syscall.ENODEV) { // and so there is nothing
			return nil
		}
		return err
	}
	defer p.conn.Close()
	return newThins(p, options{}).sweep()
}

// Close ends what is done in the background. What is mounted stays.
func (d *Driver) Close() error {
	d.stop()
	d.working.Wait()
	return d.letGo()
}

func (d *Driver) letGo() (err error) {
	if d.pool != nil {
		err = d.pool.close()
	}
	return errors.Join(err, d.conn.Close())
}

// Name returns "devicemapper".
func (d *Driver) Name() string { return name }

// Form returns layer.Shared.
func (d *Driver) Form() layer.Form { return layer.Shared }

// Limit reads size: that of a container's whole root, which is at least dm.basesize.
func (d *Driver) Limit(options map[string]string) (size int64, err error) {
	for key, value := range options {
		if !strings.EqualFold(key, "size") {
			return 0, errdefs.New(errdefs.InvalidArgument, "Unknown option %s", key)
		}
		if size, err = units.RAMInBytes(value); err != nil {
			return 0, errdefs.New(errdefs.InvalidArgument, "%w", err)
		}
		if size < d.base.Size {
			return 0, errdefs.New(errdefs.InvalidArgument, "devmapper: Container size cannot be smaller than %s", human(d.base.Size))
		}
	}
	return size / sector * sector, nil
}

// Prepare makes a device, a snapshot of the topmost lower one's, and a directory that
// names it.
func (d *Driver) Prepare(_ context.Context, r layer.Root) error {
	if err := os.Mkdir(r.Upper, 0o710); err != nil {
		return err
	}
	parent := d.base
	if len(r.Lower) > 0 {
		var err error
		if parent, err = d.deviceOf(r.Lower[0]); err != nil {
			return err
		}
	}
	made, err := d.snapshot(parent, max(parent.Size, d.base.Size, r.Size))
	if err != nil {
		return err
	}
	if err := writePlace(d.ledger.store, r.Upper, made, r.Volatile); err != nil {
		return errors.Join(err, d.drop(made))
	}
	failpoint.Hit("create/driver-made")
	return nil
}

// snapshot makes a device of another, as large as that or larger, if there is room.
func (d *Driver) snapshot(parent device, size int64) (made device, err error) {
	if err := d.pool.room(); err != nil {
		return device{}, err
	}
	if made, err = d.ledger.create(parent.ID, size); err != nil || size == parent.Size {
		return made, err
	}
	if err := d.grow(made); err != nil {
		return device{}, errors.Join(err, d.drop(made))
	}
	return made, nil
}

// grow has a device's file system be as large as the device.
func (d *Driver) grow(dev device) error {
	top, err := d.openDevice(dev, toWrite)
	if err != nil {
		return err
	}
	defer top.Close()
	return fsgrow.To(top, dev.Size)
}

// deviceOf finds the device that a directory names.
func (d *Driver) deviceOf(dir string) (device, error) {
	p, err := placeOf(dir)
	if err != nil {
		return device{}, err
	}
	dev, ok := d.ledger.find(p)
	if !ok {
		return device{}, fmt.Errorf("%s names thin device %d: %w in the pool", dir, p.ID, os.ErrNotExist)
	}
	return dev, nil
}

func (d *Driver) mountDir(dir string, a access) (*os.File, error) {
	dev, err := d.deviceOf(dir)
	if err != nil {
		return nil, err
	}
	return d.thins.mount(dev, a)
}

// openDevice opens the top of a device's file system. The mount is there as long as
// the result is open.
func (d *Driver) openDevice(dev device, a access) (*os.File, error) {
	m, err := d.thins.mount(dev, a)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", m.Fd()))
}

// Open opens the top of a directory's files.
func (d *Driver) Open(_ context.Context, dir string, write bool) (*os.File, error) {
	dev, err := d.deviceOf(dir)
	if err != nil {
		return nil, err
	}
	if write {
		return d.openDevice(dev, toWrite)
	}
	return d.openDevice(dev, toRead)
}

// openOf opens the top of one of r's directories. A container may run on its own.
func (d *Driver) openOf(_ context.Context, r layer.Root, dir string) (*os.File, error) {
	dev, err := d.deviceOf(dir)
	if err != nil {
		return nil, err
	}
	return d.openDevice(dev, accessOf(r, dir))
}

// accessOf says how one of r's directories is looked at.
func accessOf(r layer.Root, dir string) access {
	if dir == r.Upper && r.Work != "" {
		return toLook
	}
	return toRead
}

// Mount mounts the device.
func (d *Driver) Mount(_ context.Context, r layer.Root) (*os.File, error) {
	m, err := d.mountDir(r.Upper, toWrite)
	if err != nil || r.UserNS == nil {
		return m, err
	}
	if err := mapIDs(m, r.UserNS); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func mapIDs(m, ns *os.File) error {
	return mount.SetAttr(m, mount.Change{UserNS: ns, Propagation: mount.Private})
}

// MapsIDs tries it: kernels before 5.12 cannot.
func (d *Driver) MapsIDs(_ context.Context, ns *os.File) error {
	m, err := d.thins.mount(d.base, toRead)
	if err != nil {
		return err
	}
	return errors.Join(mapIDs(m, ns), m.Close())
}

// View mounts the topmost layer.
func (d *Driver) View(_ context.Context, lower []string) (*os.File, error) {
	return d.mountDir(lower[0], toRead)
}

// Whole mounts the device once more, read-only.
func (d *Driver) Whole(_ context.Context, r layer.Root) (*os.File, error) {
	return d.mountDir(r.Upper, accessOf(r, r.Upper))
}

// Delete deletes the devices that a directory names, or those in it, then the
// directory. A device that is mounted is deleted after that.
func (d *Driver) Delete(dir string) error {
	list, err := placesBelow(dir)
	if err != nil {
		return err
	}
	for _, p := range list {
		dev, ok := d.ledger.find(p)
		if !ok {
			continue
		}
		if err := d.drop(dev); err != nil {
			return err
		}
	}
	failpoint.Hit("thin/places-removed")
	return treerm.All(dir)
}
