// Package volume keeps the volumes of an engine: directories with names, whose files
// outlive the containers that use them.
//
//	DATAROOT/volumes/NAME/record.json  what the volume is: see Record
//	                      _data/       its files, or where they are mounted
//	                      for          the container with which it was made, as long as that may fail
//	                      copy/        what an image or a snapshot has for it, being copied
//	                      snapshots/   copies of its files: see Snapshot
//	                      mounts/      what its plugin has been told of users: see notes.go
//	                      removing     its plugin has been told to remove it
//	DATAROOT/volumes/.new-*            being made
//	DATAROOT/volumes/.gone-*           removed, being deleted
//	DATAROOT/volumes/.damaged-NAME-*   its record cannot be read; kept for whoever wants to look
//
// A volume appears by one rename after it is on disk, and disappears by one rename:
// it is whole or not there, whenever we are killed.
//
// Two kinds of users are counted, both by the ID of a container. Who has acquired a
// volume, running or not, keeps it from being removed. Who has mounted it runs: a
// volume whose driver mounts something is mounted with the first and unmounted
// after the last. Neither count is on disk: containers know what they use, and the
// engine tells it again at its start (Acquire, Adopt, then Settle).
//
//	s, err := volume.Open(volume.Config{…})
//	v, made, err := s.Create(ctx, volume.Request{Name: "db", User: id})
//	path, err := s.Mount(ctx, "db", volume.Mounting{User: id, Destination: "/data"})
//	…                                          // the container runs
//	err = s.Unmount("db", id)
//	s.Release("db", id)
package volume

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/event"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/store"
	"github.com/tare-engine/tare/internal/tally"
)

// Driver keeps the files of volumes. Paths that it is given lie in the data root and
// are trusted. It is safe for concurrent use, and called once at a time for a volume.
type Driver interface {
	// Name is the driver's name.
	Name() string
	// Check refuses options that no volume can have.
	Check(options map[string]string) error
	// Make makes what a volume needs in the new directory dir, beside the empty
	// directory of its files.
	Make(ctx context.Context, dir string, options map[string]string) error
	// Mounts reports whether the files of a volume have to be mounted to be seen.
	Mounts(dir string, options map[string]string) bool
	// Mount mounts them at the directory at.
	Mount(ctx context.Context, dir, at string, options map[string]string) error
	// Unmount takes that back; what is not mounted is no error.
	Unmount(at string) error
}

// Sizer is a Driver that knows better than a walk what a volume takes.
type Sizer interface {
	// Size is what the files take on disk, in bytes; false: walk.
	Size(dir string, options map[string]string) (int64, bool)
	// SnapshotSize is what those of the snapshot in dir take, of which nothing counts
	// that the volume or another snapshot has as well, where that is known; false: walk.
	SnapshotSize(dir string) (int64, bool)
}

// Maker is a Driver that makes and copies directories of files itself, as some
// file systems count, limit and copy what is in such that they have been told of.
type Maker interface {
	// MakeFiles makes an empty directory.
	MakeFiles(dir string, options map[string]string) error
	// CopyFiles makes a copy of the directory from, on disk, in the place of the empty
	// directory to, if that can be done at once; false: nothing was done.
	CopyFiles(from, to string, options map[string]string) (bool, error)
}

// Deleter is a Driver that has to be told of what is deleted.
type Deleter interface {
	// DeleteFiles deletes what it can delete at once, or what is elsewhere, of a directory
	// with directories of files, which may be no volume's of the driver.
	DeleteFiles(dir string) error
}

// Holder is a Driver some of whose volumes have all of their files in the data root.
type Holder interface {
	// Content is the one name in a volume's directory that has all of its files, written
	// out, while nobody has it mounted; "": they are elsewhere. Unavailable: somebody still has them.
	Content(dir string, options map[string]string) (name string, err error)
}

// Config of a Service.
type Config struct {
	Dir     string // DATAROOT/volumes
	Store   *store.Store
	Events  *event.Log
	Drivers []Driver // the first is that of volumes which name none
	Plugins Plugins  // more drivers; nil: none
	Private []string // directories of the engine's, beside its data root, that no plugin's volume may lead to
}

// Service owns the volumes of an engine. Safe for concurrent use.
type Service struct {
	cfg    Config
	beside sync.WaitGroup  // what goes on beside requests: deletions, what plugins are told
	ctx    context.Context // ends with Close
	stop   context.CancelFunc

	mu      sync.Mutex        // held for a look into volumes only, never while waiting for an entry
	volumes map[string]*entry // by name: see table.go

	sizes  tally.Tally[int64] // of volumes, by name
	copies chan struct{}      // one for each copy of files.go
}

// View is the picture of a volume that readers get: never changed once it is stored.
type View struct {
	Record
	Mountpoint string
	Users      []string // IDs of containers that have it, running or not, each once

	// What its plugin says, if it has one and was asked.
	Scope  string
	Status map[string]any
}

// Anonymous reports whether the engine has made up the volume's name.
func (v *View) Anonymous() bool { _, ok := v.Labels[AnonymousLabel]; return ok }

// AnonymousLabel is borne by volumes whose names the engine has made up.
const AnonymousLabel = "com.docker.volume.anonymous"

// Files is the directory in a volume's directory where its files are seen.
const Files = "_data"

const (
	recordFile = "record.json"
	forFile    = "for"
	copyDir    = "copy"

	newPrefix     = ".new-"
	gonePrefix    = ".gone-"
	damagedPrefix = ".damaged-"
)

