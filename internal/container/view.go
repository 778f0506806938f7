package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/confine"
	"github.com/tare-engine/tare/internal/linux/idmap"
	"github.com/tare-engine/tare/internal/linux/inroot"
	"github.com/tare-engine/tare/internal/linux/mount"
	kernel "github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/linux/rawfd"
	"github.com/tare-engine/tare/internal/runtime"
)

// views are the namespaces of threads that are at the files of containers.
type views struct {
	records *records
	layers  *layer.Service
	ids     *ids
	volumes *volumes

	mu   sync.Mutex
	open map[string][]*visit // by container, those whose root may be changed
}

// visit is one thread at the files of a container.
type visit struct {
	view *View
	root *os.File
	ns   *os.File // its mount namespace; nil: its root is not the one that the container runs on
}

// errJustEnded says that a container's process ended while its files were looked
// for: they are to be had again when that is settled.
var errJustEnded = errors.New("the container has just ended")

// enter takes the calling thread to the files of a container, for good.
func (x *views) enter(c *Container, write bool) (*visit, error) {
	c.mu.Lock()
	v, p := c.View(), c.process
	if v.Status == Removing || v.Status == Dead {
		c.mu.Unlock()
		return nil, errdefs.New(errdefs.Conflict, "cannot copy files of container %s: it is being removed or is dead", v.ID)
	}
	if p == nil || p.fd == nil {
		defer c.mu.Unlock() // no start until it is known who has the root mounted
		view, shared, err := x.resting(v, write)
		if err != nil {
			return nil, err
		}
		return x.settle(v, view, shared)
	}
	fd, err := rawfd.DupFile(p.fd)
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	pidfd := os.NewFile(uintptr(fd), "process")
	defer pidfd.Close()
	// A file system that does not answer holds up nobody else.
	view, err := runningView(pidfd)
	if err != nil {
		return nil, err
	}
	h, err := x.settle(v, view, false)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == p { // else the next run has another mount
		err = x.share(h)
	}
	return h, err
}

// settle enters a view, which it closes.
func (x *views) settle(v *View, view *mount.View, shared bool) (*visit, error) {
	defer view.Close()
	failpoint.Hit("cp/view")
	root, err := view.Enter()
	if err != nil {
		return nil, fmt.Errorf("files of container %s: %w", v.ID, err)
	}
	hit("cp/entered")
	h := &visit{view: v, root: root}
	if shared {
		err = x.share(h)
	}
	return h, err
}

// share lets a start have the root of the thread, which runs on the container's
// own mount.
//
// Preconditions: the container's mu is held.
func (x *views) share(h *visit) error {
	ns, err := mount.OwnNamespace()
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	h.ns = ns
	x.open[h.view.ID] = append(x.open[h.view.ID], h)
	return nil
}

func (x *views) leave(h *visit) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	err := h.root.Close()
	if h.ns == nil {
		return err
	}
	list := x.open[h.view.ID]
	for i, o := range list {
		if o == h {
			list = append(list[:i:i], list[i+1:]...)
		}
	}
	x.open[h.view.ID] = list
	if len(list) == 0 {
		delete(x.open, h.view.ID)
	}
	return errors.Join(err, h.ns.Close())
}

// runningView is what the first process of a container sees.
func runningView(pidfd *os.File) (*mount.View, error) {
	view, err := mount.ViewOf(pidfd, wanted)
	ended, e := kernel.Ended(pidfd)
	// One that is about to end has lost its namespaces already: ESRCH.
	if e != nil || !ended && !errors.Is(err, syscall.ESRCH) {
		return view, errors.Join(err, e)
	}
	if view != nil {
		view.Close()
	}
	return nil, errJustEnded
}

// resting is the view of a container that does not run: its layer, and what its
// next run would mount there.
func (x *views) resting(v *View, write bool) (view *mount.View, shared bool, err error) {
	view = &mount.View{}
	defer func() {
		if err != nil {
			view.Close()
		}
	}()
	if view.Mounts, err = x.held(v); err != nil {
		return nil, false, err
	}
	if !write && v.Rootfs == "" {
		if view.Root, err = x.look(v); err != nil {
			return nil, false, err
		}
		lacks, err := lacksPlace(view)
		if err == nil && !lacks {
			return view, false, nil
		}
		if err := errors.Join(err, view.Root.Close()); err != nil {
			return nil, false, err
		}
	}
	view.Root, err = x.mountRoot(context.Background(), v)
	return view, true, err
}

// look mounts the files of a container for reading, beside the mount on which it
// may be started meanwhile.
func (x *views) look(v *View) (*os.File, error) {
	ns, done, err := x.ids.open(v.IDs)
	if err != nil {
		return nil, err
	}
	defer done()
	return x.layers.Look(context.Background(), v.ID, ns)
}

