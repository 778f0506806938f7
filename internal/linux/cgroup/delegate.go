package cgroup

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// Groups below one that is delegated, on version 2. The container's processes
// are in the first, which becomes the root of its cgroup namespace: it may make
// groups there, and its limits, in the files of the group above, are out of its
// reach. Processes that join it later are in the second: the first takes none as
// soon as it hands controllers down.
const (
	payload = "payload"
	joining = "joining"
)

// Delegate lets a container that manages groups of its own, such as systemd, do
// so in the group, which has no processes yet. On version 1 that is in a tree
// without controllers, name=systemd, which the group is in from now on. uid and
// gid are the host's numbers of the container's root, who owns what is below.
func (g *Group) Delegate(uid, gid int) (err error) {
	if !g.Begun() {
		return g.delegateLater(uid, gid)
	}
	var at string
	switch t := g.tree.(type) {
	case *v1:
		at, err = g.delegateNamed(t)
	case *v2:
		at, err = g.delegateBelow(t)
	}
	if err == nil {
		err = giveAway(at, uid, gid)
	}
	if err != nil {
		return fmt.Errorf("delegate the cgroup: %w", err)
	}
	return nil
}

// giveAway makes a group another's, who may make groups below it and move
// processes between these: the files of cgroups(7), "cgroups delegation".
func giveAway(dir string, uid, gid int) error {
	for _, name := range []string{".", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "tasks"} {
		if err := os.Chown(dir+"/"+name, uid, gid); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (g *Group) delegateBelow(t *v2) (string, error) {
	d := g.dirs[0].path
	if err := t.delegate(d); err != nil {
		return "", err
	}
	if err := makeDelegated(d); err != nil {
		return "", err
	}
	g.delegated = true
	return d + "/" + payload, nil
}

// makeDelegated makes the groups below one that is delegated.
func makeDelegated(d string) error {
	for _, name := range []string{payload, joining} {
		if err := mkdir(d + "/" + name); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

func (g *Group) delegateNamed(t *v1) (string, error) {
	if named, ok := g.dir(namedTree); ok {
		return named.path, nil
	}
	if t.named == "" {
		return "", errNoNamedTree
	}
	p := t.named
	for name := range strings.SplitSeq(g.path, "/") {
		p += "/" + name
		if err := mkdir(p); err != nil && !errors.Is(err, os.ErrExist) {
			return "", err
		}
	}
	g.dirs = append(g.dirs, dir{p, []string{namedTree}})
	return p, nil
}

const namedTree = "systemd"

var errNoNamedTree = errors.New("this host has control groups of version 1 without the hierarchy name=systemd, which systemd needs; " +
	"mount it: mkdir /sys/fs/cgroup/systemd && mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd")

// findDelegated looks where a group that was opened has been delegated.
func (g *Group) findDelegated() {
	switch t := g.tree.(type) {
	case *v1:
		if d := t.named + "/" + g.path; t.named != "" && exists(d, "cgroup.procs") {
			g.dirs = append(g.dirs, dir{d, []string{namedTree}})
		}
	case *v2:
		g.delegated = exists(g.dirs[0].path+"/"+payload, "cgroup.procs")
	}
}

// procs returns the file of the group of that name below each directory, or of
// the directory itself if the group is not delegated.
func (g *Group) procs(name string) []string {
	if g.delegated {
		name = "/" + name
	} else {
		name = ""
	}
	paths := make([]string, len(g.dirs))
	for i, d := range g.dirs {
		paths[i] = d.path + name + "/" + g.Entry()
	}
	return paths
}

// InitPath is the group of the container's first process: the group itself, or
// one below it if it is delegated.
func (g *Group) InitPath() string {
	if g.delegated {
		return g.path + "/" + payload
	}
	return g.path
}

// Entry is the name of the file in a group's directory to which a process with
// one thread writes "0" to enter. On version 1 that is "tasks": whoever writes
// itself there takes no lock, where "cgroup.procs" stops all forks of the host
// and waits for a grace period of RCU, 7 to 23 ms after an idle moment
// (cgroup_attach_lock).
func (g *Group) Entry() string {
	if _, ok := g.tree.(*v1); ok {
		return "tasks"
	}
	return "cgroup.procs"
}

// ProcsPaths returns the files to which a process writes "0" to enter, see Entry.
func (g *Group) ProcsPaths() []string { return g.procs(payload) }

// JoinPaths returns the files to which a process writes "0" that joins a running
// container.
func (g *Group) JoinPaths() []string { return g.procs(joining) }
