package runtime

import (
	"os"
	"path"
	"strings"
	"sync"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

const cgroupRoot = "/sys/fs/cgroup"

// unified reports whether the host has cgroup v2 only: then the root of the
// hierarchy is where on other hosts there is a directory of hierarchies.
var unified = sync.OnceValue(func() bool {
	_, err := os.Stat(cgroupRoot + "/cgroup.controllers")
	return err == nil
})

// enterCgroups adds the steps into the container's cgroups.
//
// Where the container is to see them (v1), the directory of each hierarchy is
// opened as a detached mount, by which the child enters and which is bound
// into the container later. A mount of the hierarchy itself would cost a
// superblock per container and hierarchy.
func (b *builder) enterCgroups() {
	born := b.c.CgroupFD != nil && !b.inUserNS()
	if born {
		b.pass(b.c.CgroupFD)
		b.cgroupFD = len(b.fds) - 1
	}
	bind := b.wantsCgroupBinds()
	for i, procs := range b.c.CgroupProcs {
		name := "cgroup " + hierarchyOf(procs)
		dir, file := spawn.Int(atCwd), procs
		if bind && i < maxCgroups {
			flags := mount.TreeClone | mount.TreeCloexec
			b.Do(name, spawn.SysOpenTree, spawn.Int(atCwd), b.Str(path.Dir(procs)), spawn.Int(flags)).To(slotCgroup + i)
			dir, file = spawn.Slot(slotCgroup+i), path.Base(procs)
		}
		if !born && !b.inUserNS() { // there its starter does it
			b.write(name, dir, file, "0")
		}
	}
}

func (b *builder) wantsCgroupBinds() bool {
	if unified() {
		return false
	}
	for _, p := range b.mounts {
		if p.Type == "cgroup" {
			return true
		}
	}
	return false
}

// hierarchyOf returns the hierarchy's name in /sys/fs/cgroup/NAME/….
func hierarchyOf(procs string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(procs, cgroupRoot+"/"), "/")
	return name
}

func (b *builder) mountCgroup(p *mountPoint) error {
	if !unified() {
		return b.mountCgroupBinds(p)
	}
	if b.ns.fresh[specs.CgroupNamespace] {
		b.newFS(p, "cgroup2", nil)
		b.finishFS(p)
		return nil
	}
	// A new mount from the host's cgroup namespace would set the options of
	// the one hierarchy for the whole host: bind it.
	f, err := mount.Clone(cgroupRoot, false)
	if err != nil {
		return err
	}
	b.keep(f)
	set := p.o.attr.Set | p.o.recAttr.Set
	if err := mount.SetAttr(f, mount.Change{Set: set, Propagation: mount.Private}); err != nil {
		return err
	}
	b.target(p.dest)
	b.move(p.dest, b.pass(f))
	return nil
}

// mountCgroupBinds makes a small tmpfs and binds the container's own directory
// of each hierarchy into it.
func (b *builder) mountCgroupBinds(p *mountPoint) error {
	names := make([]string, 0, len(b.c.CgroupProcs))
	for _, procs := range b.c.CgroupProcs[:min(len(b.c.CgroupProcs), maxCgroups)] {
		names = append(names, hierarchyOf(procs))
	}
	tmpfs := *p
	tmpfs.Source, tmpfs.Type = "cgroup", "tmpfs"
	shared, dir := b.sharesHierarchies(p), spawn.Slot(slotMount)
	if shared {
		f, err := b.hierarchies(names)
		if err != nil {
			return err
		}
		dir = b.pass(f)
	} else {
		b.newFS(&tmpfs, "tmpfs", []string{"mode=755", "size=64k"})
		b.makeHierarchies(dir, names)
		b.sealFS(&tmpfs)
	}
	b.target(p.dest)
	b.move(p.dest, dir)
	attr := b.Words(spawn.Int(uint64(p.o.attr.Set|p.o.recAttr.Set)), spawn.Nil, spawn.Int(uint64(mount.Private)), spawn.Nil)
	for i, name := range names {
		m := spawn.Slot(slotCgroup + i)
		if mount.Legacy() {
			b.Do("bind "+name, spawn.SysMoveMount, m, b.empty, dir, b.Str(name), spawn.Int(mount.MoveFromFD))
			b.remount(name, m, p.o.attr.Set|p.o.recAttr.Set, mount.Change{Propagation: mount.Private})
			b.close(slotCgroup + i)
			continue
		}
		b.Do("attributes of "+name, spawn.SysMountSetattr, m, b.empty, spawn.Int(mount.EmptyPath), attr, spawn.Int(mount.AttrSize))
		b.Do("bind "+name, spawn.SysMoveMount, m, b.empty, dir, b.Str(name), spawn.Int(mount.MoveFromFD))
		b.close(slotCgroup + i)
	}
	if !shared {
		b.sealLegacy(&tmpfs, dir)
		b.close(slotMount)
	}
	return nil
}

// makeHierarchies makes the places of the hierarchies in a new tmpfs.
func (b *builder) makeHierarchies(dir spawn.Arg, names []string) {
	for _, name := range names {
		b.Do("make "+name, spawn.SysMkdirat, dir, b.Str(name), spawn.Int(0555)).Ignore(int(syscall.EEXIST))
		for controller := range strings.SplitSeq(name, ",") {
			if controller != name {
				b.Do("link "+controller, spawn.SysSymlinkat, b.Str(name), dir, b.Str(controller)).Ignore(int(syscall.EEXIST))
			}
		}
	}
}
