package runtime

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/inroot"
	"github.com/tare-engine/tare/internal/linux/mount"
)

// mountPoint is one mount of the spec with its place settled.
type mountPoint struct {
	specs.Mount
	o     mountOptions
	dest  string   // absolute in the container, without symbolic links
	tree  string   // where the mount is that holds dest; "/" is the root
	bound *os.File // source of a bind, or an overlay: detached
	mode  string   // permissions of a tmpfs: those of what it covers
	file  bool     // dest is a file
	early bool     // made in the first part of the plan
}

// mountTable are the mounts of a container, in order.
type mountTable []*mountPoint

// mounted tells a resolution what is mounted at a path: the tree of a bind;
// everything else exists only in the child.
func (t mountTable) mounted(p string) (*os.File, bool) {
	for _, m := range slices.Backward(t) {
		if m.dest == p {
			return m.bound, true
		}
	}
	return nil, false
}

// at returns the mount that is last mounted at p.
func (t mountTable) at(p string) *mountPoint {
	for _, m := range slices.Backward(t) {
		if m.dest == p {
			return m
		}
	}
	return nil
}

// attrAt are the attributes that the mount over the path was given; those of
// the root are none.
func (t mountTable) attrAt(p string) mount.Attr {
	for ; p != "/"; p = path.Dir(p) {
		if m := t.at(p); m != nil {
			return m.o.attr.Set | m.o.recAttr.Set
		}
	}
	return 0
}

// allEarly reports whether every mount in the tree belongs to the first part,
// so that a mask made there stays on top.
func (t mountTable) allEarly(root string) bool {
	for _, m := range t {
		if rootOf(m.dest) == root && !m.early {
			return false
		}
	}
	return true
}

// openMounts opens the sources of all binds and finds, or makes, all mount
// points, in the order of the spec: a later mount may lie inside an earlier.
func (b *builder) openMounts() error {
	b.mounts = make(mountTable, 0, len(b.spec.Mounts))
	for _, m := range b.spec.Mounts {
		p, err := b.openMount(m)
		if err != nil {
			return mountError(m, err)
		}
		b.mounts = append(b.mounts, p)
	}
	return nil
}

// mountError is Docker's text. What the caller named and what is not there is
// the caller's fault.
func mountError(m specs.Mount, err error) error {
	if errdefs.KindOf(err) != errdefs.Internal {
		return err
	}
	e := &StartError{Code: exitEngine, Text: fmt.Sprintf("%serror mounting %q to rootfs at %q: %v", createFailed, m.Source, m.Destination, err), prefix: createFailed, err: err}
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		e.Code, e.Client = exitNotFound, true
		e.Text += typeHint
	case errors.Is(err, os.ErrNotExist):
		e.Code, e.Client = exitNotFound, true
	}
	return e
}

func (b *builder) openMount(m specs.Mount) (*mountPoint, error) {
	o, err := parseOptions(m)
	if err != nil {
		return nil, err
	}
	p := &mountPoint{Mount: m, o: o}
	if b.c.Root == nil {
		return p, b.placeInCell(p)
	}
	if o.bind || m.Type == "overlay" {
		if o.bind {
			p.bound, err = b.openBind(m, o)
		} else {
			p.bound, err = openOverlay(m.Destination, o)
		}
		if err != nil {
			return nil, err
		}
		b.keep(p.bound)
		st, err := p.bound.Stat()
		if err != nil {
			return nil, err
		}
		p.file = !st.IsDir()
	}
	if err := b.place(p); err != nil {
		return nil, err
	}
	p.early = b.isEarly(p)
	return p, nil
}

// openBind returns a detached copy of the tree at source with its attributes.
// Unless the options say otherwise it shares nothing with the host.
func (b *builder) openBind(m specs.Mount, o mountOptions) (*os.File, error) {
	f, err := mount.Clone(m.Source, o.recursive)
	if err != nil {
		return nil, err
	}
	changes := o.changes()
	if o.idmap {
		ns, err := b.idmapOf(m)
		if err != nil {
			f.Close()
			return nil, err
		}
		defer ns.Close()
		changes = append(changes, mount.Change{UserNS: ns, Recursive: o.idmapRecursive})
	}
	if len(o.propagation) == 0 {
		changes = append(changes, propagations["rprivate"])
	}
	for _, c := range changes {
		if err := mount.SetAttr(f, c); err != nil {
			f.Close()
			if c.UserNS != nil {
				return nil, errdefs.New(errdefs.InvalidArgument, "mount %s at %s: the file system there cannot map owners: %w", m.Source, m.Destination, err)
			}
			return nil, err
		}
	}
	return f, nil
}

