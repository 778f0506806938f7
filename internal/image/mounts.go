package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/sys/mountinfo"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/mount"
)

// Mounts are the places of the host where the files of images are mounted. They
// outlive the engine: the records lie in a directory that is gone after a
// reboot, as the mounts are.
type Mounts struct {
	s   *Service
	dir string
}

// Mounted is one place.
type Mounted struct {
	Image  ID
	Name   string // by which it was mounted
	Path   string // absolute, without links
	Device uint64 // of the file system there: what else is mounted at the path is not ours
}

const mountRecord = ".json"

// NewMounts keeps records, and mount points of its own, in dir, which need not
// exist and must not outlive a reboot.
func (s *Service) NewMounts(dir string) *Mounts { return &Mounts{s, dir} }

// Add mounts an image, read-only and without set-user-ID programs and devices, at
// a directory; "" is one of ours. Where it is already it stays.
func (m *Mounts) Add(ctx context.Context, ref, target string) (_ Mounted, err error) {
	end, err := m.s.begin(ctx)
	if err != nil {
		return Mounted{}, err
	}
	defer end()
	img, err := m.s.Resolve(ctx, ref)
	if err != nil {
		return Mounted{}, err
	}
	if img.Chain == "" {
		return Mounted{}, errdefs.New(errdefs.InvalidArgument, "image %s has no layers", ref)
	}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return Mounted{}, err
	}
	list, err := m.list()
	if err != nil {
		return Mounted{}, err
	}
	if target, err = m.target(img.ID, target); err != nil {
		return Mounted{}, err
	}
	for _, have := range list {
		switch {
		case have.Path != target:
		case have.Image == img.ID:
			return have, nil
		default:
			return Mounted{}, errdefs.New(errdefs.Conflict, "image %s is mounted at %s", have.Name, target)
		}
	}
	if taken, err := isMountPoint(target); err != nil {
		return Mounted{}, err
	} else if taken {
		return Mounted{}, errdefs.New(errdefs.Conflict, "something else is mounted at %s", target)
	}
	view, err := m.s.layers.View(ctx, img.Chain)
	if err != nil {
		return Mounted{}, err
	}
	defer view.Close()
	if err := mount.SetAttr(view, mount.Change{Set: mount.ReadOnly | mount.NoSuid | mount.NoDev}); err != nil {
		return Mounted{}, err
	}
	info, err := view.Stat()
	if err != nil {
		return Mounted{}, err
	}
	added := Mounted{Image: img.ID, Name: ref, Path: target, Device: info.Sys().(*syscall.Stat_t).Dev}
	b, err := json.Marshal(added)
	if err != nil {
		return Mounted{}, err
	}
	if err := os.WriteFile(m.record(target), b, 0o600); err != nil {
		return Mounted{}, err
	}
	failpoint.Hit("image-mount/recorded")
	if err := mount.MoveTo(view, target); err != nil {
		return Mounted{}, errors.Join(err, os.Remove(m.record(target)))
	}
	failpoint.Hit("image-mount/mounted")
	return added, nil
}

// target is the directory to mount at.
func (m *Mounts) target(id ID, target string) (string, error) {
	if target == "" {
		own := filepath.Join(m.dir, id.Encoded())
		return own, os.MkdirAll(own, 0o700)
	}
	if !filepath.IsAbs(target) {
		return "", errdefs.New(errdefs.InvalidArgument, "mount point %.300q: the path must be absolute", target)
	}
	real, err := filepath.EvalSymlinks(target)
	if err != nil {
		return "", errdefs.As(errdefs.InvalidArgument, fmt.Errorf("mount point: %w", err))
	}
	info, err := os.Stat(real)
	if err != nil {
		return "", errdefs.As(errdefs.InvalidArgument, fmt.Errorf("mount point: %w", err))
	}
	if !info.IsDir() {
		return "", errdefs.New(errdefs.InvalidArgument, "mount point %s is no directory", target)
	}
	return real, nil
}

func (m *Mounts) record(target string) string {
	sum := sha256.Sum256([]byte(target))
	return filepath.Join(m.dir, hex.EncodeToString(sum[:])+mountRecord)
}

