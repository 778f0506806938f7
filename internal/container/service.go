// Package container keeps the engine's containers: their records, their states
// and what happens to them.
//
// A container is a Record (its configuration, on disk) and, while it runs, a
// process whose parent is the keeper. The Service owns all of them:
//
//	Create   record on disk, empty read-write layer
//	Start    root mounted, network attached, cgroup made, plan sent to the
//	         keeper; answered when the user's program has been executed
//	(exit)   the keeper reports it: what the run held is given back, the
//	         outcome goes into the record
//	Remove   layer and record go
//
// state.go draws the states. Each change holds the container's lock from the
// decision to the record; readers take an immutable View and no lock.
//
// Rooms of it: spec (bad requests, defaults, the OCI runtime spec), health and
// restart. They know nothing of the Service.
package container

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/internal/container/index"
	"github.com/tare-engine/tare/internal/container/stats"
	"github.com/tare-engine/tare/internal/event"
	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/apparmor"
	"github.com/tare-engine/tare/internal/network"
	"github.com/tare-engine/tare/internal/store"
)

// Config says where the service keeps things and what is the same for all of
// its containers.
type Config struct {
	DataRoot   string // containers/ is ours
	ExecRoot   string // containers/ is ours, on tmpfs
	Cgroup     string // parent of all our groups: "tare", or "tare-E8" for a second engine
	InitPath   string // tare-init; empty: --init is refused
	BootID     string // of this boot of the host
	LogMaxSize int64  // of containers whose LogConfig names none
	LogMaxFile int
	AppArmor   *apparmor.Default // profile of containers that name none; nil: none
}

// Service owns the containers of an engine. Safe for concurrent use.
type Service struct {
	cfg      Config
	layers   *layer.Service
	networks *network.Service
	events   *event.Log
	store    *store.Store
	index    *index.Index[*Container]
	execs    *execTable
	cells    *cells
	stats    *stats.Collector

	dial     DialKeeper
	keeperMu sync.Mutex
	keeper   *keeper.Conn  // nil while the keeper is away
	closing  chan struct{} // closed when Close begins
	strays   strays

	background sync.WaitGroup // clean-up that goes on after an answer
	stopCells  func()         // ends the pool of cells and waits for it; set by Boot
}

// New returns a service without containers; Boot fills it.
func New(cfg Config, layers *layer.Service, networks *network.Service, events *event.Log, store *store.Store, dial DialKeeper) *Service {
	s := &Service{
		cfg: cfg, layers: layers, networks: networks, events: events, store: store, dial: dial,
		closing: make(chan struct{}), index: index.New[*Container](), execs: newExecTable(),
	}
	s.cells = newCells(s)
	s.stats = stats.New(measured{s})
	return s
}

// View returns the picture of the container that ref names.
func (s *Service) View(ref string) (*View, error) {
	c, err := s.index.Find(ref)
	if err != nil {
		return nil, err
	}
	return c.View(), nil
}

// List returns the pictures of all containers, the newest first.
func (s *Service) List() []*View {
	all := s.index.List()
	views := make([]*View, len(all))
	for i, c := range all {
		views[i] = c.View()
	}
	return views
}

// Close waits for clean-up that is under way and leaves the keeper. Containers
// go on; a keeper without any ends.
func (s *Service) Close() {
	s.keeperMu.Lock()
	close(s.closing)
	s.keeperMu.Unlock()
	if s.stopCells != nil {
		s.stopCells()
	}
	s.strays.wait(strayWait)
	s.background.Wait()
	s.keeperMu.Lock()
	defer s.keeperMu.Unlock()
	if s.keeper == nil {
		return
	}
	s.keeper.Close()
	if !s.anyAlive() {
		endKeeper(s.keeper.KeeperPid())
	}
}

func (s *Service) anyAlive() bool {
	for _, c := range s.index.List() {
		if c.View().Alive() {
			return true
		}
	}
	return false
}

// dir is a container's folder below the data root.
func (s *Service) dir(id string) string { return filepath.Join(s.cfg.DataRoot, "containers", id) }

// LogPath is the container's live log file.
func (s *Service) LogPath(id string) string {
	return filepath.Join(s.dir(id), "log", id+"-json.log")
}

// FilePath is one of the files that the engine writes for a container: "hosts",
// "hostname" or "resolv.conf".
func (s *Service) FilePath(id, name string) string { return filepath.Join(s.dir(id), name) }

func (s *Service) recordPath(r *Record) string {
	if r.HostConfig.AutoRemove {
		return filepath.Join(s.cfg.ExecRoot, "containers", r.ID+".json")
	}
	return filepath.Join(s.dir(r.ID), "record.json")
}

func (s *Service) livePath(id string) string {
	return filepath.Join(s.cfg.ExecRoot, "containers", id+".live.json")
}

// putRecord writes a record where it belongs.
func (s *Service) putRecord(r *Record) error {
	if r.HostConfig.AutoRemove {
		return store.PutVolatile(s.recordPath(r), r)
	}
	return s.store.Put(s.recordPath(r), r)
}

// publishEvent tells listeners what happened to a container.
func (s *Service) publishEvent(v *View, action events.Action, extra ...string) {
	attrs := make(map[string]string, len(v.Config.Labels)+4)
	for k, l := range v.Config.Labels {
		attrs[k] = l
	}
	attrs["image"] = v.Config.Image
	attrs["name"] = v.Name
	for i := 0; i+1 < len(extra); i += 2 {
		attrs[extra[i]] = extra[i+1]
	}
	s.events.Publish(events.ContainerEventType, action, v.ID, attrs)
}

// later runs clean-up beside the answer. Its error is logged: nobody waits.
func (s *Service) later(what string, v *View, f func(context.Context) error) {
	s.background.Go(func() {
		if err := f(context.Background()); err != nil {
			slog.Warn(what, "container", v.ID, "err", err)
		}
	})
}
