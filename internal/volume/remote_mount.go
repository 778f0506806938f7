package volume

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
)

// The plugin of a volume counts who has it mounted, by the ID of the user: what it has been
// told is noted in
//
//	DATAROOT/volumes/NAME/mounts/USER    {"Path": where the files are}
//
// before it is told, and goes when it has been told of the end. So an engine that was
// killed tells it of the ends that came meanwhile. A plugin that does not answer then is
// asked again and again, beside the requests of clients.

// mountRemote makes the files of a plugin's volume appear for a user.
//
// Preconditions: e.mu is held.
func (s *Service) mountRemote(ctx context.Context, e *entry, user string) (err error) {
	v := *e.view.Load()
	if e.mounters[user] {
		return nil
	}
	if err := e.awaitUnmounted(ctx); err != nil {
		return err
	}
	p, err := s.plugin(ctx, v.Driver)
	if err != nil {
		return err
	}
	if err := s.note(v.Name, user, noted{}); err != nil {
		return err
	}
	failpoint.Hit("volume/plugin-noted")
	path, err := p.Mount(ctx, v.Name, user)
	failpoint.Hit("volume/plugin-mounted")
	if err == nil {
		err = s.checkPlace(ctx, path)
		if err == nil {
			err = s.note(v.Name, user, noted{Path: path})
		}
		if err != nil {
			s.unmountRemote(e, user)
		}
	} else if errdefs.Is(err, errdefs.Unavailable) {
		s.unmountRemote(e, user) // it may have done so
	} else {
		err = errors.Join(err, s.forgetNote(v.Name, user))
	}
	if err != nil {
		return fmt.Errorf("error while mounting volume '%s': %w", v.Mountpoint, err)
	}
	v.Mountpoint = path
	e.publish(&v)
	return nil
}

// endPatience is how long the end of a run, or who wants the volume next, waits for a
// plugin to unmount it.
const endPatience = 10 * time.Second

// unmountRemote tells a plugin that a user has a volume no more, as often as it takes. It
// returns when that is done or was tried once, or goes on beside.
//
// Preconditions: e.mu is held, and user is not among the mounters.
func (s *Service) unmountRemote(e *entry, user string) {
	select {
	case <-s.endRemote(e, user):
	case <-time.After(endPatience):
	}
}

// endRemote is unmountRemote without waiting; tried is closed when that would end.
//
// Preconditions: e.mu is held.
func (s *Service) endRemote(e *entry, user string) (tried chan struct{}) {
	before, driver := e.unmounting, e.view.Load().Driver
	tried, done := make(chan struct{}), make(chan struct{})
	e.unmounting = done
	s.beside.Go(func() {
		defer close(done)
		if before != nil {
			<-before
		}
		s.tellUnmount(e, driver, user, sync.OnceFunc(func() { close(tried) }))
	})
	return tried
}

// Between two attempts to tell a plugin something.
const (
	firstRetry = 200 * time.Millisecond
	lastRetry  = time.Minute
)

// tellUnmount calls tried after each attempt. It ends with the volume.
func (s *Service) tellUnmount(e *entry, driver, user string, tried func()) {
	defer tried()
	name := e.name
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		p, err := s.plugin(s.ctx, driver)
		if err == nil {
			err = p.Unmount(s.ctx, name, user)
		}
		if s.ctx.Err() != nil {
			return // the next engine does it
		}
		answered := err == nil || p != nil && !errdefs.Is(err, errdefs.Unavailable)
		if err != nil && (answered || pause == firstRetry) {
			slog.Warn("unmount a volume", "volume", name, "driver", driver, "user", user, "err", err)
		}
		if answered {
			failpoint.Hit("volume/plugin-unmounted")
			if err := s.forgetNote(name, user); err != nil {
				slog.Warn("forget who had a volume mounted", "volume", name, "user", user, "err", err)
			}
			return
		}
		tried()
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(pause):
		}
		if s.find(name) != e {
			return
		}
	}
}

// awaitUnmounted waits until the plugin of a volume knows of all ends.
func (e *entry) awaitUnmounted(ctx context.Context) error {
	if e.unmounting == nil {
		return nil
	}
	select {
	case <-e.unmounting:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(endPatience):
		return errdefs.New(errdefs.Unavailable, "the plugin of volume %s has not yet answered that it is unmounted; try again later", e.name)
	}
}

// settleRemote tells the plugin of a volume, beside all else, of ends that an engine
// which was killed has not told it of.
//
// Preconditions: e.mu is held.
func (s *Service) settleRemote(e *entry) {
	for user := range s.notes(e.name) {
		if e.mounters[user] {
			continue
		}
		s.endRemote(e, user)
	}
}

// checkPlace refuses a path of a plugin at which no container may have its files: one that
// leads to the engine's own or to what the kernel serves, or to all of the host.
func (s *Service) checkPlace(ctx context.Context, path string) error {
	wrong := func(why string) error {
		return errdefs.New(errdefs.Internal, "the plugin says that the files are at %q: %s", shown(path), why)
	}
	if !filepath.IsAbs(path) || strings.ContainsRune(path, 0) || len(path) > maxPath {
		return wrong("that is no absolute path")
	}
	type found struct {
		path string
		dir  bool
		err  error
	}
	looked := make(chan found, 1)
	go func() { // a file system that does not answer holds up nobody else
		var f found
		if f.path, f.err = filepath.EvalSymlinks(path); f.err == nil {
			var st os.FileInfo
			if st, f.err = os.Stat(f.path); f.err == nil {
				f.dir = st.IsDir()
			}
		}
		looked <- f
	}()
	var f found
	select {
	case f = <-looked:
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(endPatience):
		return wrong("the file system does not answer")
	}
	switch {
	case f.err != nil:
		return wrong(f.err.Error())
	case !f.dir:
		return wrong("that is no directory")
	case s.ownFiles(f.path):
		return wrong("that has the engine's own files")
	case within(f.path, "/proc") || within(f.path, "/sys") || within(f.path, "/dev"):
		return wrong("the kernel's files are no volume")
	}
	return nil
}

// ownFiles reports whether a path without links leads to files of the engine's, or has them.
func (s *Service) ownFiles(path string) bool {
	return slices.ContainsFunc(append([]string{filepath.Dir(s.cfg.Dir)}, s.cfg.Private...), func(own string) bool {
		if real, err := filepath.EvalSymlinks(own); err == nil {
			own = real
		}
		return within(own, path) || within(path, own)
	})
}

// maxPath is the kernel's limit.
const maxPath = 4095

// within reports whether a clean path lies in a directory, or is it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