// place finds where the mount goes, and makes the mount point if it can be
// seen from here.
func (b *builder) place(p *mountPoint) error {
	kind := inroot.Dir
	if p.file {
		kind = inroot.File
	}
	t, err := inroot.Resolve(b.c.Root, p.Destination, inroot.Options{Make: kind, Owner: b.rootOwner(), NoFollow: p.o.noFollow, Mounted: b.mounts.mounted})
	if err != nil {
		return err
	}
	if t.File != nil {
		defer t.File.Close()
	}
	p.dest, p.tree = t.Path, t.Tree
	if err := checkPlace(p); err != nil || t.File == nil {
		return err
	}
	st, err := t.File.Stat()
	if err != nil {
		return err
	}
	if st.IsDir() == p.file {
		return syscall.ENOTDIR
	}
	if !t.Made {
		p.mode = fmt.Sprintf("mode=%04o", st.Sys().(*syscall.Stat_t).Mode&07777)
	}
	return nil
}

// placeInCell settles the place of a mount for a cell, which has no root yet:
// what goes into the root is left to the second part.
func (b *builder) placeInCell(p *mountPoint) error {
	p.dest, p.tree = path.Clean(p.Destination), "/"
	for q := path.Dir(p.dest); q != "/"; q = path.Dir(q) {
		if b.mounts.at(q) != nil {
			p.tree = q
			break
		}
	}
	if p.early = b.isEarly(p); !p.early {
		return invalid("mounts: %s cannot be prepared in a cell", p.Destination)
	}
	return checkPlace(p)
}

// roots are the trees that the first part of a plan prepares, with the type
// that they must have for that.
var roots = map[string]string{"/proc": "proc", "/dev": "tmpfs", "/sys": "sysfs"}

// inProc are the files of procfs that may be covered by a bind.
var inProc = []string{"/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/loadavg", "/proc/slabinfo", "/proc/net/dev", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled"}

// checkPlace refuses places where a mount would undo the isolation: /proc that
// is no procfs, and the big three reached through a symbolic link of the image.
func checkPlace(p *mountPoint) error {
	clean := path.Clean(p.Destination)
	switch {
	case p.dest == "/":
		return invalid("mounts: destination %q is the root", p.Destination)
	case p.dest != clean && (roots[clean] != "" || roots[p.dest] != ""):
		return invalid("filesystem %q must be mounted on ordinary directory", p.Destination)
	case p.dest == "/proc" && p.Type != "proc":
		return invalid("%q cannot be mounted because it is not of type proc", p.Destination)
	case strings.HasPrefix(p.dest, "/proc/") && !slices.Contains(inProc, p.dest):
		return invalid("%q cannot be mounted because it is inside /proc", p.Destination)
	}
	return nil
}

// isEarly reports whether the mount belongs to the first part of the plan: it
// is one of the roots or lies in one, needs no source, and nothing of the
// second part was in that tree before it.
func (b *builder) isEarly(p *mountPoint) bool {
	root := rootOf(p.dest)
	if p.o.bind || p.Type == "overlay" || root == "" || b.sharesMounts() || p.dest == root && p.Type != roots[root] {
		return false
	}
	top := p.dest == root
	for _, m := range b.mounts {
		if rootOf(m.dest) != root {
			continue
		}
		if !m.early {
			return false
		}
		top = top || m.dest == root
	}
	return top
}

// rootOf returns the root in which p lies, "" if in none.
func rootOf(p string) string {
	first, _, _ := strings.Cut(p[1:], "/")
	if _, ok := roots["/"+first]; ok {
		return "/" + first
	}
	return ""
}

// mountEarly adds the mounts of the first part.
func (b *builder) mountEarly() error { return b.mountAll(true) }

// mountLate adds those of the second.
func (b *builder) mountLate() error { return b.mountAll(false) }

func (b *builder) mountAll(early bool) error {
	for _, p := range b.mounts {
		if p.early != early {
			continue
		}
		b.mark(mark{kind: markMount, object: p.Destination, source: p.Source})
		if p.bound != nil {
			if p.o.noFollow {
				b.targetLink(p.dest)
			} else {
				b.target(p.dest)
			}
			b.move(p.dest, b.pass(p.bound))
		} else if err := b.mountFS(p); err != nil {
			return err
		}
	}
	b.mark(mark{})
	return nil
}
