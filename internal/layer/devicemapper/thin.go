package devicemapper

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/failpoint"
	blockdev "github.com/tare-engine/tare/internal/linux/device"
	"github.com/tare-engine/tare/internal/linux/dm"
	"github.com/tare-engine/tare/internal/linux/dm/target"
	"github.com/tare-engine/tare/internal/linux/mount"
)

// thins activates devices and mounts them. Nothing of ours holds a device but the
// mounts: it is marked to go with the last of them, which is the kernel's to do.
//
//	activate --> pin (open) --> mount --> mark --> close the pin
//	                                                     the mount goes: so does the device
type thins struct {
	pool  *pool
	opts  options
	locks [64]chan struct{} // one for devices with the same rest; held while one comes or goes
}

func newThins(p *pool, o options) *thins {
	t := &thins{pool: p, opts: o}
	for i := range t.locks {
		t.locks[i] = make(chan struct{}, 1)
	}
	return t
}

// lock has nobody else activate, mount or delete a device.
func (t *thins) lock(id uint32) (unlock func()) {
	l := t.locks[int(id)%len(t.locks)]
	l <- struct{}{}
	return func() { <-l }
}

// access says what a mount is for.
type access struct {
	write bool // the file system is mounted to be written to, or recovered
	show  bool // but not by this mount
}

var (
	toRead  = access{}                        // what nobody writes to any more
	toWrite = access{write: true}             // what is filled, or a container's
	toLook  = access{write: true, show: true} // a container's, which may be running
)

// mount returns a mount of a device's file system, attached nowhere.
func (t *thins) mount(d device, a access) (*os.File, error) {
	defer t.lock(d.ID)()
	return t.mountLocked(d, a)
}

func (t *thins) mountLocked(d device, a access) (m *os.File, err error) {
	m, err = t.tryMount(d, a)
	if err == nil || a.write || !needsRecovery(err) {
		return m, t.pool.explain(err)
	}
	// A power cut came when it had just been filled.
	if m, err = t.tryMount(d, toWrite); err != nil {
		return nil, err
	}
	if err := m.Close(); err != nil {
		return nil, err
	}
	return t.tryMount(d, a)
}

// needsRecovery reports whether a file system cannot be mounted from a device that
// cannot be written to.
func needsRecovery(err error) bool {
	return errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EUCLEAN) || errors.Is(err, syscall.EINVAL)
}

func (t *thins) tryMount(d device, a access) (*os.File, error) {
	name := t.pool.thinName(d.ID)
	held, readOnly, err := t.activate(d, !a.write)
	if err != nil {
		return nil, err
	}
	m, err := t.mountActive(name, a, readOnly)
	failpoint.Hit("thin/mounted")
	err = errors.Join(err, t.pool.conn.Remove(dm.Name(name), dm.RemoveOptions{Deferred: true}), held.Close())
	if err != nil && m != nil {
		m.Close()
		m = nil
	}
	return m, err
}

