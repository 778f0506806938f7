package volume

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/store"
)

// A volume of a plugin has a record here, and its files where the plugin says. The plugin
// counts who has it mounted, by the ID of the user: what it has been told is noted in
//
//	DATAROOT/volumes/NAME/mounts/USER    {"Path": where the files are}
//
// before it is told, and goes when it has been told of the end. So an engine that was
// killed tells it of the ends that came meanwhile. A plugin that does not answer then is
// asked again and again, beside the requests of clients.

// Plugin is a driver that is a program of its own. Its answers are not trusted. An error
// of the kind Unavailable means that it has not answered: nobody knows what it has done.
type Plugin interface {
	// Name is its name, which is the driver's.
	Name() string
	// Scope is "local" or "global", as far as it has said.
	Scope(ctx context.Context) string
	// Create makes a volume.
	Create(ctx context.Context, name string, options map[string]string) error
	// Remove takes one away.
	Remove(ctx context.Context, name string) error
	// Mount makes the files appear for a user and says where.
	Mount(ctx context.Context, name, user string) (path string, err error)
	// Unmount takes that back.
	Unmount(ctx context.Context, name, user string) error
	// Get tells of a volume.
	Get(ctx context.Context, name string) (Remote, error)
	// List tells of all, without Status.
	List(ctx context.Context) ([]Remote, error)
}

// Plugins finds them.
type Plugins interface {
	// Find returns one by name. NotFound: there is none.
	Find(ctx context.Context, name string) (Plugin, error)
	// Willing are all that answer, and errors about those that do not.
	Willing(ctx context.Context) ([]Plugin, []error)
	// Known are the names of those that have been in use.
	Known() []string
}

// Remote is what a plugin says of a volume.
type Remote struct {
	Name       string
	Mountpoint string // "": it is mounted nowhere, or the plugin does not say
	Created    time.Time
	Status     map[string]any // whatever the plugin thinks useful
}

// mountsDir is where it is noted in a volume's directory who has it mounted.
const mountsDir = "mounts"

// removingFile is in the directory of a volume whose plugin has been told to remove it.
const removingFile = "removing"

// noted is what a note says.
type noted struct{ Path string }

// plugin returns the plugin of a driver's name, with Docker's text if there is none.
func (s *Service) plugin(ctx context.Context, driver string) (Plugin, error) {
	err := errdefs.New(errdefs.NotFound, "plugin %q not found", shown(driver))
	if s.cfg.Plugins != nil {
		var p Plugin
		if p, err = s.cfg.Plugins.Find(ctx, driver); err == nil {
			return p, nil
		}
	}
	return nil, errdefs.New(errdefs.KindOf(err), "error looking up volume plugin %s: %w", shown(driver), err)
}

// ours reports whether a driver is one of the engine's own.
func (s *Service) ours(driver string) bool {
	for _, d := range s.cfg.Drivers {
		if driver == "" || d.Name() == driver {
			return true
		}
	}
	return false
}

// Ours reports whether a volume's driver is one of the engine's own, not a plugin.
func (s *Service) Ours(v *View) bool { return s.ours(v.Driver) }

// remote is the picture of a volume as its plugin has it.
func remote(v View, r Remote, scope string) *View {
	v.Mountpoint, v.Status, v.Scope = r.Mountpoint, r.Status, scope
	if !r.Created.IsZero() {
		v.Created = r.Created
	}
	return &v
}

// Inspect is Get, with what the plugin of a volume says of it. Also volumes that only a
// plugin knows are found.
func (s *Service) Inspect(ctx context.Context, name string) (*View, error) {
	v, err := s.Get(name)
	if err != nil {
		p, r := s.search(ctx, name)
		if p == nil {
			return nil, err
		}
		return remote(View{Record: Record{Name: name, Driver: p.Name()}}, r, p.Scope(ctx)), nil
	}
	if s.ours(v.Driver) {
		return v, nil
	}
	p, err := s.plugin(ctx, v.Driver)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", name, err)
	}
	r, err := p.Get(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", name, err)
	}
	if r.Mountpoint == "" {
		r.Mountpoint = v.Mountpoint
	}
	return remote(*v, r, p.Scope(ctx)), nil
}

// search asks the plugins that answer for a volume that we do not know; nil: none has it.
func (s *Service) search(ctx context.Context, name string) (Plugin, Remote) {
	if s.cfg.Plugins == nil {
		return nil, Remote{}
	}
	plugins, _ := s.cfg.Plugins.Willing(ctx)
	for _, p := range plugins {
		if r, err := p.Get(ctx, name); err == nil {
			return p, r
		}
	}
	return nil, Remote{}
}

