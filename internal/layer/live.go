package layer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/undo"
	"github.com/tare-engine/tare/internal/union"
	"github.com/tare-engine/tare/internal/union/mnt"
)

// Changer is what a driver is besides whose mounted roots get other branches.
type Changer interface {
	// UnionID names the union that a container's root was mounted as last.
	UnionID(r Root) (string, error)
}

// Part says what a branch is to a container.
type Part string

// The parts.
const (
	Own         Part = "container"    // what it has changed
	MountPoints Part = "mount points" // of the engine
	OfImage     Part = "image"        // a layer of its image
	OfAdded     Part = "added image"  // a layer of one that was added
	Directory   Part = "directory"    // one of the host that was added
)

// Branch is one of a mounted root.
type Branch struct {
	union.Branch
	Part  Part
	Chain ChainID // of OfAdded: the image's
}

// Live is the mounted root of a container, whose branches can change. What comes
// stays until the container ends; layers of images are kept as long, at least.
type Live struct {
	s  *Service
	id string
	r  Root
	u  mnt.Union
}

// Live returns the root of a container that runs; path leads into it, and ns has
// its ids or is nil. With drivers that mount no unions it is NotImplemented.
func (s *Service) Live(ctx context.Context, id, path string, ns *os.File) (*Live, error) {
	d, ok := s.driver.(Changer)
	if !ok {
		return nil, errdefs.New(errdefs.NotImplemented, "the layers of container %s cannot change: its storage driver is %s; start the engine with --storage-driver union", id, s.driver.Name())
	}
	r, err := s.rootOf(ctx, id)
	if err != nil {
		return nil, err
	}
	l := &Live{s: s, id: id, r: r, u: mnt.Union{Path: path, NS: ns}}
	l.u.ID, err = d.UnionID(r)
	return l, err
}

// Branches lists the branches, topmost first.
func (l *Live) Branches() ([]Branch, error) {
	list, err := l.present()
	if err != nil {
		return nil, err
	}
	owners, err := l.owners()
	if err != nil {
		return nil, err
	}
	all := make([]Branch, len(list))
	for i, b := range list {
		all[i] = Branch{Branch: b, Part: Directory}
		switch {
		case b.Dir == l.r.Upper:
			all[i].Part = Own
		case b.Dir == l.r.mountPoints():
			all[i].Part = MountPoints
		case slices.Contains(l.r.image(), b.Dir):
			all[i].Part = OfImage
		case owners[b.Dir] != "":
			all[i].Part, all[i].Chain = OfAdded, owners[b.Dir]
		}
	}
	return all, nil
}

// present are the branches as the union has them.
func (l *Live) present() ([]union.Branch, error) {
	list, err := l.u.Branches()
	return list, refused(err)
}

// owners says to which added chain a directory of layers belongs.
func (l *Live) owners() (map[string]ChainID, error) {
	owners := map[string]ChainID{}
	for _, id := range l.s.addedTo(l.id) {
		c, err := l.s.chainOf(id)
		if err != nil {
			return nil, err
		}
		for _, dir := range c.lower {
			owners[dir] = id
		}
	}
	return owners, nil
}

// AddChain puts the layers of a chain, all or none, at an index; -1 is below all
// others. Those that are there already stay where they are.
func (l *Live) AddChain(index int, id ChainID) (err error) {
	var u undo.Stack
	defer u.Run(&err)
	noted := slices.Contains(l.s.addedTo(l.id), id) // maybe by an engine that was killed then
	c, err := l.s.addTo(l.id, id)
	if err != nil {
		return err
	}
	if !noted {
		u.Add(func() error { return l.s.takeFrom(l.id, id) })
	}
	failpoint.Hit("layer/added-noted")
	present, err := l.present()
	if err != nil {
		return err
	}
	var list []union.Branch
	for _, dir := range c.lower {
		if union.Index(present, dir) < 0 {
			list = append(list, union.Branch{Dir: dir, Perm: union.RR, WH: true})
		}
	}
	if len(list) == 0 {
		return errdefs.New(errdefs.Conflict, "container %s has all of its layers already", l.id)
	}
	return refused(l.u.Add(index, list...))
}