// held opens the mounts of a container that does not run.
func (x *views) held(v *View) (mounts []mount.Placed, err error) {
	defer func() {
		if err != nil {
			for _, m := range mounts {
				m.Tree.Close()
			}
		}
	}()
	r := x.records
	in := spec.Input{ID: v.ID, Config: v.Config, HostConfig: v.HostConfig, Mounts: r.mountRules(v.Record), IDs: v.IDs}
	if v.HostConfig.NetworkMode.ConnectedContainer() == "" {
		in.Hosts, in.Hostname, in.ResolvConf = r.file(v.ID, "hosts"), r.file(v.ID, "hostname"), r.file(v.ID, "resolv.conf")
	}
	settled, giveBack, err := x.volumes.lend(context.Background(), v)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, giveBack()) }() // copies of the mounts stay
	in.Mounts.Settled = settled
	list, err := spec.Held(in)
	if err != nil {
		return nil, err
	}
	for _, m := range list {
		tree, err := openHeld(m)
		if err != nil {
			return mounts, err
		}
		mounts = append(mounts, mount.Placed{Path: m.Destination, Tree: tree, Place: placeOf(v, m.Destination, tree)})
	}
	return mounts, nil
}

// placeOf finds the mount point of a tree, made if need be.
func placeOf(v *View, dest string, tree *os.File) func(root *os.File) (*os.File, error) {
	return func(root *os.File) (*os.File, error) {
		st, err := tree.Stat()
		if err != nil {
			return nil, err
		}
		kind := inroot.Dir
		if !st.IsDir() {
			kind = inroot.File
		}
		t, err := inroot.Resolve(root, dest, inroot.Options{Make: kind, Owner: &inroot.Owner{UID: int(v.IDs.HostUID(0)), GID: int(v.IDs.HostGID(0))}})
		if err == nil && t.Path == "/" {
			t.File.Close()
			return nil, errdefs.New(errdefs.InvalidArgument, "mount point %s is the root", dest)
		}
		return t.File, err
	}
}

// lacksPlace reports whether a mount point of a view is to be made.
func lacksPlace(view *mount.View) (bool, error) {
	for i, m := range view.Mounts {
		if slices.ContainsFunc(view.Mounts[:i], func(above mount.Placed) bool { return strings.HasPrefix(m.Path, above.Path+"/") }) {
			continue // its place is in another mount
		}
		t, err := inroot.Resolve(view.Root, m.Path, inroot.Options{})
		if errors.Is(err, fs.ErrNotExist) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		t.File.Close()
	}
	return false, nil
}

// openHeld opens the source of a bind.
func openHeld(m specs.Mount) (*os.File, error) {
	tree, err := mount.Clone(m.Source, slices.Contains(m.Options, "rbind"))
	if err != nil {
		return nil, err
	}
	change := mount.Change{Propagation: mount.Private, Recursive: true}
	if err := errors.Join(mount.SetAttr(tree, change), mapOwner(tree, m)); err != nil {
		tree.Close()
		return nil, err
	}
	if slices.Contains(m.Options, "ro") {
		if err := mount.SetAttr(tree, mount.Change{Set: mount.ReadOnly, Recursive: slices.Contains(m.Options, "rro")}); err != nil {
			tree.Close()
			return nil, err
		}
	}
	return tree, nil
}

// mapOwner maps the ids of a bind that has an owner of its own.
func mapOwner(tree *os.File, m specs.Mount) error {
	if len(m.UIDMappings) == 0 {
		return nil
	}
	ns, err := idmap.Open(runtime.Ranges(m.UIDMappings), runtime.Ranges(m.GIDMappings))
	if err != nil {
		return err
	}
	defer ns.Close()
	return mount.SetAttr(tree, mount.Change{UserNS: ns, Recursive: slices.Contains(m.Options, "ridmap")})
}

// mountRoot mounts the root of a container that does not run, detached. Its layer
// is mounted once at a time: while a thread is at its files, that one's mount is
// copied.
//
// Preconditions: the container's mu is held.
func (x *views) mountRoot(ctx context.Context, v *View) (*os.File, error) {
	if root, err := x.sharedRoot(v.ID); root != nil || err != nil {
		return root, err
	}
	ns, done, err := x.ids.open(v.IDs)
	if err != nil {
		return nil, err
	}
	defer done()
	if v.Rootfs != "" {
		return openHostRoot(v.Rootfs, ns)
	}
	return x.layers.Mount(ctx, v.ID, ns)
}

// sharedRoot copies the root mount of a thread at the files of a container; nil
// if there is none.
func (x *views) sharedRoot(id string) (root *os.File, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	here := x.open[id]
	if len(here) == 0 {
		return nil, nil
	}
	err = confine.OnThread(func() error {
		root, err = mount.RootOf(here[0].ns)
		return err
	})
	return root, err
}

// wanted says which mounts of a running container a visitor sees: those that hold
// files, as with Docker. What the kernel serves is neither read nor written.
func wanted(p, fstype string) bool {
	switch fstype {
	case "proc", "sysfs", "cgroup", "cgroup2", "devpts", "devtmpfs", "mqueue", "securityfs", "debugfs", "tracefs", "pstore", "bpf",
		"efivarfs", "configfs", "fusectl", "binfmt_misc", "rpc_pipefs", "nsfs", "autofs", "hugetlbfs", "selinuxfs", "smackfs":
		return false
	}
	if p == "/dev/shm" {
		return true
	}
	first, _, _ := strings.Cut(path.Clean(p)[1:], "/")
	return first != "proc" && first != "sys" && first != "dev"
}