// ListAll is List with what plugins say, and the volumes that only they know. Plugins that
// do not answer are named in warnings.
func (s *Service) ListAll(ctx context.Context) (list []*View, warnings []string) {
	list = s.List()
	if s.cfg.Plugins == nil {
		return list, nil
	}
	plugins, errs := s.cfg.Plugins.Willing(ctx)
	for _, err := range errs {
		warnings = append(warnings, err.Error())
	}
	told, failed := make([][]Remote, len(plugins)), make([]error, len(plugins))
	var all sync.WaitGroup
	for i, p := range plugins {
		all.Go(func() { told[i], failed[i] = p.List(ctx) })
	}
	all.Wait()
	at := map[string]int{}
	for i, v := range list {
		at[v.Name] = i
	}
	for i, p := range plugins {
		if failed[i] != nil {
			warnings = append(warnings, fmt.Sprintf("list %s: %v", p.Name(), failed[i]))
		}
		scope := p.Scope(ctx)
		for _, r := range told[i] {
			have, known := at[r.Name]
			switch {
			case !known:
				at[r.Name] = len(list)
				list = append(list, remote(View{Record: Record{Name: r.Name, Driver: p.Name()}}, r, scope))
			case list[have].Driver == p.Name():
				if r.Mountpoint == "" {
					r.Mountpoint = list[have].Mountpoint
				}
				list[have] = remote(*list[have], r, scope)
			}
		}
	}
	return list, warnings
}

// adopt makes a record for a volume that only a plugin knows.
func (s *Service) adopt(ctx context.Context, name string) error {
	if s.find(name) != nil {
		return nil
	}
	p, _ := s.search(ctx, name)
	if p == nil {
		return missing(name)
	}
	_, _, err := s.Create(ctx, Request{Name: name, Driver: p.Name()})
	return err
}

// holdAny is hold, also for a volume that only a plugin knows.
func (s *Service) holdAny(ctx context.Context, name string) (*entry, error) {
	if err := s.adopt(ctx, name); err != nil {
		return nil, err
	}
	return s.hold(name)
}

// makeRemote makes the volume of an entry with a plugin, unless that has it already: then
// it is not tied to anybody.
//
// Preconditions: e.mu is held.
func (s *Service) makeRemote(ctx context.Context, e *entry, p Plugin, r Request) (made bool, err error) {
	have, err := p.Get(ctx, r.Name)
	if errdefs.Is(err, errdefs.Unavailable) {
		return false, err
	}
	rec := Record{Version: recordVersion, Name: r.Name, Driver: p.Name(), Created: time.Now().UTC().Truncate(time.Second), Labels: r.Labels, Options: r.Options}
	user := r.User
	if made = err != nil; !made {
		user = ""
	}
	created := false
	err = s.place(rec, user, func(string) error {
		if !made {
			return nil
		}
		err := p.Create(ctx, r.Name, r.Options)
		created = err == nil
		return err
	})
	if err != nil {
		if created {
			err = errors.Join(err, p.Remove(context.WithoutCancel(ctx), r.Name))
		}
		return false, err
	}
	e.tied = user != ""
	e.publish(&View{Record: rec, Mountpoint: have.Mountpoint})
	return made, nil
}

// removeRemote has the plugin of a volume remove it. One that was told already, by an
// engine that was killed meanwhile, may not know the volume any more.
//
// Preconditions: e.mu is held.
func (s *Service) removeRemote(e *entry) error {
	v := e.view.Load()
	ctx := s.ctx
	if err := e.awaitUnmounted(ctx); err != nil {
		return err
	}
	p, err := s.plugin(ctx, v.Driver)
	if err != nil {
		return err
	}
	mark := filepath.Join(s.dir(v.Name), removingFile)
	_, again := os.Lstat(mark)
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return err
	}
	failpoint.Hit("volume-rm/plugin-asked")
	err = p.Remove(ctx, v.Name)
	if err != nil && again == nil && !errdefs.Is(err, errdefs.Unavailable) {
		if _, e := p.Get(ctx, v.Name); e != nil && !errdefs.Is(e, errdefs.Unavailable) {
			err = nil
		}
	}
	if err != nil && !errdefs.Is(err, errdefs.Unavailable) {
		return errors.Join(err, os.Remove(mark))
	}
	return err
}

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
	s.deleting.Go(func() {
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
	switch root := filepath.Dir(s.cfg.Dir); {
	case f.err != nil:
		return wrong(f.err.Error())
	case !f.dir:
		return wrong("that is no directory")
	case within(root, f.path) || within(f.path, root):
		return wrong("that has the engine's own files")
	case within(f.path, "/proc") || within(f.path, "/sys") || within(f.path, "/dev"):
		return wrong("the kernel's files are no volume")
	}
	return nil
}

// maxPath is the kernel's limit.
const maxPath = 4095

// within reports whether a clean path lies in a directory, or is it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// note writes down that a user is about to have a plugin's volume mounted, or where. It
// need not outlive the machine: then nothing is mounted.
func (s *Service) note(name, user string, n noted) error {
	dir := filepath.Join(s.dir(name), mountsDir)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return store.PutVolatile(filepath.Join(dir, user), n)
}

func (s *Service) forgetNote(name, user string) error {
	err := os.Remove(filepath.Join(s.dir(name), mountsDir, user))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// notes are those who have, or may have, a plugin's volume mounted, and where.
func (s *Service) notes(name string) map[string]string {
	dir := filepath.Join(s.dir(name), mountsDir)
	list, _ := os.ReadDir(dir)
	all := map[string]string{}
	for _, f := range list {
		path := filepath.Join(dir, f.Name())
		if ok, _ := filepath.Match(store.TempPattern, f.Name()); ok {
			os.Remove(path)
			continue
		}
		var n noted
		if err := store.Get(path, &n); err != nil {
			slog.Warn("read where a volume is mounted", "volume", name, "err", err)
		}
		all[f.Name()] = n.Path
	}
	return all
}