// TakeChain takes away the layers of a chain that AddChain has brought, but those
// that another one has too.
func (l *Live) TakeChain(id ChainID) error {
	if !slices.Contains(l.s.addedTo(l.id), id) {
		return errdefs.New(errdefs.NotFound, "its layers were not added to container %s", l.id)
	}
	dirs, err := l.alone(id)
	if err != nil {
		return err
	}
	if len(dirs) > 0 {
		if err := l.u.Delete(dirs...); err != nil {
			return refused(err)
		}
	}
	failpoint.Hit("layer/added-gone")
	return l.s.takeFrom(l.id, id)
}

// alone lists the branches that are there because of an added chain only.
func (l *Live) alone(id ChainID) (dirs []string, err error) {
	c, err := l.s.chainOf(id)
	if err != nil {
		return nil, err
	}
	kept := slices.Clone(l.r.image())
	for _, o := range l.s.addedTo(l.id) {
		other, err := l.s.chainOf(o)
		if err != nil {
			return nil, err
		}
		if o != id {
			kept = append(kept, other.lower...)
		}
	}
	present, err := l.present()
	if err != nil {
		return nil, err
	}
	for _, b := range present {
		if slices.Contains(c.lower, b.Dir) && !slices.Contains(kept, b.Dir) {
			dirs = append(dirs, b.Dir)
		}
	}
	return dirs, nil
}

// AddDir puts a directory of the host at an index; -1 is below all others.
func (l *Live) AddDir(index int, b union.Branch) error {
	real, err := filepath.EvalSymlinks(b.Dir)
	if err != nil {
		return errdefs.New(errdefs.InvalidArgument, "branch %s: %w", b.Dir, err)
	}
	for _, ours := range append([]string{filepath.Dir(l.s.layers), l.s.containers}, l.s.private...) {
		if ours, err := filepath.EvalSymlinks(ours); err == nil && (real == ours || within(real, ours) || within(ours, real)) {
			return errdefs.New(errdefs.InvalidArgument, "branch %s: the engine has its own files in %s; name an image to add its layers", b.Dir, ours)
		}
	}
	if real == "/dev" { // of whatever file system it is
		return errdefs.New(errdefs.InvalidArgument, "branch %s: devices of the host are no files for a container; --device gives it some", b.Dir)
	}
	b.Dir = real
	return refused(l.u.Add(index, b))
}

// within tells whether path a lies below path b; both are clean.
func within(a, b string) bool { return b == "/" || strings.HasPrefix(a, b+"/") }

// ModifyDir changes what the union may do with a directory of the host.
func (l *Live) ModifyDir(b union.Branch) error {
	found, err := l.find(b.Dir)
	if err != nil {
		return err
	}
	if found.Part != Directory {
		return errdefs.New(errdefs.InvalidArgument, "branch %s of container %s stays read-only: it is a layer of an image", b.Dir, l.id)
	}
	return refused(l.u.Modify(b))
}

// TakeDir takes a directory of the host away; of a layer of an added image, all
// that came with it.
func (l *Live) TakeDir(dir string) error {
	found, err := l.find(dir)
	if err != nil {
		return err
	}
	if found.Part == OfAdded {
		return l.TakeChain(found.Chain)
	}
	return refused(l.u.Delete(dir))
}

// find finds a branch that was added.
func (l *Live) find(dir string) (Branch, error) {
	list, err := l.Branches()
	if err != nil {
		return Branch{}, err
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	i := slices.IndexFunc(list, func(b Branch) bool { return b.Dir == filepath.Clean(dir) })
	switch {
	case i < 0:
		return Branch{}, errdefs.New(errdefs.NotFound, "container %s has no branch %s", l.id, dir)
	case list[i].Part != Directory && list[i].Part != OfAdded:
		return Branch{}, errdefs.New(errdefs.InvalidArgument, "branch %s of container %s was not added: it is of its %s", dir, l.id, list[i].Part)
	}
	return list[i], nil
}

// SetCreate changes which writable branch gets something new.
func (l *Live) SetCreate(p union.Placement) error { return refused(l.u.SetCreate(p)) }

// refused says whose fault an error of a union is.
func refused(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, mnt.ErrKilled):
		return errdefs.New(errdefs.Unavailable, "%w", err)
	case errors.Is(err, mnt.ErrNoServer):
		return errdefs.New(errdefs.Unavailable, "the root of the container is gone: %w; start it again", err)
	case errors.Is(err, syscall.EBUSY):
		return errdefs.New(errdefs.Conflict, "%w", err)
	}
	return errdefs.New(errdefs.InvalidArgument, "%w", err)
}
