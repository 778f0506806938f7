// Package cgroup makes, limits, freezes, kills, reads and removes control
// groups, on version 1 (several trees, one a controller or two), on version 2
// (one tree) and on hybrids of both (which count as version 1).
//
// A group is named by its path, the same in every tree:
//
//	OWN               a Parent: it has the groups of one engine and no others
//	OWN/ID            a group of its
//	ANY/PATH/ID       a group below what others have too; that is made where it is
//	                  missing, is otherwise left alone, and stays
//	SLICES/NAME.scope a group of which systemd knows, see Scope
//
// The exception is version 1's devices controller. Its rules cost 15 writes a
// group, but a new group inherits its parent's rules. So an own parent has two
// below it with rules of their own, and only there:
//
//	OWN/d/ID          groups with the default rules: nothing to write
//	OWN/p/ID          groups with all devices, or with more than the default
//
// A group that is delegated (systemd in a container) has more, see Delegate.
//
// Nothing here waits for a disk, and nothing without a bound. Files are
// written directly: eight mkdirs and the limits take 0.3 ms. A process enters a
// group by writing to the files of ProcsPaths, or is born in it (FD and
// OpenToJoin, version 2 only).
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Group is a control group in all trees of the host.
type Group struct {
	path string
	tree tree
	dirs []dir
	own  bool     // it is a Parent's
	fd   *os.File // see FD
	unit *unit    // of a Scope; else nil

	delegated bool // see Delegate
}

// dir is a group's directory in one tree.
type dir struct {
	path        string
	controllers []string
}

// tree is what differs between the versions.
type tree interface {
	// layout names the directories of a group. One of an own parent's may inherit
	// device rules.
	layout(path string, devices []specs.LinuxDeviceCgroup, own bool) []dir
	// layouts names all directories that a group may have.
	layouts(path string) []dir
	// prepare makes the parent of groups; of an own one what they inherit, too.
	prepare(parent string, own bool) error
	version() int // 1 or 2
	// limits are the files that apply writes, without device rules.
	limits(g *Group, r *specs.LinuxResources, fresh bool) (limits, error)
	// apply writes limits. A fresh group has none yet.
	apply(g *Group, r *specs.LinuxResources, fresh bool) error
	freeze(g *Group, frozen bool) error
	frozen(g *Group) (bool, error)
	kill(g *Group) error
	stats(g *Group) (*Stats, error)
	oomKills(g *Group) (uint64, error)
	watchOOM(g *Group) (*OOM, error)
	features(parent string) Features
}

// prepared are the parents made by this process. They are made under a lock: a
// group whose parent is half made would inherit half of the rules.
var prepared sync.Mutex

// Parent is the path of a parent of groups that belongs to one engine alone: it
// bounds the tasks of all its groups together, and lets them inherit what is the
// same for most.
type Parent string

// Create makes a group below the parent, which is made where it is missing, and
// sets its limits. A group that exists is an error (fs.ErrExist). If Create fails
// nothing of the group is left.
func (p Parent) Create(name string, r *specs.LinuxResources) (*Group, error) {
	t, err := host()
	if err != nil {
		return nil, err
	}
	return create(t, string(p)+"/"+name, r, true)
}

// Create is Parent.Create for a group below a parent that others use too.
func Create(p string, r *specs.LinuxResources) (*Group, error) {
	t, err := host()
	if err != nil {
		return nil, err
	}
	return create(t, p, r, false)
}

func create(t tree, p string, r *specs.LinuxResources, own bool) (*Group, error) {
	if err := checkPath(p); err != nil {
		return nil, err
	}
	if r == nil {
		r = &specs.LinuxResources{}
	}
	g := &Group{path: p, tree: t, own: own, dirs: t.layout(p, r.Devices, own)}
	if !own && strings.Contains(p, "/") {
		if err := prepare(t, path.Dir(p), false); err != nil {
			return nil, err
		}
	}
	if err := g.mkdir(); err != nil {
		return nil, err
	}
	var err error
	if !own { // nobody says that its parent hands processors down
		err = g.fillCpuset()
	}
	if err == nil {
		err = t.apply(g, r, true)
	}
	if err != nil {
		return nil, errors.Join(err, g.Remove())
	}
	return g, nil
}

