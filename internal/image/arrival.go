package image

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"syscall"

	"github.com/docker/go-units"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/tare-engine/tare/internal/content"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/disk"
)

// arrival is what comes in: blobs and layers in staging, which become visible
// together.
type arrival struct {
	s     *Service
	stage *content.Stage
	batch *layer.Batch
}

func (s *Service) newArrival() (*arrival, error) {
	stage, err := s.content.NewStage()
	if err != nil {
		return nil, err
	}
	return &arrival{s: s, stage: stage, batch: s.layers.NewBatch()}, nil
}

// close throws away what was not kept.
func (a *arrival) close() error { return errors.Join(a.batch.Close(), a.stage.Close()) }

// keep makes the images visible, whose layers are unpacked: all or none.
// Preconditions: the change token is held.
func (a *arrival) keep(ctx context.Context, list []*candidate) error {
	if err := a.makeRoom(ctx, list); err != nil {
		return err
	}
	if err := a.addBlobs(list); err != nil {
		return err
	}
	if err := a.s.mark(); err != nil {
		return err
	}
	failpoint.Hit("load/marked")
	if err := a.publish(ctx, list); err != nil {
		return errors.Join(err, a.s.sweep(context.WithoutCancel(ctx)))
	}
	return nil
}

// unpackers is a group for layers that are unpacked, two at a time or more.
func (s *Service) unpackers(ctx context.Context) (*errgroup.Group, context.Context) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(2, goruntime.GOMAXPROCS(0)))
	if !s.layers.AnyOrder() {
		g.SetLimit(1) // each layer needs the one below
	}
	return g, ctx
}

// roomFor refuses what does not fit on the disk. layers says of which layers that
// is how much.
func (s *Service) roomFor(layers string, need int64) error {
	fs, err := disk.Of(s.root)
	if err != nil || need <= fs.Free {
		return err
	}
	return fmt.Errorf("%s %s, and %s has %s free: %w", layers,
		units.HumanSize(float64(need)), s.root, units.HumanSize(float64(fs.Free)), syscall.ENOSPC)
}

// errVanished says that something that did not have to come was removed
// meanwhile.
var errVanished = errors.New("a part of the image was removed while it came")

// whileVanishing calls f until nothing has vanished that f found, three times at
// the most.
func whileVanishing(f func() error) (err error) {
	const attempts = 3
	for range attempts {
		if err = f(); !errors.Is(err, errVanished) {
			break
		}
	}
	return err
}

// stageBytes writes a document to staging.
func stageBytes(stage *content.Stage, b []byte) (*member, error) {
	f, err := stage.Create()
	if err != nil {
		return nil, err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return &member{path: f.Name(), size: int64(len(b)), digest: digest.FromBytes(b)}, nil
}

// addBlobs puts what is not yet stored on the list of what becomes visible.
// Documents take the place of those that are stored: they are small, and sound.
func (a *arrival) addBlobs(list []*candidate) error {
	for _, c := range list {
		if err := a.stage.Add(c.config.digest, c.config.path); err != nil {
			return err
		}
		for _, m := range c.layers {
			if a.s.content.HasWhole(m.digest, m.size) {
				continue
			}
			if err := a.stage.Add(m.digest, m.path); err != nil {
				return err
			}
		}
		for _, b := range append([][]byte{c.manifest}, c.around...) {
			if _, err := a.stage.AddBytes(b); err != nil {
				return err
			}
		}
	}
	return nil
}

// publish makes everything visible: one write to disk, then names.
func (a *arrival) publish(ctx context.Context, list []*candidate) error {
	ctx = context.WithoutCancel(ctx) // short, and worse half done than done
	tops := make([]layer.ChainID, 0, len(list))
	for _, c := range list {
		tops = append(tops, c.parts.top())
	}
	err := a.batch.Commit(ctx, tops...) // syncs the blobs as well: one file system
	if errdefs.Is(err, errdefs.NotFound) {
		return errVanished
	}
	if err != nil {
		return err
	}
	if err := a.stage.Publish(); err != nil {
		return err
	}
	failpoint.Hit("load/blobs-renamed")
	before := a.s.db.view.Load()
	err = a.s.db.update(ctx, func(tx *transaction) error {
		for _, c := range list {
			if err := nameLoaded(tx, c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	failpoint.Hit("load/named")
	a.s.tidy(ctx, before)
	return nil
}

// nameLoaded points a loaded image's names at it.
func nameLoaded(tx *transaction, c *candidate) error {
	for _, ref := range c.names {
		if err := tx.add(ref, c.name()); err != nil {
			return err
		}
	}
	return tx.dangle(c.name()) // does nothing if it has a name
}
