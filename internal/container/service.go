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
// The Service is what the engine calls: it finds the container that a request is
// about, and does what is one step. The rest is done by what it joins, each with
// no more than it needs:
//
//	records   where everything lies, and how it is written (records.go)
//	groups    control groups, in the engine's parent or a user's (groups.go)
//	link      the connection with the keeper, and its replacement (link.go)
//	reunion   a new keeper and what we believe are brought together (reunion.go)
//	ids       which ids of the host are a container's (ids.go, userns.go)
//	ooms      lack of memory is told when it happens (oom.go)
//	execs     further processes of a container (execs.go)
//	copies    files go in and out, through views of their own (copies.go, view.go)
//	volumes   what a container has of volumes, from its creation to its removal (volumes.go)
//	cells     halves of starts, done ahead (cells.go)
//	creations records and layers are made (create.go)
//	launcher  what a run needs is acquired, and its program executed (launch.go)
//	starts    from a request to a run, by a launch (start.go)
//	watches   health and time of a run (watches.go, healthcheck.go)
//	forwards  its output sent elsewhere (forwards.go)
//	stops     signals, and the ends of runs that are asked for (stop.go)
//	exits     from the end of a run to where nothing is left of it (exit.go)
//	restarter what follows an end, by the container's policy (restarts.go)
//	removals  containers are taken away (remove.go)
//	work      what goes on beside the answers (work.go)
//
// and the packages below: spec (bad requests, defaults, the OCI runtime spec),
// index, ps, stats, health, restart.
package container

import (
	"path/filepath"

	"github.com/tare-engine/tare/internal/container/index"
	"github.com/tare-engine/tare/internal/container/stats"
	"github.com/tare-engine/tare/internal/event"
	"github.com/tare-engine/tare/internal/idrange"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/cgroup"
	"github.com/tare-engine/tare/internal/logfile"
	"github.com/tare-engine/tare/internal/logs"
	"github.com/tare-engine/tare/internal/logs/forward"
	"github.com/tare-engine/tare/internal/network"
	"github.com/tare-engine/tare/internal/runtime/external"
	"github.com/tare-engine/tare/internal/store"
	"github.com/tare-engine/tare/internal/volume"
)

// Config says where the service keeps things and what is the same for all of
// its containers.
type Config struct {
	DataRoot string // containers/ is ours
	ExecRoot string // containers/ is ours, on tmpfs
	Cgroup   string // parent of all our groups: "tare", or "tare-E8" for a second engine
	BootID   string // of this boot of the host
	Defaults Defaults
	IDRange  *idrange.Pool // ids of containers that want a range of their own
	Units    cgroup.Units  // systemd's, for scopes that there are or will be
}

// Service owns the containers of an engine. Safe for concurrent use.
type Service struct {
	cfg      Config
	layers   *layer.Service
	networks *network.Service
	events   eventLog
	records  *records
	groups   *groups
	index    *index.Index[*Container]
	execs    *Execs
	views    *views
	copies   *Copies
	cells    *cells
	ooms     *ooms
	ids      *ids
	links    *links
	volumes  *volumes
	stats    *stats.Collector

	followers logs.Followers
	forwards  *forwards
	departed  departed

	creations *creations
	starts    *starts
	stops     *stops
	removals  *removals
	exits     *exits
	restarter *restarter
	watches   *watches

	link   *link
	far    *far
	work   *work
	strays strays
	places places
}