// mkdir makes all directories of the group or none.
func (g *Group) mkdir() error {
	for i, d := range g.dirs {
		err := mkdir(d.path)
		if errors.Is(err, os.ErrNotExist) {
			if err = prepare(g.tree, path.Dir(g.path), g.own); err == nil {
				err = mkdir(d.path)
			}
		}
		if err != nil {
			undo := Group{path: g.path, tree: g.tree, dirs: g.dirs[:i]}
			return errors.Join(err, undo.Remove())
		}
	}
	return nil
}

// Prepare makes the parent. It may be called again at any time.
func (p Parent) Prepare() error {
	t, err := host()
	if err != nil {
		return err
	}
	if err := checkPath(string(p)); err != nil {
		return err
	}
	return prepare(t, string(p), true)
}

func prepare(t tree, parent string, own bool) error {
	prepared.Lock()
	defer prepared.Unlock()
	return t.prepare(parent, own)
}

// Open returns a group that was created before, by this process or another.
// It returns fs.ErrNotExist if no tree has it.
func Open(p string) (*Group, error) {
	t, err := host()
	if err != nil {
		return nil, err
	}
	return open(t, p)
}

func open(t tree, p string) (*Group, error) {
	if err := checkPath(p); err != nil {
		return nil, err
	}
	g := &Group{path: p, tree: t}
	for _, d := range t.layouts(p) {
		if _, err := os.Lstat(d.path); err == nil {
			g.dirs = append(g.dirs, d)
		}
	}
	if len(g.dirs) == 0 {
		return nil, fmt.Errorf("cgroup %s: %w", p, os.ErrNotExist)
	}
	g.findDelegated()
	return g, nil
}

// List returns the names of the groups below the parent in any tree, sorted:
// what an engine compares with its records when it starts.
func (p Parent) List() ([]string, error) {
	t, err := host()
	if err != nil {
		return nil, err
	}
	return list(t, string(p))
}