// Open reads all records. One that cannot be read is set aside and named.
func Open(cfg Config) (*Service, error) {
	s := &Service{cfg: cfg, volumes: map[string]*entry{}, copies: make(chan struct{}, maxCopies)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	if err := os.MkdirAll(cfg.Dir, 0o710); err != nil {
		return nil, err
	}
	dirs, err := os.ReadDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	var garbage []string
	for _, d := range dirs {
		switch name := d.Name(); {
		case strings.HasPrefix(name, newPrefix), strings.HasPrefix(name, gonePrefix):
			garbage = append(garbage, filepath.Join(cfg.Dir, name))
		case d.IsDir() && CheckName(name) == nil:
			if err := s.load(name); err != nil {
				return nil, err
			}
		}
	}
	s.beside.Go(func() {
		for _, dir := range garbage {
			if err := s.deleteTree(dir); err != nil {
				slog.Warn("delete what is left of a volume", "dir", dir, "err", err)
			}
		}
	})
	return s, nil
}

// load reads one record.
func (s *Service) load(name string) error {
	e := newEntry(name)
	var r Record
	if err := r.read(filepath.Join(s.dir(name), recordFile), name); err != nil {
		to := filepath.Join(s.cfg.Dir, damagedPrefix+name+"-"+ident.Short(ident.New()))
		slog.Error("a volume's record cannot be read; the volume is set aside", "volume", name, "cause", err, "kept", to, "err", os.Rename(s.dir(name), to))
		return nil
	}
	if err := errors.Join(s.deleteTree(filepath.Join(s.dir(name), copyDir)), s.sweepSnapshots(name)); err != nil {
		return err
	}
	_, err := os.Lstat(filepath.Join(s.dir(name), forFile))
	if e.tied = err == nil; err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	e.publish(&View{Record: r, Mountpoint: s.placeOf(r)})
	s.volumes[name] = e
	return nil
}

// Close waits for deletions that are under way, and leaves what plugins have not been
// told yet to the next engine.
func (s *Service) Close() {
	s.stop()
	s.beside.Wait()
	for _, d := range s.cfg.Drivers {
		if c, ok := d.(io.Closer); ok {
			if err := c.Close(); err != nil {
				slog.Warn("close a driver of volumes", "driver", d.Name(), "err", err)
			}
		}
	}
}

// Path is where the files of a volume are seen, which need not exist; "" of one whose
// plugin has not said.
func (s *Service) Path(name string) string {
	if e := s.find(name); e != nil {
		if v := e.view.Load(); v != nil {
			return v.Mountpoint
		}
	}
	return s.files(name)
}

// files is where the files of a volume of our own drivers are seen.
func (s *Service) files(name string) string { return filepath.Join(s.dir(name), Files) }

// placeOf is where the files of a volume with a record are seen, as far as that is known.
func (s *Service) placeOf(r Record) (path string) {
	if s.ours(r.Driver) {
		return s.files(r.Name)
	}
	for _, p := range s.notes(r.Name) {
		if p != "" {
			path = p
		}
	}
	return path
}

func (s *Service) dir(name string) string { return filepath.Join(s.cfg.Dir, name) }

// Get returns the picture of a volume.
func (s *Service) Get(name string) (*View, error) {
	if e := s.find(name); e != nil {
		if v := e.view.Load(); v != nil {
			return v, nil
		}
	}
	return nil, missing(name)
}

func missing(name string) error {
	return errdefs.New(errdefs.NotFound, "get %s: no such volume", shown(name))
}

// List returns the pictures of all volumes, by name.
func (s *Service) List() []*View {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*View, 0, len(s.volumes))
	for _, e := range s.volumes {
		if v := e.view.Load(); v != nil {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(a, b *View) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// driver returns a driver by its name, "" for the first.
func (s *Service) driver(name string) (Driver, error) {
	for _, d := range s.cfg.Drivers {
		if name == "" || d.Name() == name {
			return d, nil
		}
	}
	return nil, errdefs.New(errdefs.NotFound, "error looking up volume plugin %s: plugin %q not found", shown(name), shown(name))
}

// Drivers are the names of the drivers that there are.
func (s *Service) Drivers() []string {
	names := make([]string, len(s.cfg.Drivers))
	for i, d := range s.cfg.Drivers {
		names[i] = d.Name()
	}
	if s.cfg.Plugins != nil {
		names = append(names, s.cfg.Plugins.Known()...)
	}
	return names
}

// tell tells listeners what happened to a volume.
func (s *Service) tell(action events.Action, v *View, extra ...string) {
	attrs := map[string]string{"driver": v.Driver}
	for i := 0; i+1 < len(extra); i += 2 {
		attrs[extra[i]] = extra[i+1]
	}
	s.cfg.Events.Publish(events.VolumeEventType, action, v.Name, attrs)
}

// Record is what is kept on disk of a volume.
type Record struct {
	Version int
	Name    string
	Driver  string
	Created time.Time
	Labels  map[string]string `json:",omitempty"`
	Options map[string]string `json:",omitempty"` // the driver's, as they were given
}

const recordVersion = 1

// read reads a record that this version of the engine knows.
func (r *Record) read(file, name string) error {
	switch err := store.Get(file, r); {
	case err != nil:
		return err
	case r.Version != recordVersion:
		return errdefs.New(errdefs.Internal, "a record of version %d, known is %d", r.Version, recordVersion)
	}
	r.Name = name // a rename that was cut off has not changed it
	return nil
}
