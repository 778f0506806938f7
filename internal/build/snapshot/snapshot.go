// Package snapshot lets BuildKit's cache and the engine's images share layers: a
// snapshotter of containerd's kind whose directories have the form of the storage
// driver's, and that knows the layers of images as committed snapshots.
//
//	ROOT/snapshots.db     names, kinds and parents (containerd's metastore)
//	ROOT/snapshots/N/fs   the files of snapshot N in the driver's form, or a link
//	                      to a layer of an image that is lent to us
//	                 work  of an active one, for overlayfs
//	                 own   what a committed one had before a layer took its place
//	ROOT/stacked          the form is overlayfs's, though the driver's is another
//
// Layers that are not lent, those of the driver union, have no form that decides: then a
// snapshot holds what it changes, where the kernel has overlayfs, and else all there is.
package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/filemeta"
	"github.com/tare-engine/tare/internal/linux/overlay"
	"github.com/tare-engine/tare/internal/linux/treecopy"
	"github.com/tare-engine/tare/internal/undo"
)

// LabelChain on a snapshot that is prepared names the chain of an image whose files
// it has. The prefix makes containerd's metadata store hand it on.
const LabelChain = "containerd.io/snapshot/tare.chain"

// Name is what BuildKit calls the snapshotter.
const Name = "tare"

// Dir is the directory below a root whose entries hold links to lent layers.
func Dir(root string) string { return filepath.Join(root, "snapshots") }

// Snapshotter keeps snapshots below one root. It may be used by many at once.
type Snapshotter struct {
	root   string
	layers *layer.Service
	stacks bool // overlayfs merges snapshots; else each holds all there is
	store  *storage.MetaStore

	mu sync.Mutex
	// +checklocks:mu
	replaced map[string]time.Time // snapshots whose own directory is still there, and since when nobody needs it
}

var _ snapshots.Snapshotter = (*Snapshotter)(nil)

// ErrDamaged says that files of a snapshot are missing: what the cache believes is
// not true any more, and it is best begun anew.
var ErrDamaged = errors.New("snapshots are missing")

