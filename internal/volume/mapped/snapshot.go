package mapped

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/dm"
	"github.com/tare-engine/tare/internal/linux/dm/target"
	"github.com/tare-engine/tare/internal/volume"
)

// A snapshot of a volume is a file for what the volume had before it changed. Empty it
// says that nothing has changed, so that to take one asks nothing of the kernel: as long
// as it is there the volume has no device without it.
//
//	        tare-E-ID-origin   mounted: writes save what was there to each snapshot
//	                |
//	tare-E-ID  <----+---- tare-E-ID-s-* ---- snapshots/NAME/cow.img
const cowFile = "cow.img"

// snapshots are the names of a volume's snapshots.
func snapshots(dir string) ([]string, error) {
	list, err := os.ReadDir(filepath.Join(dir, volume.SnapshotsDir))
	if notThere(err) {
		return nil, nil
	}
	var names []string
	for _, d := range list {
		if !strings.HasPrefix(d.Name(), ".") {
			names = append(names, d.Name())
		}
	}
	return names, err
}

// part is what follows the volume's name in that of a snapshot's device: names of
// snapshots may be long.
func part(snapshot string) string {
	sum := sha256.Sum256([]byte(snapshot))
	return partSnapshot + hex.EncodeToString(sum[:8])
}

// TakeSnapshot makes a snapshot in a directory that is to become a snapshot's, of a
// volume that nobody has mounted.
func (d *Driver) TakeSnapshot(dir, staged string) error {
	st, err := d.idle(dir)
	if err != nil {
		return err
	}
	if !st.Made {
		return errLocked()
	}
	return makeFile(filepath.Join(staged, cowFile), cowSize(st.Size))
}

// idle returns the state of a volume that has no devices.
func (d *Driver) idle(dir string) (*state, error) {
	st, err := get(dir)
	if err != nil || !mayHave() {
		return st, err
	}
	c, err := d.open()
	if err != nil {
		return nil, err
	}
	defer d.hold(st.ID)()
	left, err := d.devices(c, st)
	if err == nil && len(left) > 0 {
		err = errdefs.New(errdefs.Unavailable, "the files of the volume are still being unmounted, or somebody else has mounted %s: try again", left[0])
	}
	return st, err
}

// ForgetSnapshot says whether a snapshot of a volume may be removed: one that the volume's
// device saves to may not.
func (d *Driver) ForgetSnapshot(dir string) error {
	st, err := d.idle(dir)
	if err == nil && st.Merging != "" {
		err = errdefs.New(errdefs.Conflict, "a rollback of the volume to %s was cut off: mount the volume, which ends it, or roll back again", st.Merging)
	}
	return err
}

// addSnapshots makes the devices of a volume's snapshots, and then the one that saves to
// them.
func (d *Driver) addSnapshots(c *dm.Conn, dir string, st *state, base dm.Dev) error {
	names, err := snapshots(dir)
	if err != nil || len(names) == 0 {
		return err
	}
	for _, name := range names {
		if err := d.addSnapshot(c, dir, st, base, name); err != nil {
			return fmt.Errorf("snapshot %s: %w", name, err)
		}
	}
	_, err = d.add(c, st, partOrigin, dm.Table{dm.LineOf(0, st.Size, &target.SnapshotOrigin{Device: base.String()})})
	return err
}

func (d *Driver) addSnapshot(c *dm.Conn, dir string, st *state, base dm.Dev, name string) error {
	f, cow, err := attach(filepath.Join(dir, volume.SnapshotsDir, name, cowFile))
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = d.add(c, st, part(name), dm.Table{dm.LineOf(0, st.Size, snapshotOf(base, cow))})
	return err
}

func snapshotOf(base, cow dm.Dev) *target.Snapshot {
	return &target.Snapshot{Origin: base.String(), COW: cow.String(), Persistent: "P", ChunkSize: snapshotChunk}
}

// Rollback gives a volume that nobody has mounted what it had at a snapshot, which stays.
// From when that is written down it is so, whenever we are killed: what is left to be
// copied is copied before the volume is mounted again.
func (d *Driver) Rollback(ctx context.Context, dir, name string) error {
	st, err := d.idle(dir)
	if err != nil {
		return err
	}
	if used, err := d.usage(dir, st, name); err != nil || used.Broken != "" {
		if err == nil {
			err = errdefs.New(errdefs.Conflict, "snapshot %s is lost: it could not take all changes (%s)", name, used.Broken)
		}
		return err
	}
	st.Merging = name
	if err := d.put(dir, st); err != nil {
		return err
	}
	failpoint.Hit("volume-dm/merge-noted")
	return d.merge(ctx, dir, st)
}

