package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
)

// A volume of a plugin has a record here, and its files where the plugin says. The plugin
// counts who has it mounted: see remote_mount.go.

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
		return s.status(v)
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

// removingFile is in the directory of a volume whose plugin has been told to remove it.
const removingFile = "removing"

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
		if _, gone := p.Get(ctx, v.Name); gone != nil && !errdefs.Is(gone, errdefs.Unavailable) {
			err = nil
		}
	}
	if err != nil && !errdefs.Is(err, errdefs.Unavailable) {
		return errors.Join(err, os.Remove(mark))
	}
	return err
}
