package layer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/confine"
	"github.com/tare-engine/tare/internal/linux/disk"
	"github.com/tare-engine/tare/internal/linux/filemeta"
	"github.com/tare-engine/tare/internal/linux/syncfs"
	"github.com/tare-engine/tare/internal/linux/untar"
)

// Batch is a set of layers that is unpacked in staging and committed together,
// with one write to disk for all. Layers of a driver that stacks may be
// unpacked at the same time and in any order.
//
//	b := s.NewBatch()
//	defer b.Close()
//	b.Unpack(ctx, "", base, r)
//	b.Unpack(ctx, layer.Chain("", base), second, r2)
//	b.Commit(ctx, top)
type Batch struct {
	s *Service

	mu     sync.Mutex
	staged map[ChainID]*Staged
	loose  map[*Staged]struct{} // without a place
}

// Staged is an unpacked layer that nobody sees yet.
type Staged struct {
	id      ChainID // "" until it has a place
	record  record
	dir     string   // holds diff/, later layer.json
	implied []string // directories without metadata of their own
}

// NewBatch begins a batch. It is closed by its maker.
func (s *Service) NewBatch() *Batch {
	return &Batch{s: s, staged: map[ChainID]*Staged{}, loose: map[*Staged]struct{}{}}
}

// Close throws away what was not committed.
func (b *Batch) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for _, st := range b.staged {
		errs = append(errs, b.s.trash.put(st.dir))
	}
	for st := range b.loose {
		errs = append(errs, b.s.trash.put(st.dir))
	}
	b.staged, b.loose = nil, nil
	return errors.Join(errs...)
}

// Unpack unpacks the layer diff on top of parent from its uncompressed tar
// stream. The caller verifies that the stream is what diff says, before Commit.
func (b *Batch) Unpack(ctx context.Context, parent ChainID, diff DiffID, r io.Reader) error {
	if err := checkChain(parent); err != nil {
		return err
	}
	st, err := b.stage(ctx, parent, r)
	if err != nil {
		return UnpackError(diff, err)
	}
	return b.Adopt(st, parent, diff)
}

// Stage unpacks a layer before anybody knows its place, which Adopt gives it.
// Only where layers are unpacked in any order (AnyOrder).
func (b *Batch) Stage(ctx context.Context, r io.Reader) (*Staged, error) {
	if b.s.driver.Form().needsParent() {
		return nil, fmt.Errorf("driver %s unpacks layers in order", b.s.driver.Name())
	}
	return b.stage(ctx, "", r)
}

// StageOn is Stage for all drivers: those that do not stack layers need to know
// what the layer lies on.
func (b *Batch) StageOn(ctx context.Context, parent ChainID, r io.Reader) (*Staged, error) {
	if err := checkChain(parent); err != nil {
		return nil, err
	}
	return b.stage(ctx, parent, r)
}

// UnpackError names the layer in an error of Stage, which could not, and makes
// it InvalidArgument if it is the archive's fault.
func UnpackError(diff DiffID, err error) error {
	if _, ok := errors.AsType[*untar.InputError](err); ok {
		return errdefs.New(errdefs.InvalidArgument, "unpack layer %s: %w", diff, err)
	}
	return fmt.Errorf("unpack layer %s: %w", diff, err)
}

// BadInput makes an error of StageOn InvalidArgument if it is the archive's fault.
func BadInput(err error) error {
	if _, ok := errors.AsType[*untar.InputError](err); ok {
		return errdefs.New(errdefs.InvalidArgument, "invalid archive: %w", err)
	}
	return fmt.Errorf("unpack layer: %w", err)
}

func (b *Batch) stage(ctx context.Context, parent ChainID, r io.Reader) (*Staged, error) {
	dir, err := os.MkdirTemp(b.s.staging(), "layer-")
	if err != nil {
		return nil, err
	}
	st := &Staged{dir: dir}
	failpoint.Hit("load/layer-staging")
	if err := b.fill(ctx, st, parent, r); err != nil {
		return nil, errors.Join(err, b.s.trash.put(dir))
	}
	failpoint.Hit("load/layer-unpacked")
	b.mu.Lock()
	defer b.mu.Unlock()
	b.loose[st] = struct{}{}
	return st, nil
}

// Adopt makes a staged layer the layer diff on top of parent.
func (b *Batch) Adopt(st *Staged, parent ChainID, diff DiffID) error {
	id := Chain(parent, diff)
	if err := errors.Join(checkChain(id), checkChain(parent)); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.loose, st)
	if b.staged[id] != nil {
		return b.s.trash.put(st.dir)
	}
	st.id, st.record = id, record{Version: recordVersion, Parent: parent, DiffID: diff, Size: st.record.Size, Disk: st.record.Disk}
	b.staged[id] = st
	return nil
}

