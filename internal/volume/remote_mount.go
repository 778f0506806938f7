package volume

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/linux/inroot"
)

// The plugin of a volume counts who has it mounted, by the ID of the user: what it has been
// told is noted in
//
//	DATAROOT/volumes/NAME/mounts/USER    {"Path": where the files are}
//
// before it is told, and goes when it has been told of the end. So an engine that was
// killed tells it of the ends that came meanwhile. A plugin that does not answer then is
// asked again and again, beside the requests of clients.

// mountRemote makes the files of a plugin's volume appear for a user, and returns their
// directory.
//
// Preconditions: e.mu is held.
func (s *Service) mountRemote(ctx context.Context, e *entry, user string) (dir *os.File, err error) {
	v := *e.view.Load()
	if e.mounters[user] {
		dir, err = s.openPlace(ctx, v.Mountpoint)
		return dir, mounting(&v, err)
	}
	if err := e.awaitUnmounted(ctx); err != nil {
		return nil, err
	}
	p, err := s.plugin(ctx, v.Driver)
	if err != nil {
		return nil, err
	}
	if err := s.note(v.Name, user, noted{}); err != nil {
		return nil, err
	}
	failpoint.Hit("volume/plugin-noted")
	path, err := p.Mount(ctx, v.Name, user)
	failpoint.Hit("volume/plugin-mounted")
	if err == nil {
		dir, err = s.openPlace(ctx, path)
		if err == nil {
			err = s.note(v.Name, user, noted{Path: path})
		}
		if err != nil {
			dir.Close() // also of nil; the plugin could not unmount it else
			s.unmountRemote(e, user)
		}
	} else if errdefs.Is(err, errdefs.Unavailable) {
		s.unmountRemote(e, user) // it may have done so
	} else {
		err = errors.Join(err, s.forgetNote(v.Name, user))
	}
	if err != nil {
		return nil, mounting(&v, err)
	}
	v.Mountpoint = path
	e.publish(&v)
	return dir, nil
}

// mounting says of an error that it came up as a volume was mounted, in Docker's words.
func mounting(v *View, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("error while mounting volume '%s': %w", v.Mountpoint, err)
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

// openPlace opens, O_PATH, the directory that a plugin's path leads to. It refuses those at
// which no container may have its files: the engine's own or what the kernel serves, or
// all of the host. Where the path leads afterwards does not matter to who uses the directory.
func (s *Service) openPlace(ctx context.Context, path string) (*os.File, error) {
	wrong := func(why string) error {
		return errdefs.New(errdefs.Internal, "the plugin says that the files are at %q: %s", shown(path), why)
	}
	if !filepath.IsAbs(path) || strings.ContainsRune(path, 0) || len(path) > maxPath {
		return nil, wrong("that is no absolute path")
	}
	dir, err := openDir(ctx, path)
	switch {
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return nil, wrong("the file system does not answer")
	case errors.Is(err, syscall.ENOTDIR):
		return nil, wrong("that is no directory")
	case err != nil && ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, wrong(err.Error())
	}
	if why := s.noPlace(dir); why != "" {
		dir.Close()
		return nil, wrong(why)
	}
	return dir, nil
}

// noPlace says why no container may have its files in an open directory; "": it may.
func (s *Service) noPlace(dir *os.File) string {
	path, err := os.Readlink(procPath(dir))
	if err != nil {
		return err.Error()
	}
	if there, err := os.Lstat(path); err != nil || !sameFile(dir, there) {
		return "it is being moved or removed"
	}
	switch {
	case s.ownFiles(path):
		return "that has the engine's own files"
	case within(path, "/proc") || within(path, "/sys") || within(path, "/dev"):
		return "the kernel's files are no volume"
	}
	return ""
}

func sameFile(f *os.File, other os.FileInfo) bool {
	info, err := f.Stat()
	return err == nil && os.SameFile(info, other)
}

// procPath leads to what is open, whatever its name is by now.
func procPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// openDir opens the directory that a path leads to, O_PATH. A file system that does not
// answer holds up nobody else.
func openDir(ctx context.Context, path string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, endPatience)
	defer cancel()
	type opened struct {
		dir *os.File
		err error
	}
	done := make(chan opened)
	go func() {
		dir, err := os.OpenFile(path+"/.", inroot.OPath, 0)
		select {
		case done <- opened{dir, err}:
		case <-ctx.Done():
			dir.Close() // also of nil
		}
	}()
	select {
	case o := <-done:
		return o.dir, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
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
