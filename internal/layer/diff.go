package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/idrange"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/linux/totar"
)

// Diff writes what a container has changed as a layer: applied on the
// container's chain, it gives the container's root without the engine's mount
// points. The container may be running; what vanishes meanwhile is left out.
// ids are those that it was prepared with.
func (s *Service) Diff(ctx context.Context, id string, ids *idrange.Map, out io.Writer) error {
	r, err := s.rootOf(ctx, id)
	if err != nil {
		return err
	}
	o := s.inside(ids)
	o.Root = len(r.Lower) == 1 // only the mount points are below
	return treeError(s.driver.Diff(ctx, r, out, o))
}

// DiffUpper is Diff of a driver whose upper directories hold what has changed and
// nothing else.
func DiffUpper(ctx context.Context, r Root, out io.Writer, o totar.Options) error {
	upper, err := os.Open(r.Upper)
	if err != nil {
		return err
	}
	defer upper.Close()
	var below *os.File
	if len(r.Lower) > 0 {
		if below, err = os.Open(r.Lower[0]); err != nil {
			return err
		}
		defer below.Close()
	}
	return totar.Upper(ctx, upper, below, out, o)
}

// DiffChain writes the topmost layer of a chain, as it lies unpacked. Whether
// it has its diff ID is for the caller to see: a layer that another engine made
// may have its entries in another order.
func (s *Service) DiffChain(ctx context.Context, id ChainID, out io.Writer) error {
	c, err := s.chainOf(id)
	if err != nil {
		return err
	}
	if len(c.lower) == 0 {
		return errdefs.New(errdefs.InvalidArgument, "the empty chain has no layer")
	}
	r := Root{Upper: filepath.Join(s.dir(id), "diff"), Lower: c.lower[1:]}
	return treeError(s.driver.Diff(ctx, r, out, totar.Options{}))
}

// Look returns a read-only mount of what a container sees, attached nowhere, in
// which files have the owners that the host sees. Unlike what Mount returns it may
// be there beside the mount on which the container runs. The caller closes it.
func (s *Service) Look(ctx context.Context, id string, ns *os.File) (*os.File, error) {
	r, err := s.rootOf(ctx, id)
	if err != nil {
		return nil, err
	}
	r.UserNS = ns
	look := s.driver.Whole
	if s.driver.Form().mapsOwn() {
		look = s.driver.Mount
	}
	m, err := look(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("mount root of container %s: %w", id, err)
	}
	if err := mount.SetAttr(m, mount.Change{Set: mount.ReadOnly}); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// Export writes all files that a container sees, without what is mounted into
// it, as a tar stream. ns and ids are those that it was prepared with.
func (s *Service) Export(ctx context.Context, id string, ns *os.File, ids *idrange.Map, out io.Writer) error {
	r, err := s.rootOf(ctx, id)
	if err != nil {
		return err
	}
	r.UserNS = ns
	m, err := s.driver.Whole(ctx, r)
	if err != nil {
		return fmt.Errorf("mount root of container %s: %w", id, err)
	}
	defer m.Close()
	if err := mount.SetAttr(m, mount.Change{Set: mount.NoDev}); err != nil {
		return err
	}
	o := s.inside(ids)
	o.Inert, o.Seconds = true, true // as with Docker, whose clients get it
	return treeError(totar.Tree(ctx, m, out, o))
}

// ExportChain writes all files of a chain as a tar stream.
func (s *Service) ExportChain(ctx context.Context, id ChainID, out io.Writer) error {
	m, err := s.View(ctx, id)
	if err != nil {
		return err
	}
	defer m.Close()
	return treeError(totar.Tree(ctx, m, out, totar.Options{}))
}

// inside maps owners as the host sees them back, which a container's own layer
// has if it is not mounted with its ids mapped.
func (s *Service) inside(ids *idrange.Map) totar.Options {
	if ids == nil || s.driver.Form().mapsOwn() {
		return totar.Options{}
	}
	return totar.Options{UID: ids.UID, GID: ids.GID}
}

// treeError makes what is wrong with the files somebody else's fault.
func treeError(err error) error {
	if _, ok := errors.AsType[*totar.TreeError](err); ok {
		return errdefs.New(errdefs.InvalidArgument, "no archive can hold these files: %w", err)
	}
	return err
}