func (b *Batch) fill(ctx context.Context, st *Staged, parent ChainID, r io.Reader) error {
	diff := filepath.Join(st.dir, "diff")
	if err := b.ground(ctx, parent, diff); err != nil {
		return err
	}
	root, written, err := b.s.openNew(ctx, diff)
	if err != nil {
		return err
	}
	defer root.Close()
	form := b.s.driver.Form()
	o := untar.Options{Whiteouts: form.whiteouts()}
	if fs, err := disk.Of(fmt.Sprintf("/proc/self/fd/%d", root.Fd())); err == nil {
		o.Bytes = max(fs.Free-fs.Free/20, 1)
	}
	res, err := unpackConfined(ctx, root, r, o)
	st.record.Size, st.record.Disk, st.implied = res.Size, res.Disk, res.Implied
	if err == nil {
		err = written()
	}
	if err == nil && !form.shares() {
		st.record.Disk, err = allocated(diff)
	}
	return err
}

// unpackConfined is where the archive meets us: on a thread that can change
// files of all owners in the staging directory and nothing else. SYS_ADMIN is
// for attributes trusted.*, overlayfs's opaque mark among them, and is there
// during those calls only.
func unpackConfined(ctx context.Context, root *os.File, r io.Reader, o untar.Options) (res untar.Result, err error) {
	o.Raise = func(f func() error) error { return confine.Raise(confine.SysAdmin, f) }
	rights := confine.Options{
		Dir:     root,
		Keep:    confine.FileCapabilities(),
		Reserve: []confine.Capability{confine.SysAdmin},
	}
	err = confine.Run(rights, func() (err error) {
		res, err = untar.Unpack(ctx, root, r, o)
		return err
	})
	return res, err
}

// ground makes diff, what the layer is unpacked into: a copy of the layers below
// for drivers that keep whole roots.
func (b *Batch) ground(ctx context.Context, parent ChainID, diff string) (err error) {
	var lower []string
	if b.s.driver.Form().needsParent() {
		if lower, err = b.lower(parent); err != nil {
			return err
		}
	}
	if err := b.s.driver.Prepare(ctx, Root{Upper: diff, Lower: lower}); err != nil || len(lower) > 0 || b.s.opens() {
		return err
	}
	return os.Chmod(diff, 0o755)
}

// lower returns the directories of a chain, staged or committed, topmost first.
func (b *Batch) lower(id ChainID) ([]string, error) {
	var dirs []string
	for {
		b.mu.Lock()
		st := b.staged[id]
		b.mu.Unlock()
		if st == nil {
			break
		}
		dirs = append(dirs, filepath.Join(st.dir, "diff"))
		if id = st.record.Parent; id == "" {
			return dirs, nil
		}
		if len(dirs) > maxLayers {
			return nil, errdefs.New(errdefs.InvalidArgument, "more than %d layers", maxLayers)
		}
	}
	c, err := b.s.chainOf(id)
	if err != nil {
		return nil, err
	}
	return append(dirs, c.lower...), nil
}

// Commit writes the staged layers to disk and makes them visible, with the
// mount points of the chains tops ready for containers. What these stand on and
// was committed before stays, also if it was to go with its last container; it
// is NotFound if it has gone. More to be written to the same disk rides along if
// it was made before.
func (b *Batch) Commit(ctx context.Context, tops ...ChainID) error {
	for _, top := range tops {
		if err := b.s.retain(b.base(top)); err != nil {
			return err
		}
	}
	order, err := b.order()
	if err != nil {
		return err
	}
	for _, st := range order {
		if err := b.finish(st); err != nil {
			return fmt.Errorf("finish layer %s: %w", st.record.DiffID, err)
		}
	}
	slices.Sort(tops) // images may differ in their configurations only
	for _, top := range slices.Compact(tops) {
		if err := b.makeInit(ctx, top); err != nil {
			return err
		}
	}
	failpoint.Hit("load/layers-finished")
	if err := syncfs.All(b.s.layers); err != nil {
		return err
	}
	failpoint.Hit("load/synced")
	if err := b.publish(order); err != nil {
		return err
	}
	failpoint.Hit("load/layers-renamed")
	return syncfs.Dir(b.s.layers)
}

