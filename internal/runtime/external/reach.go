package external

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// mapped reports whether the container is in a user namespace. A runtime mounts the
// root as root of that, to whom our directories are closed. So it is shown, in its
// own mount namespace, the home with the same entries, but one that all may enter
// as far as the bundle.
func mapped(s *specs.Spec) bool {
	return slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
}

// Slots of the plan.
const (
	slotHome = iota
	slotTree
)

// openHome adds the steps for it. Nothing that is closed on the host is opened but
// the bundle's directory, whose files stay closed.
func (c *Container) openHome() (func(*spawn.Plan), error) {
	if err := os.Chmod(c.path(), 0o711); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(string(c.home))
	if err != nil {
		return nil, err
	}
	return func(p *spawn.Plan) {
		home := p.Str(string(c.home))
		p.Do("open the exec root", spawn.SysOpenTree, spawn.Int(atCwd), home, spawn.Int(mount.TreeCloexec)).To(slotHome)
		p.Do("another one over it", spawn.SysMount, p.Str("tmpfs"), home, p.Str("tmpfs"), spawn.Int(syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC), p.Str("mode=0711,size=64k"))
		p.Do("make bundles", spawn.SysMkdirat, spawn.Int(atCwd), p.Str(c.home.bundles()), spawn.Int(0o711))
		for _, e := range entries {
			if name := e.Name(); name != filepath.Base(c.home.bundles()) {
				c.home.keep(p, name, e.IsDir())
			}
		}
		c.home.keep(p, filepath.Join(filepath.Base(c.home.bundles()), c.ID), true)
	}, nil
}

// keep shows an entry of the home below in the one over it.
func (h Home) keep(p *spawn.Plan, name string, dir bool) {
	at := p.Str(filepath.Join(string(h), name))
	if dir {
		p.Do("make "+name, spawn.SysMkdirat, spawn.Int(atCwd), at, spawn.Int(0o700))
	} else {
		p.Do("make "+name, spawn.SysMknodat, spawn.Int(atCwd), at, spawn.Int(syscall.S_IFREG|0o600), spawn.Nil)
	}
	flags := mount.TreeClone | mount.TreeCloexec | mount.Recursive
	p.Do("copy "+name, spawn.SysOpenTree, spawn.Slot(slotHome), p.Str(name), spawn.Int(flags)).To(slotTree)
	p.Do("mount "+name, spawn.SysMoveMount, spawn.Slot(slotTree), p.Str(""), spawn.Int(atCwd), at, spawn.Int(mount.MoveFromFD))
}