// Open opens the snapshots of a root, which exists. Directories that no snapshot has,
// as a kill leaves them, are removed.
func Open(ctx context.Context, root string, layers *layer.Service) (*Snapshotter, error) {
	if strings.ContainsAny(root, `:,\`) {
		return nil, fmt.Errorf("the data root %s has one of the characters \":,\\\" in its name, with which there are no mounts for builds", root)
	}
	if err := os.MkdirAll(Dir(root), 0700); err != nil {
		return nil, err
	}
	// A cache is not worth a wait for the disk: what a power cut damages is begun anew.
	store, err := storage.NewMetaStore(filepath.Join(root, "snapshots.db"), func(o *bolt.Options) error { o.NoSync = true; return nil })
	if err != nil {
		return nil, err
	}
	s := &Snapshotter{root: root, layers: layers, store: store, replaced: map[string]time.Time{}}
	if err := errors.Join(s.reconcile(ctx), s.choose()); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return s, nil
}

// choose decides on the form of snapshots, which those that are there have already.
func (s *Snapshotter) choose() error {
	if s.stacks = s.layers.Stacks(); s.stacks || s.layers.Lends() {
		return nil
	}
	mark := filepath.Join(s.root, "stacked")
	_, err := os.Stat(mark)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	was := err == nil
	if s.stacks = overlay.Supported(s.root, false) == nil; s.stacks == was {
		return nil
	}
	if entries, err := os.ReadDir(Dir(s.root)); err != nil {
		return err
	} else if len(entries) > 0 {
		return fmt.Errorf("%w: those that are there have another form", ErrDamaged)
	}
	if was {
		return os.Remove(mark)
	}
	return os.WriteFile(mark, nil, 0o600)
}

// reconcile compares names with directories.
func (s *Snapshotter) reconcile(ctx context.Context) error {
	ids := map[string]string{}
	err := s.store.WithTransaction(ctx, true, func(ctx context.Context) (err error) { // writable: it may be new
		ids, err = storage.IDMap(ctx)
		return err
	})
	if cerrdefs.IsNotFound(err) { // there was none yet
		err = nil
	}
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(Dir(s.root))
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, e := range entries {
		if _, known := ids[e.Name()]; !known {
			if err := s.discard(e.Name()); err != nil {
				return err
			}
			continue
		}
		if err := s.discardOwn(e.Name()); err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join(s.dir(e.Name()), "fs")); err == nil {
			there[e.Name()] = true
		}
	}
	for id, key := range ids {
		if !there[id] {
			return fmt.Errorf("%w: %s", ErrDamaged, key)
		}
	}
	return nil
}

func (s *Snapshotter) dir(id string) string { return filepath.Join(Dir(s.root), id) }
func (s *Snapshotter) fs(id string) string  { return filepath.Join(s.dir(id), "fs") }

// discard removes the directory of a snapshot.
func (s *Snapshotter) discard(id string) error {
	return errors.Join(s.layers.Return(s.fs(id)), s.layers.Discard(s.dir(id)))
}

// Close closes the database.
func (s *Snapshotter) Close() error { return s.store.Close() }

// Stat tells about a snapshot.
func (s *Snapshotter) Stat(ctx context.Context, key string) (info snapshots.Info, err error) {
	err = s.store.WithTransaction(ctx, false, func(ctx context.Context) (err error) {
		_, info, _, err = storage.GetInfo(ctx, key)
		return err
	})
	return info, err
}

// Update changes labels. A committed snapshot that is told of the chain whose files it
// has gives its own up for those of the layer (giveUp).
func (s *Snapshotter) Update(ctx context.Context, info snapshots.Info, fieldpaths ...string) (out snapshots.Info, err error) {
	var id string
	err = s.store.WithTransaction(ctx, true, func(ctx context.Context) (err error) {
		if out, err = storage.UpdateInfo(ctx, info, fieldpaths...); err != nil {
			return err
		}
		id, _, _, err = storage.GetInfo(ctx, info.Name)
		return err
	})
	if err != nil || out.Kind != snapshots.KindCommitted {
		return out, err
	}
	return out, s.giveUp(id, digest.Digest(out.Labels[LabelChain]))
}

// Usage is the space of a snapshot alone; of an active one it is counted now, and a
// lent layer takes none.
func (s *Snapshotter) Usage(ctx context.Context, key string) (u snapshots.Usage, err error) {
	var id string
	var info snapshots.Info
	err = s.store.WithTransaction(ctx, false, func(ctx context.Context) (err error) {
		id, info, u, err = storage.GetInfo(ctx, key)
		return err
	})
	if err == nil && (info.Kind == snapshots.KindActive || s.lent(id)) {
		u, err = s.usage(ctx, id)
	}
	return u, err
}

func (s *Snapshotter) usage(ctx context.Context, id string) (snapshots.Usage, error) {
	if s.lent(id) {
		return snapshots.Usage{}, nil
	}
	u, err := layer.UsageOf(ctx, s.fs(id))
	return snapshots.Usage{Size: u.Bytes, Inodes: u.Inodes}, err
}

// Prepare makes a snapshot to be written to, on top of a parent if there is one.
func (s *Snapshotter) Prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return s.create(ctx, snapshots.KindActive, key, parent, opts)
}

// View makes one to be read.
func (s *Snapshotter) View(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	return s.create(ctx, snapshots.KindView, key, parent, opts)
}

func (s *Snapshotter) create(ctx context.Context, kind snapshots.Kind, key, parent string, opts []snapshots.Opt) (_ []mount.Mount, err error) {
	var u undo.Stack
	defer u.Run(&err)
	var sn storage.Snapshot
	err = s.store.WithTransaction(ctx, true, func(ctx context.Context) (err error) {
		if sn, err = storage.CreateSnapshot(ctx, kind, key, parent, opts...); err != nil {
			return err
		}
		u.Add(func() error { return s.discard(sn.ID) })
		_, info, _, err := storage.GetInfo(ctx, key)
		if err != nil {
			return err
		}
		return s.fill(ctx, sn, digest.Digest(info.Labels[LabelChain]))
	})
	if err != nil {
		return nil, err
	}
	return s.mounts(sn), nil
}

// fill makes the directory of a new snapshot.
func (s *Snapshotter) fill(ctx context.Context, sn storage.Snapshot, chain layer.ChainID) error {
	if err := os.Mkdir(s.dir(sn.ID), 0711); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if chain != "" {
		return s.layers.Lend(chain, s.fs(sn.ID))
	}
	if err := os.Mkdir(s.fs(sn.ID), 0755); err != nil {
		return err
	}
	if sn.Kind == snapshots.KindView {
		return nil
	}
	if len(sn.ParentIDs) > 0 {
		if err := s.begin(ctx, s.fs(sn.ParentIDs[0]), s.fs(sn.ID)); err != nil {
			return err
		}
	}
	return os.Mkdir(filepath.Join(s.dir(sn.ID), "work"), 0700)
}

// begin gives the files of a new snapshot what they have from the parent's.
func (s *Snapshotter) begin(ctx context.Context, parent, files string) error {
	parent, err := filepath.EvalSymlinks(parent) // ours, or to a layer
	if err != nil {
		return err
	}
	if !s.stacks {
		return treecopy.Copy(ctx, parent, files)
	}
	m, err := filemeta.Of(parent)
	if err != nil {
		return err
	}
	return m.Set(files)
}

// Mounts says how an active snapshot or a view is mounted.
func (s *Snapshotter) Mounts(ctx context.Context, key string) ([]mount.Mount, error) {
	var sn storage.Snapshot
	err := s.store.WithTransaction(ctx, false, func(ctx context.Context) (err error) {
		sn, err = storage.GetSnapshot(ctx, key)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.mounts(sn), nil
}

func (s *Snapshotter) mounts(sn storage.Snapshot) []mount.Mount {
	active := sn.Kind == snapshots.KindActive
	switch whole := !s.stacks; {
	case active && (whole || len(sn.ParentIDs) == 0):
		return bind(s.fs(sn.ID), "rw")
	case !active && len(sn.ParentIDs) == 0:
		return bind(s.fs(sn.ID), "ro")
	case !active && (whole || len(sn.ParentIDs) == 1):
		return bind(s.lower(sn.ParentIDs[0]), "ro")
	}
	lower := make([]string, len(sn.ParentIDs))
	for i, id := range sn.ParentIDs {
		lower[i] = s.lower(id)
	}
	// Whatever the kernel's defaults are: layers hold nothing that only this mount
	// understands. That redirects are off switches metacopy off too; BuildKit, which
	// reads these options where it merges layers, does not know its name.
	options := []string{"index=off", "redirect_dir=off", "lowerdir=" + strings.Join(lower, ":")}
	if active {
		options = append(options, "upperdir="+s.fs(sn.ID), "workdir="+filepath.Join(s.dir(sn.ID), "work"))
	}
	return []mount.Mount{{Type: "overlay", Source: "overlay", Options: options}}
}

// lower is the path of a committed snapshot's files. It may be a link: BuildKit walks
// these directories itself where it merges them, and who walks follows no link, but one
// with a dot behind it.
func (s *Snapshotter) lower(id string) string { return s.fs(id) + "/." }

func bind(source, mode string) []mount.Mount {
	return []mount.Mount{{Type: "bind", Source: source, Options: []string{mode, "rbind"}}}
}

// Commit names what an active snapshot has become.
func (s *Snapshotter) Commit(ctx context.Context, name, key string, opts ...snapshots.Opt) error {
	var id string
	err := s.store.WithTransaction(ctx, false, func(ctx context.Context) (err error) {
		id, _, _, err = storage.GetInfo(ctx, key)
		return err
	})
	if err != nil {
		return err
	}
	u, err := s.usage(ctx, id)
	if err != nil {
		return err
	}
	return s.store.WithTransaction(ctx, true, func(ctx context.Context) error {
		_, err := storage.CommitActive(ctx, key, name, u, opts...)
		return err
	})
}

// Remove removes a snapshot on which no other stands. Its files are deleted in the
// background.
func (s *Snapshotter) Remove(ctx context.Context, key string) error {
	var id string
	err := s.store.WithTransaction(ctx, true, func(ctx context.Context) (err error) {
		id, _, err = storage.Remove(ctx, key)
		return err
	})
	if err != nil {
		return err
	}
	err = s.discard(id)
	if errors.Is(err, syscall.EBUSY) { // still mounted: the next Open removes it
		return nil
	}
	return err
}

// Walk calls fn for each snapshot that the filters let through.
func (s *Snapshotter) Walk(ctx context.Context, fn snapshots.WalkFunc, filters ...string) error {
	return s.store.WithTransaction(ctx, false, func(ctx context.Context) error {
		return storage.WalkInfo(ctx, fn, filters...)
	})
}