// base is the part of a chain that is not staged.
func (b *Batch) base(id ChainID) ChainID {
	b.mu.Lock()
	defer b.mu.Unlock()
	for st := b.staged[id]; st != nil; st = b.staged[id] {
		id = st.record.Parent
	}
	return id
}

// order returns the staged layers, parents first.
func (b *Batch) order() ([]*Staged, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var order []*Staged
	done := map[ChainID]bool{"": true}
	for len(order) < len(b.staged) {
		before := len(order)
		for id, st := range b.staged {
			if p := st.record.Parent; done[id] || !done[p] && b.staged[p] != nil {
				continue
			}
			order = append(order, st)
			done[id] = true
		}
		if len(order) == before {
			return nil, errors.New("layers in a circle")
		}
	}
	return order, nil
}

// finish gives directories that a layer only implies the metadata that they
// have below, and writes the layer's record.
func (b *Batch) finish(st *Staged) error {
	if len(st.implied) > 0 && !b.s.driver.Form().needsParent() {
		if err := b.inherit(st); err != nil {
			return err
		}
	}
	j, err := json.Marshal(st.record)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(st.dir, recordFile), append(j, '\n'), 0600)
}

func (b *Batch) inherit(st *Staged) error {
	lower, err := b.lower(st.record.Parent)
	if err != nil {
		return err
	}
	own, err := os.Open(filepath.Join(st.dir, "diff"))
	if err != nil {
		return err
	}
	defer own.Close()
	roots := make([]*os.File, len(lower))
	for i, dir := range lower {
		if roots[i], err = os.Open(dir); err != nil {
			return err
		}
		defer roots[i].Close()
	}
	for i := len(st.implied) - 1; i >= 0; i-- { // children before parents: times stay
		if err := inheritDir(own, roots, st.implied[i]); err != nil {
			return err
		}
	}
	return nil
}

// inheritDir takes the metadata of p from the topmost of the lower directories
// that has it. What exists nowhere stays as it was made.
func inheritDir(own *os.File, lower []*os.File, p string) error {
	for _, f := range lower {
		m, err := filemeta.At(f, p)
		switch {
		case err == nil:
			err = m.SetAt(own, p)
			if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) {
				return nil // replaced later in the archive
			}
			return err
		case errors.Is(err, syscall.ENOENT) && !whitedOut(f, p):
		default: // a file or whiteout hides what is below
			return nil
		}
	}
	return nil
}

// whitedOut reports whether a layer has a file that hides p, or a directory above
// it, in the layers below.
func whitedOut(layer *os.File, p string) bool {
	for ; p != "."; p = path.Dir(p) {
		dir, base := path.Split(p)
		for _, name := range []string{".wh." + base, ".wh..wh..opq"} {
			if _, err := filemeta.At(layer, path.Join(dir, name)); errors.Is(err, syscall.ENOTDIR) { // a file
				return true
			}
		}
	}
	return false
}

// publish renames the staged layers to their places. One that has appeared
// meanwhile stays.
func (b *Batch) publish(order []*Staged) error {
	for _, st := range order {
		if err := b.s.place(st); err != nil {
			return err
		}
		failpoint.Hit("load/layer-renamed")
		b.mu.Lock()
		delete(b.staged, st.id)
		b.mu.Unlock()
	}
	return nil
}

// place renames a staged layer to its place, unless it is there.
func (s *Service) place(st *Staged) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.doomed, st.id)
	dir := s.dir(st.id)
	err := os.Rename(st.dir, dir)
	if !errors.Is(err, fs.ErrExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return err
	}
	if needed, all := s.needed(); exists(filepath.Join(dir, recordFile)) || needed[st.id] || !all {
		return s.trash.put(st.dir)
	}
	// A removal was killed half way, or went wrong.
	if err := s.trash.put(dir); err != nil {
		return err
	}
	return os.Rename(st.dir, dir)
}

// Apply unpacks one layer, verifies it and commits it.
func (s *Service) Apply(ctx context.Context, parent ChainID, diff DiffID, r io.Reader) (ChainID, error) {
	id := Chain(parent, diff)
	if s.Has(id) {
		return id, nil
	}
	b := s.NewBatch()
	defer b.Close()
	v := digest.SHA256.Digester()
	r = io.TeeReader(r, v.Hash())
	if err := b.Unpack(ctx, parent, diff, r); err != nil {
		return "", err
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return "", err
	}
	if got := v.Digest(); got != diff {
		return "", errdefs.New(errdefs.InvalidArgument, "layer has diff ID %s, expected %s", got, diff)
	}
	return id, b.Commit(ctx, id)
}
