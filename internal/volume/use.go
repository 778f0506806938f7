package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/mount"
)

// Acquire notes that a container has a volume, which is not removed before Release.
// As often as it is acquired it must be released.
func (s *Service) Acquire(name, user string) (*View, error) {
	e, err := s.hold(name)
	if err != nil {
		return nil, err
	}
	defer e.mu.Unlock()
	e.users = append(e.users, user)
	e.changed()
	return e.view.Load(), nil
}

// Release takes back one Acquire. A volume that is not there is no error.
func (s *Service) Release(name, user string) {
	e, err := s.hold(name)
	if err != nil {
		return
	}
	defer e.mu.Unlock()
	if i := slices.Index(e.users, user); i >= 0 {
		e.users = slices.Delete(e.users, i, i+1)
		e.changed()
	}
}

// Mounting is how a container mounts a volume, as listeners are told.
type Mounting struct {
	User        string // the container
	Destination string
	ReadOnly    bool
	Propagation string
}

// Place is where the files of a volume are.
type Place struct {
	Path string
	// Dir is the directory, O_PATH, of which it was checked that a container may have its
	// files there: a plugin has said the path, which may lead elsewhere by now. nil: the
	// path is the engine's own. While it is open the plugin cannot unmount it.
	Dir *os.File
}

// Close lets go of the directory.
func (p *Place) Close() error {
	if p.Dir == nil {
		return nil
	}
	return p.Dir.Close()
}

// Open opens the directory to be read.
func (p *Place) Open() (*os.File, error) {
	if p.Dir == nil {
		return os.Open(p.Path)
	}
	dir, err := os.Open(procPath(p.Dir))
	runtime.KeepAlive(p.Dir)
	return dir, err
}

// Mount makes the files of a volume appear for a container that is about to run, and
// returns where. A container mounts a volume as often as it likes and unmounts it
// once.
func (s *Service) Mount(ctx context.Context, name string, m Mounting) (*Place, error) {
	e, err := s.hold(name)
	if err != nil {
		return nil, err
	}
	defer e.mu.Unlock()
	v := e.view.Load()
	if _, err := filepath.EvalSymlinks(v.Mountpoint); s.ours(v.Driver) && errors.Is(err, fs.ErrNotExist) { // as Docker says it of what has been deleted behind its back
		return nil, fmt.Errorf("error evaluating symlinks from mount source %q: %w", v.Mountpoint, err)
	}
	at, err := s.mount(ctx, e, m.User)
	if err != nil {
		return nil, err
	}
	s.tell(events.ActionMount, e.view.Load(), "container", m.User, "destination", m.Destination, "read/write", strconv.FormatBool(!m.ReadOnly), "propagation", m.Propagation)
	return at, nil
}

// mount makes the files appear for a user, if they do not yet.
//
// Preconditions: e.mu is held.
func (s *Service) mount(ctx context.Context, e *entry, user string) (*Place, error) {
	dir, err := s.appear(ctx, e, user)
	if err != nil {
		return nil, err
	}
	e.mounters[user] = true
	return &Place{e.view.Load().Mountpoint, dir}, nil
}

func (s *Service) appear(ctx context.Context, e *entry, user string) (dir *os.File, err error) {
	v := e.view.Load()
	if !s.ours(v.Driver) {
		return s.mountRemote(ctx, e, user)
	}
	d, err := s.driver(v.Driver)
	if err != nil {
		return nil, err
	}
	if len(e.mounters) > 0 || !d.Mounts(s.dir(v.Name), v.Options) {
		return nil, nil
	}
	if err := d.Mount(ctx, s.dir(v.Name), v.Mountpoint, v.Options); err != nil {
		return nil, mounting(v, err)
	}
	failpoint.Hit("volume/mounted")
	return nil, nil
}

// Unmount says that a container does not run any more. Who has not mounted the volume
// may say so too.
func (s *Service) Unmount(name, user string) error {
	e, err := s.hold(name)
	if err != nil {
		return nil
	}
	defer e.mu.Unlock()
	if !e.mounters[user] {
		return nil
	}
	s.tell(events.ActionUnmount, e.view.Load(), "container", user)
	return s.unmount(e, user)
}

// unmount takes back the mount of a user.
//
// Preconditions: e.mu is held.
func (s *Service) unmount(e *entry, user string) error {
	delete(e.mounters, user)
	if !s.ours(e.view.Load().Driver) {
		s.unmountRemote(e, user)
		return nil
	}
	return s.disappear(e)
}

// disappear lets the files of a volume of ours disappear if nobody has them mounted.
//
// Preconditions: e.mu is held.
func (s *Service) disappear(e *entry) error {
	v := e.view.Load()
	d, err := s.driver(v.Driver)
	if err != nil || len(e.mounters) > 0 || !d.Mounts(s.dir(v.Name), v.Options) {
		return err
	}
	return d.Unmount(v.Mountpoint)
}

// Adopt notes that a container runs, since before this engine, and has the volume
// mounted.
func (s *Service) Adopt(name, user string) {
	e, err := s.hold(name)
	if err != nil {
		return
	}
	defer e.mu.Unlock()
	e.mounters[user] = true
}

// Settle puts right what the last engine may have left, after all containers have
// acquired and adopted what they have: volumes are unmounted that nobody has mounted,
// and those are removed that were made with a container that is not there.
func (s *Service) Settle(there func(container string) bool) {
	if err := s.sweep(); err != nil {
		slog.Warn("remove what volumes have left in the kernel", "err", err)
	}
	for _, v := range s.List() {
		if err := s.settle(v.Name, there); err != nil {
			slog.Warn("put a volume right", "volume", v.Name, "err", err)
		}
	}
}

func (s *Service) settle(name string, there func(string) bool) error {
	e, err := s.hold(name)
	if err != nil {
		return nil
	}
	ours := s.ours(e.view.Load().Driver)
	if ours {
		err = s.disappear(e)
	} else {
		s.settleRemote(e)
	}
	tied := e.tied
	e.mu.Unlock()
	if err != nil || !tied {
		return err
	}
	if ours {
		return s.settleTied(name, there)
	}
	s.beside.Go(func() { // the plugin may not answer, or be a container that starts after us
		if err := s.settleTied(name, there); err != nil {
			slog.Warn("put a volume right", "volume", name, "err", err)
		}
	})
	return nil
}

// settleTied removes a volume whose container is not there.
func (s *Service) settleTied(name string, there func(string) bool) error {
	b, err := os.ReadFile(filepath.Join(s.dir(name), forFile))
	if err != nil {
		return err
	}
	user := strings.TrimSpace(string(b))
	if user == "" || there(user) { // what is not known is kept
		return nil
	}
	slog.Info("remove a volume whose container has not come to be, or took it along", "volume", name, "container", user)
	err = s.Remove(name)
	if errdefs.Is(err, errdefs.Conflict) { // another container has it
		return s.Keep(name)
	}
	return err
}

// UnmountAll unmounts what an engine that does not run any more has mounted of the
// volumes in dir, which is its Config.Dir.
func UnmountAll(dir string) error {
	volumes, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, v := range volumes {
		err = errors.Join(err, mount.Detach(filepath.Join(dir, v.Name(), Files)))
	}
	return err
}