// New returns a service without containers; Boot fills it.
func New(cfg Config, layers *layer.Service, networks *network.Service, volumeService *volume.Service, events *event.Log, store *store.Store, dial DialKeeper) *Service {
	s := &Service{
		cfg: cfg, layers: layers, networks: networks, events: eventLog{events}, work: newWork(), places: newPlaces(),
		records: &records{dataRoot: cfg.DataRoot, execRoot: cfg.ExecRoot, store: store},
		index:   index.New[*Container](),
	}
	s.index.Link = linkTo
	s.groups = &groups{parent: cfg.Cgroup, systemd: cfg.Defaults.Systemd, units: cfg.Units, records: s.records, home: external.Home(cfg.ExecRoot)}
	s.link = &link{dial: dial.open, work: s.work}
	s.execs = &Execs{execTable: newExecTable(), defaults: &s.cfg.Defaults, index: s.index, link: s.link, records: s.records, events: s.events}
	s.cells = newCells(cfg.Cgroup, s.records, networks, s.link)
	s.cells.off = cfg.Defaults.Systemd // a cell would cost a job of systemd's, used or not
	s.ids = &ids{index: s.index, remap: cfg.Defaults.Remap, pool: cfg.IDRange, layers: layers}
	s.ooms, s.links = newOOMs(s.events), newLinks()
	s.volumes = &volumes{index: s.index, records: s.records, layers: layers, service: volumeService, work: s.work}
	s.views = &views{records: s.records, layers: layers, ids: s.ids, volumes: s.volumes, open: map[string][]*visit{}}
	s.copies = &Copies{index: s.index, views: s.views, events: s.events, work: s.work, slots: make(chan struct{}, maxAllCopies)}

	s.restarter = &restarter{index: s.index, records: s.records, link: s.link, work: s.work}
	s.stops = &stops{events: s.events, restarts: s.restarter}
	s.forwards = &forwards{records: s.records, service: forward.New()}
	s.removals = &removals{
		index: s.index, records: s.records, layers: layers, ids: s.ids, execs: s.execs, stops: s.stops, events: s.events, work: s.work, links: s.links,
		volumes: s.volumes, followers: &s.followers, departed: &s.departed, places: s.places, forwards: s.forwards,
	}
	s.creations = &creations{
		index: s.index, records: s.records, groups: s.groups, layers: layers, ids: s.ids, cells: s.cells, networks: networks, events: s.events, removals: s.removals,
		volumes: s.volumes, places: s.places,
	}
	s.watches = &watches{forwards: s.forwards, records: s.records, events: s.events, work: s.work, execs: s.execs, stops: s.stops, service: s}
	launcher := s.newLauncher()
	s.starts = &starts{
		launcher: launcher, index: s.index, records: s.records, link: s.link, cells: s.cells, events: s.events, work: s.work,
		ooms: s.ooms, watches: s.watches, restarts: s.restarter, removals: s.removals,
	}
	s.restarter.starts = s.starts
	s.exits = &exits{
		forwards: s.forwards, index: s.index, records: s.records, groups: s.groups, ooms: s.ooms, events: s.events, work: s.work, restarts: s.restarter,
		removals: s.removals, giveBack: launcher.giveBack,
	}
	s.far = s.newFar()
	s.link.far = s.far
	s.stats = stats.New(measured{s.index})
	return s
}

// Branches change what roots consist of.
func (s *Service) Branches() *Branches {
	return &Branches{index: s.index, layers: s.layers, ids: s.ids}
}

// Copies bring files into containers and out of them.
func (s *Service) Copies() *Copies { return s.copies }

// Defaults are what the service was made with.
func (s *Service) Defaults() *Defaults { return &s.cfg.Defaults }

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
	s.work.close()
	s.cells.stop()
	s.ooms.close()
	s.link.settle() // it may find strays
	s.strays.wait(strayWait)
	s.work.wait()
	s.link.close(!s.anyAlive())
	s.forwards.service.Close()
	s.ids.close()
}

func (s *Service) anyAlive() bool {
	for _, c := range s.index.List() {
		if c.View().Alive() {
			return true
		}
	}
	return false
}

// LogPath is the container's live log file, of the log driver json-file.
func (s *Service) LogPath(id string) string {
	return filepath.Join(s.records.logDir(id), logfile.Name(id, logfile.JSON))
}

// FilePath is one of the files that the engine writes for a container: "hosts",
// "hostname", "resolv.conf" or "localtime".
func (s *Service) FilePath(id, name string) string { return s.records.file(id, name) }
