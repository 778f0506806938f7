package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/cgroup"
	"github.com/tare-engine/tare/internal/runtime/external"
	"github.com/tare-engine/tare/internal/store"
)

// groups makes and removes the containers' control groups. They lie below the
// engine's parent, where the next engine finds them, or below that of containers
// of other runtimes, or below a parent of the user's (--cgroup-parent), which
// others use too. With the systemd driver each is a scope of systemd's,
// tare-ID.scope, in a slice. There a note on tmpfs,
// EXECROOT/containers/ID.cgroup, names them from before they are made until they
// are removed.
type groups struct {
	parent  string // the engine's
	systemd bool   // new ones are scopes
	units   cgroup.Units
	records *records
	home    external.Home // of other runtimes' containers
}

func (g *groups) path(r *Record) (string, error) {
	if g.systemd {
		return g.scope(r).Path()
	}
	parent := g.parent
	if isExternal(r) {
		parent += "/" + externalGroups
	}
	return spec.CgroupPath(parent, r.ID, r.HostConfig), nil
}

// What containers' units are called, and where they are unless a user names a
// slice (--cgroup-parent).
const (
	unitPrefix   = "tare"
	defaultSlice = "system.slice"
)

func (g *groups) scope(r *Record) cgroup.Scope {
	slice := r.HostConfig.CgroupParent
	if slice == "" {
		slice = defaultSlice
	}
	return cgroup.Scope{Units: g.units, Slice: slice, Name: unitPrefix + "-" + r.ID + ".scope", Description: "container " + r.ID}
}

// check refuses a parent that the driver cannot use, with Docker's text.
func (g *groups) check(h *container.HostConfig) error {
	if !g.systemd || h.CgroupParent == "" {
		return nil
	}
	if _, err := cgroup.SlicePath(h.CgroupParent); err != nil {
		return errdefs.New(errdefs.InvalidArgument, `cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"`)
	}
	return nil
}

// isScope reports whether the group with that path is a scope: another's name is
// an ID.
func isScope(p string) bool { return strings.HasSuffix(p, ".scope") }

// open opens a group that was made before; fs.ErrNotExist if it is gone.
func (g *groups) open(path string) (*cgroup.Group, error) {
	if isScope(path) {
		return cgroup.OpenScope(g.units, path)
	}
	return cgroup.Open(path)
}

// absent stands in for a group that is gone.
func (g *groups) absent(path string) *cgroup.Group {
	if isScope(path) {
		return cgroup.AbsentScope(g.units, path)
	}
	return cgroup.Absent(path)
}

// noted reports whether a group with that path has a note.
func (g *groups) noted(path string) bool {
	return !spec.OfEngine(path) || strings.HasPrefix(path, g.parent+"/"+externalGroups+"/")
}

func (g *groups) note(id string) string { return filepath.Join(g.records.volatile(), id+".cgroup") }

// make makes a container's groups with their limits.
func (g *groups) make(r *Record, limits *specs.LinuxResources) (*cgroup.Group, error) {
	made, err := g.makePlain(r, limits)
	if err != nil || !spec.IsSystemd(r.Config, r.HostConfig) {
		return made, err
	}
	if err := made.Delegate(int(r.IDs.HostUID(0)), int(r.IDs.HostGID(0))); err != nil {
		return nil, errors.Join(err, g.remove(r.ID, made))
	}
	return made, nil
}

func (g *groups) makePlain(r *Record, limits *specs.LinuxResources) (*cgroup.Group, error) {
	path, err := g.path(r)
	if err != nil {
		return nil, err
	}
	if !g.noted(path) {
		return cgroup.Parent(g.parent).Create(r.ID, limits)
	}
	if err := store.PutVolatile(g.note(r.ID), path); err != nil {
		return nil, err
	}
	var made *cgroup.Group
	if g.systemd {
		made, err = cgroup.NewScope(g.scope(r), limits)
	} else {
		made, err = cgroup.Create(path, limits)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) { // what is there may be what the note is about
		err = errors.Join(err, os.Remove(g.note(r.ID)))
	}
	if err != nil && r.HostConfig.CgroupParent != "" {
		return nil, fmt.Errorf("cgroup parent %q: %w", r.HostConfig.CgroupParent, err)
	}
	return made, err
}

// remove removes a container's groups. The parent stays.
func (g *groups) remove(id string, of *cgroup.Group) error {
	if err := of.Remove(); err != nil || !g.noted(of.Path()) {
		return err
	}
	return removeFile(g.note(id))
}

// removeStray kills what is in a group that no container has, and removes it.
func (g *groups) removeStray(id, path string) error {
	group, err := g.open(path)
	if errors.Is(err, fs.ErrNotExist) {
		group = g.absent(path)
	} else if err != nil {
		return err
	}
	return errors.Join(group.Kill(), g.removeExternal(id), g.remove(id, group))
}

// RemoveGroups removes the parents of an engine's groups, which must have none
// left.
func RemoveGroups(parent string) error {
	return errors.Join(cgroup.Parent(parent+"/"+externalGroups).Remove(), cgroup.Parent(parent).Remove())
}

// strayPath is where the group is of a container that may have no record any
// more.
func (g *groups) strayPath(id string) string {
	var path string
	if err := store.Get(g.note(id), &path); err != nil || path == "" {
		return g.parent + "/" + id
	}
	return path
}

// all returns the paths of all groups, by container ID.
func (g *groups) all() (map[string]string, error) {
	paths := map[string]string{}
	names, err := cgroup.Parent(g.parent).List()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		paths[name] = g.parent + "/" + name
	}
	notes, err := filepath.Glob(g.note("*"))
	if err != nil {
		return nil, err
	}
	for _, n := range notes {
		id := strings.TrimSuffix(filepath.Base(n), ".cgroup")
		paths[id] = g.strayPath(id)
	}
	return paths, nil
}
