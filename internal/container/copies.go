package container

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/internal/archive"
	"github.com/tare-engine/tare/internal/container/index"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/idrange"
	"github.com/tare-engine/tare/internal/linux/confine"
)

// Copies are what clients look at, take out of and bring into the files of
// containers, running or not.
//
// Each is made by a thread of its own that can get at nothing but those files: it
// has a mount namespace with the container's root as its root (view.go), and few
// rights. It holds no lock while it works: the container may be started, stopped
// and removed meanwhile.
type Copies struct {
	index  *index.Index[*Container]
	views  *views
	events eventLog
	work   *work
	slots  chan struct{} // one for each copy
}

// Stat describes what is at a path of a container's files.
func (x *Copies) Stat(ctx context.Context, ref, p string) (st container.PathStat, err error) {
	c, err := x.index.Find(ref)
	if err != nil {
		return st, err
	}
	st, err = look(ctx, c, func() (st container.PathStat, err error) {
		err = x.inside(ctx, c, false, func(_ *View, root *os.File) error {
			st, err = archive.Stat(root, p)
			return err
		})
		return st, err
	})
	return st, notThere(err, ref, p)
}

// Pack writes what is at a path of a container's files as a tar stream. told is
// called before, with what that is.
func (x *Copies) Pack(ctx context.Context, ref, p string, told func(container.PathStat) (io.Writer, error)) error {
	c, err := x.index.Find(ref)
	if err != nil {
		return err
	}
	err = x.inside(ctx, c, false, func(v *View, root *os.File) error {
		hit("cp/out")
		return archive.Pack(ctx, root, p, packOptions(v.IDs), func(st container.PathStat) (io.Writer, error) {
			x.events.publish(v, events.ActionArchivePath)
			return told(st)
		})
	})
	return notThere(err, ref, p)
}

// UnpackOptions are those of Copies.Unpack.
type UnpackOptions struct {
	KeepKinds bool // refuse to replace a directory by something else, and the reverse
	AsUser    bool // all files belong to the container's user
}

// Unpack unpacks a tar stream into a directory of a container.
func (x *Copies) Unpack(ctx context.Context, ref, p string, in io.Reader, o UnpackOptions) error {
	c, err := x.index.Find(ref)
	if err != nil {
		return err
	}
	err = x.inside(ctx, c, true, func(v *View, root *os.File) error {
		hit("cp/in")
		own, err := owner(v, root, o.AsUser)
		if err != nil {
			return err
		}
		uid, gid := int(v.IDs.HostUID(0)), int(v.IDs.HostGID(0))
		return archive.Unpack(ctx, root, p, in, archive.UnpackOptions{
			Own: own, RootUID: uid, UID: uid, GID: gid, KeepKinds: o.KeepKinds, ReadOnlyRoot: v.HostConfig.ReadonlyRootfs,
		})
	})
	if err != nil {
		return notThere(err, ref, p)
	}
	failpoint.Hit("cp/in-done")
	if _, err := x.index.Find(c.ID); err != nil { // it was removed meanwhile, and what was brought with it
		return err
	}
	x.events.publish(c.View(), events.ActionExtractToDir)
	return nil
}

// notThere is Docker's text for a path where nothing is, and says it when the whole file
// system is gone, which a process serves that was killed with its heir.
func notThere(err error, ref, p string) error {
	if errors.Is(err, syscall.ENOTCONN) || errors.Is(err, syscall.ECONNABORTED) {
		return errdefs.New(errdefs.Conflict, "the root of container %s is gone, as nothing serves it any more: restart the container", ref)
	}
	if errors.Is(err, fs.ErrNotExist) && errdefs.KindOf(err) == errdefs.Internal {
		return errdefs.New(errdefs.NotFound, "Could not find the file %s in container %s", p, ref)
	}
	return err
}

func packOptions(ids *idrange.Map) archive.PackOptions {
	if ids == nil {
		return archive.PackOptions{}
	}
	return archive.PackOptions{UID: ids.UID, GID: ids.GID}
}

// owner says who gets the files of an archive, in ids of the host.
func owner(v *View, root *os.File, asUser bool) (func(uid, gid int) (int, int, error), error) {
	host := func(uid, gid int) (int, int, error) {
		u, g := v.IDs.HostUID(uint32(uid)), v.IDs.HostGID(uint32(gid))
		if v.IDs != nil && (v.IDs.UID(u) != uint32(uid) || v.IDs.GID(g) != uint32(gid)) {
			return 0, 0, errdefs.New(errdefs.InvalidArgument, "owner %d:%d: the container has no such ids", uid, gid)
		}
		return int(u), int(g), nil
	}
	if !asUser || v.Config.User == "" {
		return host, nil
	}
	var uid, gid uint32
	err := elsewhere(func() (err error) {
		uid, gid, err = spec.UserIDs(root, v.Config.User)
		return err
	})
	return func(int, int) (int, int, error) { return host(int(uid), int(gid)) }, err
}

// elsewhere calls f on a thread that has the host's files, and waits for it.
func elsewhere(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return <-done
}

// hit is failpoint.Hit on a thread that does not see the host's files, where it is
// said which point is meant.
func hit(point string) {
	if failpoint.Enabled {
		_ = elsewhere(func() error {
			failpoint.Hit(point)
			return nil
		})
	}
}

// Copies have threads, and clients may leave them waiting: only so many go on at
// once, of one container and of all.
const (
	maxCopies    = 32
	maxAllCopies = 256
)

// inside calls f on a thread whose root is the container's. It may change the
// files if write is set.
func (x *Copies) inside(ctx context.Context, c *Container, write bool, f func(v *View, root *os.File) error) error {
	ctx, cancel := context.WithTimeout(ctx, lookWait)
	defer cancel()
	for _, slots := range []chan struct{}{c.copies, x.slots} {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-ctx.Done():
			return errdefs.New(errdefs.Unavailable, "%d copies are under way; try again when some have ended", cap(slots))
		}
	}
	if err := c.awaitClear(x.work.closing); err != nil {
		return err
	}
	exit, _ := c.turns.next()
	err := x.visit(c, write, f)
	if !errors.Is(err, errJustEnded) {
		return err
	}
	if _, err := exit.wait(ctx); err != nil {
		return errdefs.New(errdefs.Unavailable, "container %s has just ended; try again", c.ID)
	}
	if err := c.awaitClear(x.work.closing); err != nil {
		return err
	}
	return x.visit(c, write, f)
}

// visit is inside, once.
func (x *Copies) visit(c *Container, write bool, f func(v *View, root *os.File) error) error {
	rights := confine.Options{Keep: confine.FileCapabilities()}
	if ids := c.View().IDs; ids != nil {
		rights.As = &confine.IDs{UID: int(ids.HostUID(0)), GID: int(ids.HostGID(0))}
	}
	var here *visit
	rights.Enter = func() (err error) {
		here, err = x.views.enter(c, write)
		return err
	}
	err := confine.Run(rights, func() error { return f(here.view, here.root) })
	if here == nil {
		return err
	}
	if e := x.views.leave(here); err == nil {
		err = e
	}
	return err
}
