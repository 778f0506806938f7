// Package mapped is the volume driver "dm": file systems on devices that the kernel's
// device mapper makes of others, see package dm.
//
//	docker volume create -d dm -o target=mirror -o device=/dev/sdb,/dev/sdc db
//	docker volume create -d dm -o target=stripe -o size=10g -o legs=4 scratch
//
// The parts of a volume are its legs: block devices that were given, or files in its
// directory. What they are, and which of them lack something, is in a file of the
// driver's, which is written before the kernel is told:
//
//	DATAROOT/volumes/NAME/dm.json       see state
//	                      leg-*.img     legs that are files
//	                      snapshots/SNAPSHOT/cow.img   what has changed since
//
// The devices exist while something is mounted of the volume, and are called
//
//	tare-ENGINE-ID           the volume, or what is below its snapshots
//	tare-ENGINE-ID-origin    the volume, if it has snapshots
//	tare-ENGINE-ID-s-*       a snapshot
//	tare-ENGINE-ID-m-* -d-*  metadata and data of a leg of raid1
//
// with UUIDs TARE-…, so that an engine which starts finds those that a killed one has
// left. Names of volumes, and paths, never reach the kernel's tables: those have numbers
// of devices.
package mapped

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/dm"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/store"
	"github.com/tare-engine/tare/internal/volume"
)

// Config of a Driver.
type Config struct {
	Dir    string // of all volumes: DATAROOT/volumes
	Engine string // its ID: devices bear it
	Store  *store.Store
}

// Driver is the driver. Safe for concurrent use.
type Driver struct {
	cfg Config

	mu    sync.Mutex
	conn  *dm.Conn               // nil: nothing has needed it yet
	locks map[string]*sync.Mutex // by ID of a volume: held while its devices or its state change
	seen  map[string]string      // directories of volumes that have devices, by ID: see watch.go
	watch bool                   // somebody watches
	ends  sync.WaitGroup

	ctx  context.Context // ends with Close
	stop context.CancelFunc
}

var (
	_ volume.Driver  = (*Driver)(nil)
	_ volume.Sizer   = (*Driver)(nil)
	_ volume.Deleter = (*Driver)(nil)
	_ volume.Sweeper = (*Driver)(nil)
)

// New returns the driver, which does nothing before a volume needs it.
func New(cfg Config) *Driver {
	d := &Driver{cfg: cfg, locks: map[string]*sync.Mutex{}, seen: map[string]string{}}
	d.ctx, d.stop = context.WithCancel(context.Background())
	return d
}

// Close ends what goes on beside. Devices stay.
func (d *Driver) Close() error {
	d.stop()
	d.ends.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn == nil {
		return nil
	}
	err := d.conn.Close()
	d.conn = nil
	return err
}

// Name is the driver's name.
func (*Driver) Name() string { return "dm" }

// Check refuses what no volume can have.
func (*Driver) Check(options map[string]string) error {
	_, err := parse(options)
	return err
}

// Mounts reports that all of them have to be mounted.
func (*Driver) Mounts(string, map[string]string) bool { return true }

// Size is what the files of a volume take; false: its legs are devices.
func (*Driver) Size(dir string, _ map[string]string) (int64, bool) {
	st, err := get(dir)
	if err != nil {
		return 0, false
	}
	var sum int64
	for _, l := range st.Legs {
		if l.File == "" {
			return 0, false
		}
		n, ok := taken(filepath.Join(dir, l.File))
		if !ok {
			return 0, false
		}
		sum += n
	}
	return sum, true
}

// SnapshotSize is what a snapshot takes.
func (*Driver) SnapshotSize(dir string) (int64, bool) { return taken(filepath.Join(dir, cowFile)) }

// Mount makes the devices of a volume and mounts its file system.
func (d *Driver) Mount(ctx context.Context, dir, at string, _ map[string]string) error {
	st, err := get(dir)
	if err != nil {
		return err
	}
	if !st.Made {
		return errLocked()
	}
	if st.Merging != "" {
		if err := d.merge(ctx, dir, st); err != nil {
			return err
		}
	}
	path, err := d.activate(dir, st)
	if err != nil {
		return err
	}
	err = mountFS(st.FS, path, at)
	if err == nil && st.Growing {
		err = d.growFS(dir, at, st)
	}
	if err != nil {
		return errors.Join(err, d.Unmount(at))
	}
	return nil
}

// Unmount takes that back. Devices that somebody still uses go with their last user.
func (d *Driver) Unmount(at string) error {
	if err := mount.Detach(at); err != nil {
		return err
	}
	st, err := get(filepath.Dir(at))
	if errdefs.Is(err, errdefs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return d.deactivate(filepath.Dir(at), st)
}

// mountFS mounts a file system of a device at a directory.
func mountFS(kind, device, at string) error {
	m, err := openFS(kind, device)
	if err != nil {
		return err
	}
	return errors.Join(mount.MoveTo(m, at), m.Close())
}

// openFS returns a detached mount.
func openFS(kind, device string) (*os.File, error) {
	fs, err := mount.OpenFS(kind)
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	if err := fs.SetString("source", device); err != nil {
		return nil, err
	}
	return fs.Mount(mount.NoDev)
}

// open returns the connection with the kernel, which is made with the first call.
func (d *Driver) open() (*dm.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.conn != nil {
		return d.conn, nil
	}
	// Nobody else has to look at our devices, so no udev is told to.
	c, err := dm.Open(dm.Options{Udev: dm.UdevOff})
	if err != nil {
		return nil, errdefs.New(errdefs.NotImplemented, "volumes of the driver dm: %w", err)
	}
	d.conn = c
	return c, nil
}

// hold takes the lock of a volume's devices and state.
func (d *Driver) hold(id string) (release func()) {
	d.mu.Lock()
	l := d.locks[id]
	if l == nil {
		l = &sync.Mutex{}
		d.locks[id] = l
	}
	d.mu.Unlock()
	l.Lock()
	return l.Unlock
}

// device is the name of a volume's device; part is empty for that of the volume itself.
func (d *Driver) device(st *state, part string) string {
	name := "tare-" + d.cfg.Engine + "-" + st.ID
	if part != "" {
		name += "-" + part
	}
	return name
}

func uuidOf(name string) string { return "TARE-" + strings.TrimPrefix(name, "tare-") }

func isAny(err error, of ...error) bool {
	for _, e := range of {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func notThere(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// about says which target, on which devices, an error is about.
func (st *state) about(err error) error {
	if err == nil {
		return nil
	}
	names := make([]string, len(st.Legs))
	for i, l := range st.Legs {
		names[i] = l.name()
	}
	return fmt.Errorf("target %s on %s: %w", st.Target, strings.Join(names, ", "), err)
}
