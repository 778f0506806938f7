// Package plugin is the volume driver of plugins: Docker's protocol VolumeDriver, version
// 1, over package internal/plugin.
//
// Errors that a plugin answers have Docker's texts. What it answers is checked: names that
// no volume can have and paths that are not absolute are left out or refused.
package plugin

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/plugin"
	"github.com/tare-engine/tare/internal/volume"
)

// capability is what a plugin for volumes says that it implements.
const capability = "VolumeDriver"

// Limits of time: Docker's, as what changes something may take long, and that of who can
// go on without an answer.
const (
	short  = time.Minute
	long   = 2 * time.Minute
	glance = 5 * time.Second
)

// Plugins finds volume plugins. Safe for concurrent use.
type Plugins struct{ finder *plugin.Finder }

// New returns those that a finder finds.
func New(f *plugin.Finder) *Plugins { return &Plugins{f} }

var _ volume.Plugins = (*Plugins)(nil)

// Find returns a plugin by name.
func (ps *Plugins) Find(ctx context.Context, name string) (volume.Plugin, error) {
	p, err := ps.finder.Get(ctx, name, capability)
	if err != nil {
		return nil, err
	}
	return driver{p, short}, nil
}

// Willing are all that answer.
func (ps *Plugins) Willing(ctx context.Context) ([]volume.Plugin, []error) {
	found, errs := ps.finder.Willing(ctx, capability)
	list := make([]volume.Plugin, len(found))
	for i, p := range found {
		list[i] = driver{p, glance}
	}
	return list, errs
}

// Known are the names of those that have answered.
func (ps *Plugins) Known() []string {
	var names []string
	for _, p := range ps.finder.Known(capability) {
		names = append(names, p.Name)
	}
	return names
}

// driver is one plugin, with the time that it has for an answer to a question.
type driver struct {
	p        *plugin.Plugin
	patience time.Duration
}

// request is what all methods of the protocol are given.
type request struct {
	Name string
	ID   string            `json:",omitempty"`
	Opts map[string]string `json:",omitempty"`
}

// answer is what all of them answer.
type answer struct {
	Mountpoint   string
	Volume       *described
	Volumes      []described
	Capabilities struct{ Scope string }
	Err          string
}

// described is a volume in an answer.
type described struct {
	Name       string
	Mountpoint string
	CreatedAt  string
	Status     map[string]any
}

func (d driver) call(ctx context.Context, limit time.Duration, method string, r request) (answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errors.New("it does not answer"))
	defer cancel()
	var a answer
	if err := d.p.Call(ctx, capability+"."+method, r, &a); err != nil {
		return a, err
	}
	if a.Err != "" {
		return a, errors.New(plugin.Shown(a.Err))
	}
	return a, nil
}

// Name is the plugin's name.
func (d driver) Name() string { return d.p.Name }

// Scope is "global" if the plugin says so.
func (d driver) Scope(ctx context.Context) string {
	a, err := d.call(ctx, d.patience, "Capabilities", request{})
	if err == nil && a.Capabilities.Scope == "global" {
		return "global"
	}
	return "local"
}

// Create has the plugin make a volume.
func (d driver) Create(ctx context.Context, name string, options map[string]string) error {
	_, err := d.call(ctx, long, "Create", request{Name: name, Opts: options})
	return err
}

// Remove has the plugin remove a volume.
func (d driver) Remove(ctx context.Context, name string) error {
	_, err := d.call(ctx, long, "Remove", request{Name: name})
	return err
}

// Mount has the plugin mount a volume. An answer without a path is followed by the
// question for it.
func (d driver) Mount(ctx context.Context, name, user string) (string, error) {
	a, err := d.call(ctx, long, "Mount", request{Name: name, ID: user})
	if err != nil || a.Mountpoint != "" {
		return a.Mountpoint, err
	}
	a, err = d.call(ctx, d.patience, "Path", request{Name: name})
	return a.Mountpoint, err
}

// Unmount has the plugin unmount a volume.
func (d driver) Unmount(ctx context.Context, name, user string) error {
	_, err := d.call(ctx, long, "Unmount", request{Name: name, ID: user})
	return err
}

// Get tells of a volume.
func (d driver) Get(ctx context.Context, name string) (volume.Remote, error) {
	a, err := d.call(ctx, d.patience, "Get", request{Name: name})
	switch {
	case err != nil:
		return volume.Remote{}, err
	case a.Volume == nil || a.Volume.Name != name:
		return volume.Remote{}, errdefs.New(errdefs.NotFound, "no such volume")
	}
	return a.Volume.checked(), nil
}

// List tells of all volumes that have names for us.
func (d driver) List(ctx context.Context) ([]volume.Remote, error) {
	a, err := d.call(ctx, d.patience, "List", request{})
	if err != nil {
		return nil, err
	}
	var list []volume.Remote
	for _, v := range a.Volumes {
		if volume.CheckName(v.Name) == nil {
			r := v.checked()
			r.Status = nil
			list = append(list, r)
		}
	}
	return list, nil
}

// checked leaves out what cannot be.
func (v described) checked() volume.Remote {
	r := volume.Remote{Name: v.Name, Status: v.Status}
	if filepath.IsAbs(v.Mountpoint) {
		r.Mountpoint = v.Mountpoint
	}
	if at, err := time.Parse(time.RFC3339, v.CreatedAt); err == nil {
		r.Created = at
	}
	return r
}
