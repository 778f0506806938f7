package runtime

import (
	"path"
	"strings"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// mountFS adds the steps that make a file system and mount it.
func (b *builder) mountFS(p *mountPoint) error {
	switch {
	case p.Type == "cgroup" || p.Type == "cgroup2":
		return b.mountCgroup(p)
	case p.Type == "":
		return invalid("mounts: %s has no type", p.Destination)
	}
	data := p.o.data
	if p.Type == "tmpfs" && p.mode != "" && !hasKey(data, "mode") {
		data = append([]string{p.mode}, data...)
	}
	if p.Type == "proc" && b.second != nil {
		if err := b.joinedProc(p); err != nil {
			return err
		}
	} else {
		b.newFS(p, p.Type, data)
	}
	if p.dest == "/dev" && p.Type == "tmpfs" {
		b.fillDev(spawn.Slot(slotMount))
	}
	b.makePoints(p)
	b.finishFS(p)
	return b.borrowDevices()
}

func hasKey(data []string, key string) bool {
	for _, d := range data {
		if k, _, _ := strings.Cut(d, "="); k == key {
			return true
		}
	}
	return false
}

// newFS makes a file system and leaves a detached mount of it in slotMount,
// not read-only yet.
func (b *builder) newFS(p *mountPoint, fstype string, data []string) {
	fs := spawn.Slot(slotFS)
	b.Do("new "+fstype, spawn.SysFsopen, b.Str(fstype), spawn.Int(mount.FSOpenCloexec)).To(slotFS)
	source := p.Source
	if source == "" {
		source = fstype
	}
	data = append([]string{"source=" + source}, data...)
	for _, d := range data {
		k, v, isString := strings.Cut(d, "=")
		if isString {
			b.Do(fstype+" "+d, spawn.SysFsconfig, fs, spawn.Int(mount.FSSetString), b.Str(k), b.Str(v), spawn.Nil)
		} else {
			b.Do(fstype+" "+d, spawn.SysFsconfig, fs, spawn.Int(mount.FSSetFlag), b.Str(k), spawn.Nil, spawn.Nil)
		}
	}
	b.createFS(p, fstype)
}

func (b *builder) createFS(p *mountPoint, fstype string) {
	fs := spawn.Slot(slotFS)
	b.Do("create "+fstype, spawn.SysFsconfig, fs, spawn.Int(mount.FSCreate), spawn.Nil, spawn.Nil, spawn.Nil)
	attr := (p.o.attr.Set | p.o.recAttr.Set) &^ mount.ReadOnly
	b.Do("detached "+fstype, spawn.SysFsmount, fs, spawn.Int(mount.FSMountCloexec), spawn.Int(attr)).To(slotMount)
	b.close(slotFS)
}

// makePoints makes the places for later mounts inside the new file system in
// slotMount, which nobody else can see yet.
func (b *builder) makePoints(p *mountPoint) {
	if p.Type != "tmpfs" {
		return
	}
	made := map[string]bool{}
	for _, m := range b.mounts {
		if m.tree != p.dest || m.dest == p.dest || b.mounts.at(p.dest) != p {
			continue
		}
		rel := strings.TrimPrefix(m.dest, p.dest+"/")
		b.makeDirs(path.Dir(rel), made)
		if m.file {
			b.Do("make "+m.dest, spawn.SysMknodat, spawn.Slot(slotMount), b.Str(rel), spawn.Int(syscall.S_IFREG|0755), spawn.Nil).Ignore(int(syscall.EEXIST))
		} else {
			b.makeDirs(rel, made)
		}
	}
	if cwd := path.Clean(b.spec.Process.Cwd); strings.HasPrefix(cwd, p.dest+"/") && !p.early {
		b.makeDirs(strings.TrimPrefix(cwd, p.dest+"/"), made)
	}
}

// makeDirs makes the directory rel and its parents in the new file system in
// slotMount.
func (b *builder) makeDirs(rel string, made map[string]bool) {
	if rel == "." || made[rel] {
		return
	}
	b.makeDirs(path.Dir(rel), made)
	made[rel] = true
	b.Do("make "+rel, spawn.SysMkdirat, spawn.Slot(slotMount), b.Str(rel), spawn.Int(0755)).Ignore(int(syscall.EEXIST))
}

// finishFS gives the mount in slotMount its last attributes and puts it into
// its place.
func (b *builder) finishFS(p *mountPoint) {
	b.sealFS(p)
	b.target(p.dest)
	b.move(p.dest, spawn.Slot(slotMount))
	b.sealLegacy(p, spawn.Slot(slotMount))
	b.close(slotMount)
}

func (b *builder) sealFS(p *mountPoint) {
	if mount.Legacy() {
		return // once it is attached: sealLegacy
	}
	if (p.o.attr.Set|p.o.recAttr.Set)&mount.ReadOnly != 0 {
		b.setAttr("read-only "+p.dest, spawn.Slot(slotMount), mount.Change{Set: mount.ReadOnly})
	}
	for _, c := range p.o.propagation {
		if c.Propagation != mount.Private { // as a new mount is
			b.setAttr("propagation of "+p.dest, spawn.Slot(slotMount), c)
		}
	}
}