// mountActive mounts a device that is active.
func (t *thins) mountActive(name string, a access, readOnly bool) (*os.File, error) {
	if err := t.mend(name, readOnly); err != nil {
		return nil, err
	}
	fsys, err := mount.OpenFS(t.pool.set.FS)
	if err != nil {
		return nil, err
	}
	defer fsys.Close()
	if err := t.configure(fsys, name, readOnly); err != nil {
		return nil, err
	}
	attr := t.opts.mounts.attr
	if !a.write || a.show {
		attr |= mount.ReadOnly
	}
	m, err := fsys.Mount(attr)
	if err != nil {
		return nil, err
	}
	if err := t.boundRetries(name); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// Of an ext4: where the state is on its device, and the bit that says that there have
// been errors.
const (
	ext4State  = 1024 + 0x3a
	ext4Errors = 2
)

// mend has e2fsck look at an ext4 that has had errors, as in a pool that was full, before
// it is mounted again. An xfs does that itself.
func (t *thins) mend(name string, readOnly bool) error {
	if t.pool.set.FS != "ext4" || readOnly {
		return nil
	}
	info, err := t.pool.conn.Info(dm.Name(name), dm.Query{})
	if err != nil || info.OpenCount > 1 { // it is mounted
		return err
	}
	b, err := blockdev.First(nodePath(name))
	if err != nil || b[ext4State]&ext4Errors == 0 {
		return err
	}
	program, err := find("e2fsck")
	if err != nil {
		return fmt.Errorf("the file system of a container has had errors: %w (package e2fsprogs)", err)
	}
	out, err := exec.Command(program, "-fy", nodePath(name)).CombinedOutput()
	const mended = 1 | 2
	if x, ok := errors.AsType[*exec.ExitError](err); ok && x.ExitCode()&^mended == 0 {
		err = nil
	}
	slog.Warn("e2fsck has looked at a file system that has had errors", "device", name, "error", err)
	if err != nil {
		return fmt.Errorf("e2fsck %s: %w: %s", name, err, out)
	}
	return nil
}

// configure gives a file system its options.
func (t *thins) configure(fsys *mount.FS, name string, readOnly bool) error {
	words := map[string][]string{
		"ext4": {"noinit_itable", "discard", "data_err=abort"}, // a table that is written for nothing takes blocks in each snapshot
		"xfs":  {"nouuid", "discard"},                          // snapshots have the same one
	}[t.pool.set.FS]
	if readOnly {
		words = append(words, "ro")
	}
	if err := fsys.SetString("source", nodePath(name)); err != nil {
		return err
	}
	for _, word := range append(words, t.opts.mounts.words...) {
		key, value, has := strings.Cut(word, "=")
		var err error
		if has {
			err = fsys.SetString(key, value)
		} else {
			err = fsys.SetFlag(key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// boundRetries has an xfs give up writing where the pool is full: by itself it goes on
// for ever.
func (t *thins) boundRetries(name string) error {
	if t.pool.set.FS != "xfs" {
		return nil
	}
	tries := t.opts.xfsRetries
	if tries == "" {
		tries = "0"
	}
	info, err := t.pool.conn.Info(dm.Name(name), dm.Query{NoOpenCount: true})
	if err != nil {
		return err
	}
	path := fmt.Sprintf("/sys/fs/xfs/dm-%d/error/metadata/ENOSPC/max_retries", info.Dev.Minor)
	return os.WriteFile(path, []byte(tries), 0)
}

// activate has a device be active, and pins it. One that is active to be written to
// serves readers, too; readOnly says what it is.
func (t *thins) activate(d device, wantReadOnly bool) (held *os.File, readOnly bool, err error) {
	for range goingTries {
		held, readOnly, err = t.tryActivate(d, wantReadOnly)
		if !going(err) {
			return held, readOnly, err
		}
		time.Sleep(goingPause)
	}
	return nil, false, fmt.Errorf("thin device %d: %w", d.ID, err)
}

func (t *thins) tryActivate(d device, readOnly bool) (*os.File, bool, error) {
	conn, name := t.pool.conn, t.pool.thinName(d.ID)
	info, err := conn.Info(dm.Name(name), dm.Query{})
	if errors.Is(err, fs.ErrNotExist) {
		info, err = conn.Activate(name, t.table(d), dm.CreateOptions{ReadOnly: readOnly})
	}
	if err != nil {
		return nil, false, err
	}
	switch {
	case !info.Live || info.ReadOnly && !readOnly: // a kill came before its table, or its last reader is about to go
		err := conn.Remove(dm.Name(name), dm.RemoveOptions{})
		if err == nil || errors.Is(err, syscall.EBUSY) {
			err = fmt.Errorf("it is in use: %w", fs.ErrExist)
		}
		return nil, false, err
	case info.Suspended: // a kill came while it was frozen
		if _, err := conn.Resume(dm.Number(info.Dev), dm.SuspendOptions{}); err != nil {
			return nil, false, err
		}
	}
	failpoint.Hit("thin/activated")
	f, err := pin(conn, name, info.Dev)
	return f, info.ReadOnly, err
}

func (t *thins) table(d device) dm.Table {
	thin := &target.Thin{Pool: t.pool.dev.String(), ID: uint64(d.ID)}
	return dm.Table{{Length: uint64(d.Size / sector), Type: thin.Type(), Params: thin.AppendParams(nil)}}
}

// raw calls f with the path of a device that is active for it alone.
func (t *thins) raw(d device, f func(path string) error) error {
	defer t.lock(d.ID)()
	return t.rawLocked(d, f)
}

func (t *thins) rawLocked(d device, f func(path string) error) error {
	held, _, err := t.activate(d, false)
	if err != nil {
		return err
	}
	name := t.pool.thinName(d.ID)
	err = errors.Join(f(nodePath(name)), held.Close())
	return errors.Join(err, t.pool.conn.Remove(dm.Name(name), dm.RemoveOptions{Retry: true}))
}

// errInUse says that something has a device mounted.
var errInUse = errors.New("the device is in use")

// retire has a device not be active, and gives its blocks back if that is asked for. It
// is errInUse if something has it mounted.
func (t *thins) retire(d device) error {
	name := t.pool.thinName(d.ID)
	err := t.pool.conn.Remove(dm.Name(name), dm.RemoveOptions{})
	switch {
	case errors.Is(err, syscall.EBUSY):
		return errors.Join(errInUse, t.pool.conn.Remove(dm.Name(name), dm.RemoveOptions{Deferred: true}))
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if !t.opts.discards() {
		return nil
	}
	return t.rawLocked(d, func(path string) error {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		return blockdev.Discard(f, d.Size)
	})
}

// sweep puts the devices in order that an earlier run has left, the pool among them:
// those that containers have stay, and go with them.
func (t *thins) sweep() error {
	all, err := t.pool.conn.List()
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range all {
		if !strings.HasPrefix(l.Name, t.pool.prefix()) {
			continue
		}
		info, err := t.pool.conn.Info(dm.Name(l.Name), dm.Query{})
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && info.Suspended && info.Live {
			_, err = t.pool.conn.Resume(dm.Name(l.Name), dm.SuspendOptions{})
		}
		if err == nil {
			err = t.pool.conn.Remove(dm.Name(l.Name), dm.RemoveOptions{Deferred: true}) // a pool that is in use: with its devices
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("%s: %w", l.Name, err))
		}
	}
	return errors.Join(errs...)
}