func list(t tree, parent string) ([]string, error) {
	if err := checkPath(parent); err != nil {
		return nil, err
	}
	var names []string
	for _, d := range t.layouts(path.Join(parent, "x")) {
		entries, err := os.ReadDir(path.Dir(d.path))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			if e.IsDir() && e.Name() != defaultRules && e.Name() != ownRules {
				names = append(names, e.Name())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Remove removes the parent, which must have no groups left.
func (p Parent) Remove() error {
	t, err := host()
	if err != nil {
		return err
	}
	if err := checkPath(string(p)); err != nil {
		return err
	}
	return removeParent(t, string(p))
}

func removeParent(t tree, parent string) error {
	var errs []error
	for _, d := range t.layouts(parent + "/x") {
		errs = append(errs, rmdir(path.Dir(d.path)))
	}
	if v, ok := t.(*v1); ok {
		for _, root := range []string{v.named, v.unified} {
			if root != "" {
				errs = append(errs, rmdir(root+"/"+parent))
			}
		}
	}
	return errors.Join(errs...)
}

// Path is the group's name, as given to Create.
func (g *Group) Path() string { return g.path }

// Mount is a directory of the group with the place below /sys/fs/cgroup where
// a container expects it ("" for version 2's only tree).
type Mount struct{ Source, Name string }

// Mounts returns the group's directories for a container's /sys/fs/cgroup.
func (g *Group) Mounts() []Mount {
	mounts := make([]Mount, len(g.dirs))
	for i, d := range g.dirs {
		mounts[i] = Mount{Source: d.path, Name: strings.Join(d.controllers, ",")}
	}
	return mounts
}

// FD returns the group's directory for CLONE_INTO_CGROUP, nil on version 1,
// which cannot do that. The group owns it: Close closes it.
func (g *Group) FD() *os.File {
	if g.fd == nil {
		g.fd = g.open(payload)
	}
	return g.fd
}

// OpenToJoin opens the directory in which a process is born, by
// CLONE_INTO_CGROUP, that joins a running container; nil on version 1. The
// caller closes it.
func (g *Group) OpenToJoin() *os.File { return g.open(joining) }

// open opens the directory of the group of that name, or of the group itself if
// it is not delegated; nil if that is not possible: a child enters by writing
// to a file then.
func (g *Group) open(name string) *os.File {
	t, ok := g.tree.(*v2)
	if !ok || len(g.dirs) == 0 || !g.Begun() {
		return nil
	}
	dir := t.root + "/" + g.path
	if g.delegated {
		dir += "/" + name
	}
	f, _ := os.Open(dir)
	return f
}

// Close gives back the descriptor of FD. The group stays.
func (g *Group) Close() error {
	if g.fd == nil {
		return nil
	}
	f := g.fd
	g.fd = nil
	return f.Close()
}

// Absent returns a stand-in for a group that is gone: it has no processes and
// no limits, and is easily removed.
func Absent(p string) *Group { return &Group{path: p, tree: absent{}} }

// absent is the tree of groups that are gone.
type absent struct{}

func (absent) layout(string, []specs.LinuxDeviceCgroup, bool) []dir { return nil }
func (absent) layouts(string) []dir                                 { return nil }
func (absent) prepare(string, bool) error                           { return os.ErrNotExist }
func (absent) version() int                                         { return 0 }
func (absent) limits(*Group, *specs.LinuxResources, bool) (limits, error) {
	return nil, os.ErrNotExist
}
func (absent) apply(*Group, *specs.LinuxResources, bool) error { return os.ErrNotExist }
func (absent) freeze(_ *Group, frozen bool) error {
	if frozen {
		return os.ErrNotExist
	}
	return nil
}
func (absent) frozen(*Group) (bool, error)     { return false, nil }
func (absent) kill(*Group) error               { return nil }
func (absent) stats(*Group) (*Stats, error)    { return nil, os.ErrNotExist }
func (absent) oomKills(*Group) (uint64, error) { return 0, nil }
func (absent) features(string) Features        { return Features{} }

// Update changes the limits that r sets, one after the other; device rules stay
// as they are. If one is refused those before it are in force.
func (g *Group) Update(r *specs.LinuxResources) error {
	// What systemd makes of them, rounded, is overwritten.
	if err := g.tell(r); err != nil {
		return err
	}
	return g.tree.apply(g, r, false)
}

// Freeze stops all processes of the group and waits, with a bound, until they
// stand.
func (g *Group) Freeze() error { return g.tree.freeze(g, true) }

// Thaw lets frozen processes go on.
func (g *Group) Thaw() error { return g.tree.freeze(g, false) }

// Frozen reports whether the group is frozen.
func (g *Group) Frozen() (bool, error) { return g.tree.frozen(g) }

// Kill sends SIGKILL to all processes of the group and of those below it, also
// to those that are forked meanwhile or are frozen. It does not wait for their
// end.
func (g *Group) Kill() error { return g.tree.kill(g) }

// Stats reads the group's counters.
func (g *Group) Stats() (*Stats, error) { return g.tree.stats(g) }

// OOMKills counts the processes of the group that the kernel has killed for
// want of memory, the container's first one or any other.
func (g *Group) OOMKills() (uint64, error) { return g.tree.oomKills(g) }

// HostFeatures says which limits groups can have on this host. It looks once,
// at a group that it makes and removes: the root of a tree lacks most files.
var HostFeatures = sync.OnceValues(func() (Features, error) {
	t, err := host()
	if err != nil {
		return Features{}, err
	}
	parent := fmt.Sprintf("probe-%d", os.Getpid())
	if err := prepare(t, parent, false); err != nil {
		return Features{}, errors.Join(err, removeParent(t, parent))
	}
	return t.features(parent), removeParent(t, parent)
})

// Features are the limits that this kernel offers.
type Features struct {
	Version                                            int // 1 or 2
	Memory, Swap, Reservation, Swappiness, OOMDisable  bool
	CPUShares, CPUQuota, CPURealtime, Cpuset           bool
	CPUBurst, CPUIdle                                  bool // since 5.14, 5.15
	Pids, Weight, WeightDevice, Throttle, Huge, Freeze bool
}

// checkPath accepts relative, clean paths. They are made by us or come from
// --cgroup-parent.
func checkPath(p string) error {
	if p == "" || p == "." || path.IsAbs(p) || path.Clean(p) != p || p == ".." || strings.HasPrefix(p, "../") || strings.ContainsAny(p, "\n\x00") {
		return fmt.Errorf("invalid cgroup path %q", p)
	}
	return nil
}