// List returns the places, by path. Those where somebody else has unmounted are
// forgotten.
func (m *Mounts) List(ctx context.Context) ([]Mounted, error) {
	end, err := m.s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	return m.list()
}

// list is List for who holds the change token.
func (m *Mounts) list() ([]Mounted, error) {
	files, err := os.ReadDir(m.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []Mounted
	for _, f := range files {
		path := filepath.Join(m.dir, f.Name())
		if f.IsDir() { // one of our mount points: busy, or what a mount that did not come to be has left
			if err := os.Remove(path); err != nil && !errors.Is(err, syscall.EBUSY) {
				return nil, err
			}
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var one Mounted
		there := json.Unmarshal(b, &one) == nil
		if there {
			if there, err = mountedAt(one); err != nil {
				return nil, err
			}
		}
		if !there { // the end of a mount, or one that did not come to be
			if err := os.Remove(path); err != nil {
				return nil, err
			}
			continue
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b Mounted) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

// mountedAt reports whether a place is still what it was made.
func mountedAt(m Mounted) (bool, error) {
	if ok, err := isMountPoint(m.Path); err != nil || !ok {
		return false, err
	}
	info, err := os.Lstat(m.Path)
	return err == nil && info.Sys().(*syscall.Stat_t).Dev == m.Device, nil
}

func isMountPoint(path string) (bool, error) {
	list, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(path))
	return len(list) > 0, err
}

// Of returns the places of an image.
//
// Preconditions: the change token is held.
func (m *Mounts) Of(id ID) (places []string) {
	list, err := m.list()
	if err != nil {
		slog.Error("which images are mounted is not known", "err", err)
	}
	for _, one := range list {
		if one.Image == id {
			places = append(places, one.Path)
		}
	}
	return places
}

// Remove unmounts an image from all places, or the place at an absolute path;
// with an empty name all. force does it although files are open: they stay open.
// It returns what is unmounted, if it fails too.
func (m *Mounts) Remove(ctx context.Context, name string, force bool) (gone []Mounted, err error) {
	end, err := m.s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	list, err := m.list()
	if err != nil {
		return nil, err
	}
	chosen, err := m.toUnmount(ctx, list, name)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, one := range chosen {
		if err := m.unmount(one, force); err != nil {
			errs = append(errs, err)
			continue
		}
		gone = append(gone, one)
	}
	return gone, errors.Join(errs...)
}

// UnmountAll unmounts what an engine that does not run any more has mounted.
func UnmountAll(dir string) error {
	m := &Mounts{dir: dir}
	list, err := m.list()
	errs := []error{err}
	for _, one := range list {
		errs = append(errs, m.unmount(one, true))
	}
	return errors.Join(errs...)
}

// toUnmount are the places that a name means: of an image, a path, or all.
func (m *Mounts) toUnmount(ctx context.Context, list []Mounted, name string) (chosen []Mounted, err error) {
	if name == "" {
		return list, nil
	}
	if filepath.IsAbs(name) {
		real, err := filepath.EvalSymlinks(name)
		if err != nil {
			return nil, errdefs.As(errdefs.NotFound, err)
		}
		for _, one := range list {
			if one.Path == real {
				return []Mounted{one}, nil
			}
		}
		return nil, errdefs.New(errdefs.NotFound, "no image is mounted at %s", name)
	}
	img, err := m.s.Resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, one := range list {
		if one.Image == img.ID {
			chosen = append(chosen, one)
		}
	}
	if len(chosen) == 0 {
		return nil, errdefs.New(errdefs.NotFound, "image %s is not mounted", name)
	}
	return chosen, nil
}

func (m *Mounts) unmount(one Mounted, force bool) error {
	umount := mount.Unmount
	if force {
		umount = mount.Detach
	}
	err := umount(one.Path)
	if errors.Is(err, syscall.EBUSY) {
		return errdefs.New(errdefs.Conflict, "image %s at %s is in use: its files are open (--force unmounts it all the same)", one.Name, one.Path)
	}
	if err != nil {
		return err
	}
	failpoint.Hit("image-mount/unmounted")
	if err := os.Remove(m.record(one.Path)); err != nil {
		return err
	}
	_, err = m.list() // removes the mount point, if it is ours
	return err
}
