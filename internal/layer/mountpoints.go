package layer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/filemeta"
	"github.com/tare-engine/tare/internal/linux/syncfs"
)

// mountpoint is a place that every container has, whatever its image has
// there: the engine mounts something on it. Docker calls the layer that holds
// them the init layer; it belongs to neither image nor container, so that
// `diff` and `commit` do not show it.
type mountpoint struct {
	dir, name string
	kind      fs.FileMode // type: directory, file or link
	target    string      // of a link
}

var mountpoints = []mountpoint{
	{".", "dev", fs.ModeDir, ""},
	{".", "etc", fs.ModeDir, ""},
	{".", "proc", fs.ModeDir, ""},
	{".", "sys", fs.ModeDir, ""},
	{".", ".dockerenv", 0, ""},
	{"dev", "pts", fs.ModeDir, ""},
	{"dev", "shm", fs.ModeDir, ""},
	{"dev", "console", 0, ""},
	{"etc", "hosts", 0, ""},
	{"etc", "hostname", 0, ""},
	{"etc", "resolv.conf", 0, ""},
	{"etc", "mtab", fs.ModeSymlink, "/proc/mounts"},
}

// makeMountpoints makes what is missing in a mounted root. What has the wrong
// type, a link of the image above all, is replaced: nothing that is mounted
// later may lead elsewhere. Directories keep the times that the image gave them.
func makeMountpoints(mounted *os.File) error {
	root, err := OpenRoot(mounted)
	if err != nil {
		return err
	}
	defer root.Close()
	dir, err := root.Open(".") // the mount's descriptor is of no use for reading
	if err != nil {
		return err
	}
	defer dir.Close()
	kept := map[string]filemeta.Meta{}
	for _, m := range mountpoints {
		if _, ok := kept[m.dir]; !ok {
			if kept[m.dir], err = filemeta.At(dir, m.dir); err != nil {
				return err
			}
		}
		if err := m.make(root); err != nil {
			return fmt.Errorf("mount point /%s: %w", filepath.Join(m.dir, m.name), err)
		}
	}
	for p, meta := range kept {
		if err := meta.SetAt(dir, p); err != nil {
			return err
		}
	}
	return nil
}

func (m mountpoint) make(root *os.Root) error {
	p := filepath.Join(m.dir, m.name)
	info, err := root.Lstat(p)
	if err == nil {
		if info.Mode().Type() == m.kind && m.kind != fs.ModeSymlink {
			return nil
		}
		if to, err := root.Readlink(p); err == nil && m.kind == fs.ModeSymlink && to == m.target {
			return nil
		}
		if err := root.RemoveAll(p); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch m.kind {
	case fs.ModeDir:
		if err := root.Mkdir(p, 0755); err != nil {
			return err
		}
		return root.Chmod(p, 0755)
	case fs.ModeSymlink:
		return root.Symlink(m.target, p)
	}
	f, err := root.OpenFile(p, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0755)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0755), f.Close())
}

// initOf returns the layer of mount points of a chain, made if need be.
func (s *Service) initOf(ctx context.Context, c *chain) (*initLayer, error) {
	s.mu.Lock()
	in := c.init
	s.mu.Unlock()
	if in != nil {
		return in, nil
	}
	s.initMu.Lock()
	defer s.initMu.Unlock()
	dir := filepath.Join(s.dir(c.id), "init")
	root, err := s.topMeta(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.addInit(ctx, c, dir); err != nil {
			return nil, err
		}
		root, err = s.topMeta(dir)
	}
	if err != nil {
		return nil, err
	}
	in = &initLayer{dir: dir, root: root}
	s.mu.Lock()
	c.init = in
	s.mu.Unlock()
	return in, nil
}

// topMeta is what a container's top directory gets, of its layer of mount points.
func (s *Service) topMeta(dir string) (m filemeta.Meta, err error) {
	if s.opens() { // the driver gives it
		_, err = os.Lstat(dir)
		return m, err
	}
	return filemeta.Of(dir)
}

// addInit makes the layer of mount points of a committed chain, once.
// Preconditions: s.initMu is held.
func (s *Service) addInit(ctx context.Context, c *chain, dir string) error {
	tmp, err := s.buildInit(ctx, c.lower)
	if err != nil {
		return err
	}
	failpoint.Hit("create/init-built")
	if err := os.MkdirAll(filepath.Dir(dir), 0710); err != nil {
		return err
	}
	if err := syncfs.All(tmp); err != nil {
		return err
	}
	err = os.Rename(filepath.Join(tmp, "rw"), dir)
	failpoint.Hit("create/init-renamed")
	return errors.Join(err, s.trash.put(tmp))
}

// buildInit makes the layer in staging, as DIR/rw.
func (s *Service) buildInit(ctx context.Context, lower []string) (dir string, err error) {
	if dir, err = os.MkdirTemp(s.staging(), "init-"); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make mount points: %w", err), s.trash.put(dir))
		}
	}()
	r := Root{Upper: filepath.Join(dir, "rw"), Work: filepath.Join(dir, "work"), Lower: lower}
	if err := os.Mkdir(r.Work, 0o710); err != nil {
		return dir, err
	}
	if err := s.driver.Prepare(ctx, r); err != nil {
		return dir, err
	}
	if !s.opens() {
		if err := initRoot(r); err != nil {
			return dir, err
		}
	}
	m, err := s.driver.Mount(ctx, r)
	if err != nil {
		return dir, err
	}
	defer m.Close()
	if err := makeMountpoints(m); err != nil || !s.opens() {
		return dir, err
	}
	return dir, syncMount(m)
}

// syncMount writes what a mount shows to disk.
func syncMount(m *os.File) error {
	root, err := OpenRoot(m)
	if err != nil {
		return err
	}
	defer root.Close()
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	return syncfs.Of(dir)
}

// initRoot gives the new layer's root directory what the image's has.
func initRoot(r Root) error {
	if len(r.Lower) == 0 {
		return os.Chmod(r.Upper, 0755)
	}
	m, err := filemeta.Of(r.Lower[0])
	if err != nil {
		return err
	}
	return m.Set(r.Upper)
}

// makeInit makes the mount points of a staged chain, to be committed with it.
func (b *Batch) makeInit(ctx context.Context, top ChainID) error {
	b.mu.Lock()
	st := b.staged[top]
	b.mu.Unlock()
	if st == nil { // committed before
		c, err := b.s.chainOf(top)
		if err != nil {
			return err
		}
		_, err = b.s.initOf(ctx, c)
		return err
	}
	lower, err := b.lower(top)
	if err != nil {
		return err
	}
	tmp, err := b.s.buildInit(ctx, lower)
	if err != nil {
		return err
	}
	err = os.Rename(filepath.Join(tmp, "rw"), filepath.Join(st.dir, "init"))
	if errors.Is(err, syscall.ENOTEMPTY) { // named twice
		err = nil
	}
	return errors.Join(err, b.s.trash.put(tmp))
}
