package runtime

import (
	"os"
	"path"
	"strings"
	"sync"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/device"
	"github.com/tare-engine/tare/internal/linux/inroot"
	"github.com/tare-engine/tare/internal/linux/mount"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// defaultDevices are those that the OCI spec wants in every container.
var defaultDevices = []specs.LinuxDevice{
	{Path: "/dev/null", Type: "c", Major: 1, Minor: 3},
	{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5},
	{Path: "/dev/full", Type: "c", Major: 1, Minor: 7},
	{Path: "/dev/random", Type: "c", Major: 1, Minor: 8},
	{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9},
	{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
}

// devLinks are the symbolic links in /dev.
var devLinks = [][2]string{
	{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"},
	{"pts/ptmx", "ptmx"}, {"/proc/kcore", "core"},
}

// haveKcore reports whether this kernel has /proc/kcore.
var haveKcore = sync.OnceValue(func() bool {
	_, err := os.Lstat("/proc/kcore")
	return err == nil
})

var deviceTypes = map[string]uint32{"c": syscall.S_IFCHR, "u": syscall.S_IFCHR, "b": syscall.S_IFBLK, "p": syscall.S_IFIFO}

// checkDevices refuses what cannot be a device node.
func checkDevices(list []specs.LinuxDevice) error {
	for _, d := range list {
		if _, ok := deviceTypes[d.Type]; !ok {
			return invalid("linux.devices: %s: unknown type %q", d.Path, d.Type)
		}
		if !path.IsAbs(d.Path) || path.Clean(d.Path) != d.Path || path.Dir(d.Path) == d.Path {
			return invalid("linux.devices: %q is not a clean absolute path", d.Path)
		}
	}
	return nil
}

// fillDev puts nodes and links into the new file system dev, which nobody else
// can see yet: names in it need no care.
func (b *builder) fillDev(dev spawn.Arg) {
	made, there := map[string]bool{}, map[string]bool{}
	for _, list := range [][]specs.LinuxDevice{b.spec.Linux.Devices, defaultDevices} {
		for _, d := range list {
			rel, ok := strings.CutPrefix(d.Path, "/dev/")
			if !ok || there[rel] || rel == "console" || rel == "ptmx" {
				continue // made from the container's own devpts
			}
			there[rel] = true
			b.makeDirs(path.Dir(rel), made)
			b.mknod(dev, rel, d)
		}
	}
	for _, l := range devLinks {
		if l[1] == "core" && !haveKcore() {
			continue
		}
		if !there[l[1]] {
			b.Do("link "+l[1], spawn.SysSymlinkat, b.Str(l[0]), dev, b.Str(l[1]))
		}
	}
}

func (b *builder) mknod(dir spawn.Arg, name string, d specs.LinuxDevice) {
	if b.inUserNS() && d.Type != "p" { // may make no node: the host's is bound over a file
		b.Do("place of "+d.Path, spawn.SysMknodat, dir, b.Str(name), spawn.Int(syscall.S_IFREG|0644), spawn.Nil).Ignore(int(syscall.EEXIST))
		b.borrowed = append(b.borrowed, d)
		return
	}
	mode := uint32(0666)
	if d.FileMode != nil {
		mode = uint32(*d.FileMode) & 07777
	}
	b.Do("device "+d.Path, spawn.SysMknodat, dir, b.Str(name), spawn.Int(deviceTypes[d.Type]|mode), spawn.Int(makedev(d.Major, d.Minor))).Ignore(int(syscall.EEXIST))
	if uid, gid := value(d.UID), value(d.GID); uid != 0 || gid != 0 {
		const noFollow = 0x100
		b.Do("owner of "+d.Path, spawn.SysFchownat, dir, b.Str(name), spawn.Int(uid), spawn.Int(gid), spawn.Int(noFollow))
	}
}

// borrowDevices binds the host's nodes over the places that mknod made.
func (b *builder) borrowDevices() error {
	for _, d := range b.borrowed {
		n, err := device.At(d.Path)
		if err != nil {
			return invalid("linux.devices: %w", err)
		}
		if n.Major != d.Major || n.Minor != d.Minor || (n.Type == "b") != (d.Type == "b") {
			return invalid("linux.devices: %s is another device on the host", d.Path)
		}
		f, err := mount.Clone(d.Path, false)
		if err != nil {
			return err
		}
		b.target(d.Path)
		b.move(d.Path, b.pass(b.keep(f)))
	}
	b.borrowed = nil
	return nil
}

func value(p *uint32) uint32 {
	if p == nil {
		return 0
	}
	return *p
}

// makedev packs a device number as the kernel's user space does.
func makedev(major, minor int64) uint64 {
	ma, mi := uint64(major), uint64(minor)
	return ma&0xfff<<8 | ma&^0xfff<<32 | mi&0xff | mi&^0xff<<12
}

// otherDevices adds the nodes that do not lie in a /dev of ours. Where /dev is
// a bind they are the binder's business.
func (b *builder) otherDevices() error {
	for _, d := range b.spec.Linux.Devices {
		if strings.HasPrefix(d.Path, "/dev/") {
			continue
		}
		t, err := inroot.Resolve(b.c.Root, path.Dir(d.Path), inroot.Options{Make: inroot.Dir, Owner: b.rootOwner(), Mounted: b.mounts.mounted})
		if err != nil {
			return invalid("linux.devices: %w", err)
		}
		if t.File != nil {
			t.File.Close()
		}
		b.target(t.Path)
		b.mknod(spawn.Slot(slotTarget), path.Base(d.Path), d)
		b.close(slotTarget)
	}
	return b.borrowDevices()
}