// merge copies a snapshot back into its volume, and begins it anew.
func (d *Driver) merge(ctx context.Context, dir string, st *state) error {
	c, err := d.open()
	if err != nil {
		return err
	}
	if err := needTargets(c, snapshot); err != nil {
		return err
	}
	defer d.hold(st.ID)()
	if err := d.removeAll(c, st, false); err != nil {
		return err
	}
	name := st.Merging
	cow := filepath.Join(dir, volume.SnapshotsDir, name, cowFile)
	err = d.copyBack(ctx, c, dir, st, cow)
	if err = errors.Join(err, d.removeAll(c, st, false)); err != nil {
		return fmt.Errorf("copy snapshot %s back: %w", name, err)
	}
	failpoint.Hit("volume-dm/merged")
	// The volume is the snapshot: nothing has changed since.
	if err := errors.Join(os.Remove(cow), makeFile(cow, cowSize(st.Size))); err != nil {
		return err
	}
	failpoint.Hit("volume-dm/merge-begun-anew")
	st.Merging = ""
	return d.put(dir, st)
}

// copyBack has the kernel copy, and waits for its end.
func (d *Driver) copyBack(ctx context.Context, c *dm.Conn, dir string, st *state, cow string) error {
	if _, err := os.Lstat(cow); notThere(err) { // an engine was killed before it made it anew
		return makeFile(cow, cowSize(st.Size))
	}
	have, err := d.openLegs(dir, st)
	if err != nil {
		return err
	}
	defer have.Close()
	var base dm.Dev
	err = d.withKey(dir, st, func(key target.Key) error {
		t, err := d.lower(c, st, have.list, key)
		if err != nil {
			return err
		}
		defer t.Wipe()
		base, err = d.add(c, st, "", t)
		return err
	})
	if err != nil {
		return st.about(err)
	}
	names, err := snapshots(dir)
	if err != nil {
		return err
	}
	for _, name := range slices.DeleteFunc(names, func(n string) bool { return n == st.Merging }) {
		if err := d.addSnapshot(c, dir, st, base, name); err != nil {
			return fmt.Errorf("snapshot %s: %w", name, err)
		}
	}
	f, dev, err := attach(cow)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := d.add(c, st, partOrigin, dm.Table{dm.LineOf(0, st.Size, &target.SnapshotMerge{Snapshot: *snapshotOf(base, dev)})}); err != nil {
		return err
	}
	failpoint.Hit("volume-dm/merging")
	return d.awaitMerge(ctx, c, st)
}

// mergeLook is how often it is asked whether all is copied, of which there is no event.
const mergeLook = 100 * time.Millisecond

// awaitMerge waits until the kernel has copied all.
func (d *Driver) awaitMerge(ctx context.Context, c *dm.Conn, st *state) error {
	ref := dm.Name(d.device(st, partOrigin))
	for {
		_, lines, err := c.Status(ref, dm.Query{NoFlush: true, NoOpenCount: true})
		if err != nil {
			return err
		}
		said, err := target.ParseStatus(lines[0].Type, lines[0].Params)
		if err != nil {
			return err
		}
		switch s := said.(*target.SnapshotStatus); {
		case s.Broken != "":
			return errdefs.New(errdefs.Internal, "the kernel says: %s", s.Broken)
		case s.Used.Used == s.Metadata:
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(mergeLook):
		}
	}
}

// usage is how full a snapshot of a volume is that nobody has mounted.
func (d *Driver) usage(dir string, st *state, name string) (*target.SnapshotStatus, error) {
	path, err := d.activate(dir, st)
	if err != nil {
		return nil, err
	}
	_ = path
	s, err := d.snapshotStatus(st, name)
	return s, errors.Join(err, d.deactivate(dir, st))
}

func (d *Driver) snapshotStatus(st *state, name string) (*target.SnapshotStatus, error) {
	c, err := d.open()
	if err != nil {
		return nil, err
	}
	_, lines, err := c.Status(dm.Name(d.device(st, part(name))), dm.Query{NoFlush: true, NoOpenCount: true})
	if err != nil {
		return nil, err
	}
	s, err := target.ParseStatus(lines[0].Type, lines[0].Params)
	if err != nil {
		return nil, err
	}
	return s.(*target.SnapshotStatus), nil
}
