package devicemapper

import (
	"context"
	"errors"
	"log/slog"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/linux/dm"
)

// drop deletes a device: now, or as soon as nothing has it mounted.
func (d *Driver) drop(dev device) error {
	err := d.dropIdle(dev)
	if !errors.Is(err, errInUse) && !errors.Is(err, syscall.EBUSY) {
		return err
	}
	if err := d.ledger.doom(dev); err != nil {
		return err
	}
	select {
	case d.dooms <- struct{}{}:
	default:
	}
	return nil
}

// dropIdle deletes a device that nothing has mounted.
func (d *Driver) dropIdle(dev device) error {
	defer d.thins.lock(dev.ID)()
	if err := d.thins.retire(dev); err != nil {
		return err
	}
	return d.ledger.delete(dev)
}

// doomed are the devices that are to be deleted.
func (d *Driver) doomed() (list []device) {
	for _, dev := range d.ledger.all() {
		if dev.Doomed {
			list = append(list, dev)
		}
	}
	return list
}

// How often it is looked whether doomed devices are free.
const (
	firstLook = 100 * time.Millisecond
	lastLook  = 30 * time.Second
)

// reap deletes doomed devices, as long as there are any.
func (d *Driver) reap(ctx context.Context) {
	pause := firstLook
	for {
		list := d.doomed()
		if len(list) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-d.dooms:
			}
			pause = firstLook
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-d.dooms:
			pause = firstLook
		case <-time.After(pause):
			pause = min(2*pause, lastLook)
		}
		for _, dev := range list {
			err := d.dropIdle(dev)
			if err != nil && !errors.Is(err, errInUse) && !errors.Is(err, syscall.EBUSY) {
				slog.Warn("delete a thin device that is not needed", "device", dev.ID, "error", err)
			}
		}
	}
}

// dropUnplaced deletes the devices that no directory names: a kill came before it was
// written, or after it was removed.
func (d *Driver) dropUnplaced() error {
	placed, err := places(d.Root)
	if err != nil {
		return err
	}
	var errs []error
	for _, dev := range d.ledger.all() {
		if dev.ID != d.pool.set.Base && !placed[place{ledgerVersion, dev.ID, dev.Transaction}] {
			errs = append(errs, d.drop(dev))
		}
	}
	return errors.Join(errs...)
}

// watch warns in the log when the pool is nearly full. The kernel tells when.
func (d *Driver) watch(ctx context.Context) {
	ref := dm.Number(d.pool.dev)
	warned := false
	for {
		info, err := d.conn.Info(ref, dm.Query{NoOpenCount: true})
		if err == nil {
			warned = d.warn(warned)
			_, _, err = d.conn.Wait(ctx, ref, info.Event)
		}
		if err != nil {
			if ctx.Err() == nil {
				slog.Warn("the thin pool cannot be watched", "pool", d.pool.name, "error", err)
			}
			return
		}
	}
}

// warn says once that the pool is nearly full; it returns whether it is.
func (d *Driver) warn(before bool) bool {
	s, err := d.pool.status()
	if err != nil {
		slog.Warn("the thin pool is not well", "error", err)
		return before
	}
	data, metadata := d.pool.spaces(s)
	full := data.used > data.total/100*fullPercent || metadata.used > metadata.total/100*fullPercent
	if full && !before {
		slog.Warn("the thin pool is nearly full: remove what is not needed, or "+d.pool.larger("data"), "pool", d.pool.name,
			"data", human(data.used)+" of "+human(data.total), "metadata", human(metadata.used)+" of "+human(metadata.total))
	}
	return full
}
