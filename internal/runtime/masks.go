package runtime

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/inroot"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// mask is a path of the container that is hidden or made read-only.
type mask struct {
	path  string
	kind  maskKind
	early bool
}

type maskKind int

const (
	maskFile maskKind = iota // shows /dev/null
	maskDir                  // shows an empty directory
	readOnly
)

// masks are those of a container, in order.
type masks []mask

// openMasks finds out which of the spec's paths exist, and what they are.
func openMasks(c Config, mounts mountTable) (all masks, err error) {
	for _, list := range [...]struct {
		field string
		paths []string
		ro    bool
	}{{"maskedPaths", c.Spec.Linux.MaskedPaths, false}, {"readonlyPaths", c.Spec.Linux.ReadonlyPaths, true}} {
		for _, p := range list.paths {
			m, ok, err := openMask(c.Root, mounts, p)
			if err != nil {
				return nil, invalid("linux.%s: %w", list.field, err)
			}
			if list.ro {
				m.kind = readOnly
			}
			if ok && !all.hide(m.path) {
				all = append(all, m)
			}
		}
	}
	return all, nil
}

// hide reports whether a directory above the path is masked already.
func (all masks) hide(p string) bool {
	for _, m := range all {
		if m.kind == maskDir && strings.HasPrefix(p, m.path+"/") {
			return true
		}
	}
	return false
}

// openMask looks at one path. In procfs and sysfs what the host has decides:
// the entries that get masked are the same in all of them.
func openMask(container *os.File, mounts mountTable, p string) (m mask, ok bool, err error) {
	if !strings.HasPrefix(p, "/") {
		return m, false, fmt.Errorf("%q is not an absolute path", p)
	}
	if root := rootOf(p); root == "/proc" || root == "/sys" {
		if top := mounts.at(root); top != nil && top.Type == roots[root] {
			return openHostMask(mounts, p, root)
		}
	}
	t, err := inroot.Resolve(container, p, inroot.Options{Mounted: mounts.mounted})
	switch {
	case errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR):
		return m, false, nil
	case err != nil:
		return m, false, err
	case t.File == nil:
		return m, false, fmt.Errorf("%q is below a file system that is made at the start", p)
	}
	defer t.File.Close()
	st, err := t.File.Stat()
	m.path = t.Path
	if err == nil && st.IsDir() {
		m.kind = maskDir
	}
	return m, true, err
}

func openHostMask(mounts mountTable, p, root string) (m mask, ok bool, err error) {
	var st syscall.Stat_t
	err = syscall.Lstat(p, &st)
	if err == syscall.ENOENT || err == syscall.ENOTDIR {
		return m, false, nil
	}
	m.path, m.early = p, mounts.allEarly(root)
	if st.Mode&syscall.S_IFMT == syscall.S_IFDIR {
		m.kind = maskDir
	}
	return m, true, err
}

// maskAll adds the masks of one part of the plan. The first of a kind takes
// the mount that is passed, the others take copies of it: before kernel 6.15
// only a mount that is attached can be copied.
func (b *builder) maskAll(early bool) error {
	attached := map[maskKind]spawn.Arg{}
	for _, m := range b.masks {
		if m.early != early {
			continue
		}
		if m.kind == readOnly {
			b.readOnlyPath(m.path)
			continue
		}
		b.target(m.path)
		if first, ok := attached[m.kind]; ok {
			flags := mount.TreeClone | mount.TreeCloexec | mount.EmptyPath
			b.Do("copy mask", spawn.SysOpenTree, first, b.empty, spawn.Int(flags)).To(slotMount)
			b.move("mask "+m.path, spawn.Slot(slotMount))
			b.close(slotMount)
			continue
		}
		f, err := b.maskSource(m.kind)
		if err != nil {
			return err
		}
		attached[m.kind] = b.pass(f)
		b.move("mask "+m.path, attached[m.kind])
	}
	return nil
}

// maskSource returns a detached mount to put over a path of the kind. A plan
// that only gets compared needs none, and a mount that is closed without ever
// having been attached costs milliseconds: the kernel waits for RCU.
func (b *builder) maskSource(k maskKind) (*os.File, error) {
	open, clone := nullDevice, func(f *os.File) (*os.File, error) { return mount.CloneOf(f, false) }
	if k == maskDir {
		open, clone = emptyDir, cloneEmpty
	}
	f, err := open()
	if err != nil || b.dry {
		return f, err
	}
	if f, err = clone(f); err != nil {
		return nil, err
	}
	return b.keep(f), nil
}

// readOnlyPath covers a path with a read-only copy of itself.
func (b *builder) readOnlyPath(p string) {
	b.target(p)
	flags := mount.TreeClone | mount.TreeCloexec | mount.EmptyPath | mount.Recursive
	b.Do("copy "+p, spawn.SysOpenTree, spawn.Slot(slotTarget), b.empty, spawn.Int(flags)).To(slotMount)
	if mount.Legacy() { // mounts below, which procfs and sysfs of a container do not have, stay as they are
		b.move("read-only "+p, spawn.Slot(slotMount))
		b.remount(p, spawn.Slot(slotMount), b.mounts.attrAt(p)|mount.ReadOnly, mount.Change{})
		b.close(slotMount)
		return
	}
	b.setAttr("read-only "+p, spawn.Slot(slotMount), mount.Change{Set: mount.ReadOnly, Recursive: true})
	b.move("read-only "+p, spawn.Slot(slotMount))
	b.close(slotMount)
}

// nullDevice is the host's /dev/null, checked to be that: a mask made of
// something else could be written through.
var nullDevice = sync.OnceValues(func() (*os.File, error) {
	f, err := os.OpenFile("/dev/null", inroot.OPath|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if sys := st.Sys().(*syscall.Stat_t); sys.Mode&syscall.S_IFMT != syscall.S_IFCHR || sys.Rdev != makedev(1, 3) {
		return nil, errors.New("/dev/null is not the null device")
	}
	return f, nil
})

// emptyDir is one empty tmpfs for all masked directories of all containers:
// memory per container grows with the number of superblocks.
var emptyDir = sync.OnceValues(newEmptyDir)

func newEmptyDir() (*os.File, error) {
	fs, err := mount.OpenFS("tmpfs")
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	for _, kv := range [][2]string{{"source", "tmpfs"}, {"nr_blocks", "1"}, {"nr_inodes", "1"}, {"mode", "0555"}} {
		if err := fs.SetString(kv[0], kv[1]); err != nil {
			return nil, err
		}
	}
	return fs.Mount(mount.ReadOnly | mount.NoSuid | mount.NoDev | mount.NoExec)
}

func cloneEmpty(f *os.File) (*os.File, error) {
	c, err := mount.CloneOf(f, false)
	if errors.Is(err, syscall.EINVAL) { // before 6.15 a detached mount cannot be copied
		return newEmptyDir()
	}
	return c, err
}
