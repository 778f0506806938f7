package runtime

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/mount"
)

// sharedAttr is how the shared tmpfs is mounted.
const sharedAttr = mount.ReadOnly | mount.NoSuid | mount.NoDev | mount.NoExec

// sharesHierarchies reports whether the tmpfs with the places of the hierarchies,
// which is the same for all containers, may be the same file system: a super block
// costs a container 10 KB, and each other container's memory group 16 bytes and
// more. Whoever has CAP_SYS_ADMIN could make it writable, for all (as a privileged exec
// can, which has the host's rights anyway).
func (b *builder) sharesHierarchies(p *mountPoint) bool {
	c := b.spec.Process.Capabilities
	return p.o.attr.Set|p.o.recAttr.Set == sharedAttr && !mount.Legacy() && !b.inUserNS() && c != nil && !slices.Contains(c.Bounding, "CAP_SYS_ADMIN")
}

// hierarchies returns a detached mount of the shared tmpfs. A plan that only gets
// compared needs none: see maskSource.
func (b *builder) hierarchies(names []string) (*os.File, error) {
	f, err := hierarchyDirs.of(names)
	if err != nil || b.dry {
		return f, err
	}
	c, err := mount.CloneOf(f, false)
	if errors.Is(err, syscall.EINVAL) { // before 6.15 a detached mount cannot be copied
		c, err = newHierarchyDir(names)
	}
	if err != nil {
		return nil, err
	}
	return b.keep(c), nil
}

// hierarchyDirs are made at first use and kept: one, as a host has the same
// hierarchies all the time.
var hierarchyDirs = &dirsByNames{made: map[string]*os.File{}}

type dirsByNames struct {
	mu   sync.Mutex
	made map[string]*os.File // +checklocks:mu
}

func (d *dirsByNames) of(names []string) (*os.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := strings.Join(names, " ")
	if f := d.made[key]; f != nil {
		return f, nil
	}
	f, err := newHierarchyDir(names)
	if err == nil {
		d.made[key] = f
	}
	return f, err
}

// newHierarchyDir makes a tmpfs with a directory for each hierarchy, and a link
// for each controller of one that has several.
func newHierarchyDir(names []string) (_ *os.File, err error) {
	fs, err := mount.OpenFS("tmpfs")
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	for _, kv := range [][2]string{{"source", "cgroup"}, {"mode", "755"}, {"size", "64k"}} {
		if err := fs.SetString(kv[0], kv[1]); err != nil {
			return nil, err
		}
	}
	f, err := fs.Mount(mount.NoSuid | mount.NoDev | mount.NoExec)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(fillHierarchyDir(f, names), mount.SetAttr(f, mount.Change{Set: sharedAttr})); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func fillHierarchyDir(f *os.File, names []string) error {
	dir, err := os.OpenRoot("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, name := range names {
		if err := dir.Mkdir(name, 0o555); err != nil {
			return err
		}
		for controller := range strings.SplitSeq(name, ",") {
			if controller == name {
				continue
			}
			if err := dir.Symlink(name, controller); err != nil {
				return err
			}
		}
	}
	return nil
}
