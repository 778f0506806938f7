// Package layer turns chains of layers into mounted root file systems.
//
// A layer is a directory unpacked from a tar stream; its diff ID is the digest
// of that stream. A chain is a layer on top of others; its chain ID (OCI image
// specification) names the whole. A container is a chain, one generated layer
// with the mount points that every container needs (see mountpoints.go), and a
// read-write directory of its own:
//
//	DATAROOT/layers/DRIVER/CHAIN/layer.json   parent, diff ID, size
//	                             diff/        the layer, in the driver's form
//	                             init/        made on first use: mount points
//	DATAROOT/layers/DRIVER/none/init/         the same for the empty chain
//	DATAROOT/layers/DRIVER/staging/           what is not committed; emptied at start
//	DATAROOT/containers/ID/{rw,work}          the container's own layer
//	DATAROOT/containers/ID/lower              link to its chain; lower-volatile with --rm
//	DATAROOT/containers/ID/added-CHAIN        link to one that was added while it runs
//	DATAROOT/trash/                           removed, being deleted; emptied at start
//
// A layer appears by one rename after it is on disk, and disappears by one
// rename into the trash: it is whole or not there, whenever we are killed.
//
// Starting a container reads nothing from disk: the directories of chains that
// were used once are known from memory.
package layer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/filemeta"
	"github.com/tare-engine/tare/internal/linux/totar"
	"github.com/tare-engine/tare/internal/linux/treerm"
	"github.com/tare-engine/tare/internal/tally"
)

// ChainID names a chain of layers; "" is the chain of none.
type ChainID = digest.Digest

// DiffID is the digest of a layer's uncompressed tar stream.
type DiffID = digest.Digest

// Root is what a driver mounts: an own directory on top of lower ones.
type Root struct {
	Upper, Work string   // both exist
	Lower       []string // topmost first
	Volatile    bool     // nothing of it has to survive a power cut
	Size        int64    // for Prepare: the bytes that Upper may take; 0: as many as there are
	UserNS      *os.File // maps the ids of the layers' files; nil: they are as they are
}

// Driver stores layers in its own form and mounts them. What a driver must do
// is said by package layertest.
type Driver interface {
	// Name is the driver's name and its directory.
	Name() string
	// Form is what the driver's directories hold.
	Form() Form
	// Status is what docker info says of the driver.
	Status() [][2]string
	// Limit reads the storage options of a container: the bytes that its own layer
	// may take, 0 for as many as there are. Errors are InvalidArgument.
	Limit(options map[string]string) (int64, error)
	// Prepare makes the directory r.Upper, ready to be mounted; r.Work is there, or
	// "" if it is not to be mounted. It is fs.ErrExist if r.Upper is there. After
	// another error r.Upper may be there in any state.
	Prepare(ctx context.Context, r Root) error
	// Mount returns a mount that is attached nowhere; the caller closes it.
	Mount(ctx context.Context, r Root) (*os.File, error)
	// View returns the same of lower directories alone, read-only. There is at
	// least one.
	View(ctx context.Context, lower []string) (*os.File, error)
	// MapsIDs reports why the driver cannot mount with Root.UserNS; nil: it can.
	MapsIDs(ctx context.Context, ns *os.File) error
	// Changes tells what r.Upper changes.
	Changes(ctx context.Context, r Root) ([]Change, error)
	// Diff writes what r.Upper changes as a layer (OCI image specification,
	// layer.md). It may be mounted and changing; what vanishes is left out.
	Diff(ctx context.Context, r Root, out io.Writer, o totar.Options) error
	// Usage measures what r.Upper changes, by what the file system counts if it can.
	Usage(ctx context.Context, r Root) (Usage, error)
	// Whole returns a read-only mount of what a container sees, attached nowhere,
	// in which files have the owners that they have in r.Upper. The root may be
	// mounted for the container as well.
	Whole(ctx context.Context, r Root) (*os.File, error)
}

// Warner is what a driver is besides that may be used otherwise than it should.
type Warner interface {
	// Warnings are for docker info.
	Warnings() []string
}

// Deleter is what a driver is besides whose directories have what os.RemoveAll
// does not take away, or not quickly.
type Deleter interface {
	// Delete deletes a directory of the driver's, or one that has such in it.
	Delete(dir string) error
}

// Kind of a change.
type Kind int

// Kinds; the numbers are those of the Engine API.
const (
	Modified Kind = iota
	Added
	Deleted
)

// Change is one path in which a container differs from its image.
type Change struct {
	Kind Kind
	Path string // absolute
}

// Usage is the space that a container's own layer takes.
type Usage struct {
	Bytes  int64
	Inodes int64 // 0 where the file system counts bytes only
}

// Service owns the layers and the containers' read-write directories of one
// data root.
type Service struct {
	driver     Driver
	layers     string // DATAROOT/layers/DRIVER
	containers string // DATAROOT/containers
	lentDir    string
	private    []string // Config.Private
	others     []string // storage drivers that have layers here, without ours
	trash      *trash
	recent     tally.Tally[Usage] // of containers, by ID
	initMu     sync.Mutex         // one maker of init layers at a time; taken before mu

	mu         sync.Mutex
	chains     map[ChainID]*chain   // loaded ones
	containing map[string]placement // container ID → what it stands on
	doomed     map[ChainID]struct{} // to be removed when no container needs them
	lent       map[string]ChainID   // link → what it leads to
	added      map[string][]ChainID // container ID → what came to its own chain
}

// placement is what a container's root consists of.
type placement struct {
	chain    ChainID
	volatile bool
}

// chain is a committed layer with all below it. It does not change, except
// that init appears.
type chain struct {
	id     ChainID
	record record
	lower  []string // directories, topmost first

	// +checklocks:Service.mu
	init     *initLayer
	initDisk int64 // 0: not known
}

// initLayer is the generated layer of mount points on top of a chain.
type initLayer struct {
	dir  string
	root filemeta.Meta // what a container's root directory gets
}

// record is layer.json.
type record struct {
	Version int     `json:"version"`
	Parent  ChainID `json:"parent,omitempty"`
	DiffID  DiffID  `json:"diffID"`
	Size    int64   `json:"size"`
	Disk    int64   `json:"disk,omitempty"` // as Service.Disk counts; 0: not known, an older version wrote the record
}

const recordVersion = 1

// Config of a Service.
type Config struct {
	Root    string // the data root
	Driver  Driver
	Lent    string   // directory with links that Lend makes; "": nothing is lent
	Private []string // directories of the engine's, beside its data root, that no container gets
}

// Open makes the directories, empties staging and trash, and learns which
// chains containers stand on. Nothing else is read.
func Open(c Config) (*Service, error) {
	s := &Service{
		driver:     c.Driver,
		layers:     filepath.Join(c.Root, "layers", c.Driver.Name()),
		containers: filepath.Join(c.Root, "containers"),
		chains:     map[ChainID]*chain{},
		containing: map[string]placement{},
		doomed:     map[ChainID]struct{}{},
		lentDir:    c.Lent,
		private:    c.Private,
		lent:       map[string]ChainID{},
		added:      map[string][]ChainID{},
	}
	for _, dir := range []string{s.layers, s.staging(), s.containers} {
		if err := os.MkdirAll(dir, 0710); err != nil {
			return nil, err
		}
	}
	var err error
	remove := treerm.All
	if d, ok := c.Driver.(Deleter); ok {
		remove = d.Delete
	}
	if s.trash, err = openTrash(filepath.Join(c.Root, "trash"), remove); err != nil {
		return nil, err
	}
	if err := s.emptyStaging(); err != nil {
		return nil, errors.Join(err, s.trash.close())
	}
	if err := errors.Join(s.findContainers(), s.findLent(), s.findAdded(), s.findOthers()); err != nil {
		return nil, errors.Join(err, s.trash.close())
	}
	return s, nil
}

// recordFile is written last of a layer's files: without it there is no layer.
const recordFile = "layer.json"

// findOthers looks which other drivers have been used on this data root: to
// them belong images and containers that we do not find.
func (s *Service) findOthers() error {
	drivers, err := os.ReadDir(filepath.Dir(s.layers))
	if err != nil {
		return err
	}
	for _, d := range drivers {
		chains, err := filepath.Glob(filepath.Join(filepath.Dir(s.layers), d.Name(), "*", recordFile))
		if err != nil {
			return err
		}
		if d.Name() == s.driver.Name() || len(chains) == 0 {
			continue
		}
		s.others = append(s.others, d.Name())
		slog.Warn("images and containers of another storage driver are here and cannot be used; start the engine with --storage-driver "+d.Name()+" to use them",
			"driver", d.Name(), "layers", len(chains), "present", s.driver.Name())
	}
	return nil
}

// missing says that something is not there, and what else it may belong to.
func (s *Service) missing(what string) error {
	if len(s.others) == 0 {
		return errdefs.New(errdefs.NotFound, "%s", what)
	}
	return errdefs.New(errdefs.NotFound, "%s with storage driver %s; here are also layers of %s: to use them start the engine with that --storage-driver",
		what, s.driver.Name(), strings.Join(s.others, ", "))
}

// Close stops the deletion of what was removed; the next Open goes on with it. Mounts
// stay.
func (s *Service) Close() error { return errors.Join(s.trash.close(), s.closeDriver()) }

// Driver returns the driver's name.
func (s *Service) Driver() string { return s.driver.Name() }

// Status is what docker info says of the driver.
func (s *Service) Status() [][2]string { return s.driver.Status() }

// Warnings are what docker info warns of about the driver.
func (s *Service) Warnings() []string {
	if w, ok := s.driver.(Warner); ok {
		return w.Warnings()
	}
	return nil
}

// Limit reads the storage options of a container, for Options.Size. Errors are
// InvalidArgument.
func (s *Service) Limit(options map[string]string) (int64, error) { return s.driver.Limit(options) }

func (s *Service) staging() string { return filepath.Join(s.layers, "staging") }

func (s *Service) emptyStaging() error {
	entries, err := os.ReadDir(s.staging())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := s.trash.put(filepath.Join(s.staging(), e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Discard removes a file or directory of the data root at once by a rename;
// deletion follows in the background.
func (s *Service) Discard(path string) error { return s.trash.put(path) }

// dir is the directory of a committed chain.
func (s *Service) dir(id ChainID) string {
	if id == "" {
		return filepath.Join(s.layers, "none")
	}
	return filepath.Join(s.layers, id.Encoded())
}

// checkChain makes sure that an ID is fit for a file name.
func checkChain(id ChainID) error {
	if id == "" {
		return nil
	}
	if err := id.Validate(); err != nil || id.Algorithm() != digest.SHA256 {
		return errdefs.New(errdefs.InvalidArgument, "invalid chain ID %q", id)
	}
	return nil
}

// chainOf returns a committed chain; the first time it is read from disk.
func (s *Service) chainOf(id ChainID) (*chain, error) {
	if err := checkChain(id); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.load(id)
}

// load is chainOf. Preconditions: s.mu is held.
func (s *Service) load(id ChainID) (*chain, error) {
	var missing []*chain
	var below *chain
	for at := id; ; {
		if c := s.chains[at]; c != nil {
			below = c
			break
		}
		c, err := s.read(at)
		if err != nil {
			return nil, err
		}
		missing = append(missing, c)
		if at == "" || c.record.Parent == "" {
			break
		}
		at = c.record.Parent
		if len(missing) > maxLayers {
			return nil, fmt.Errorf("layer %s: more than %d layers", id, maxLayers)
		}
	}
	for i := len(missing) - 1; i >= 0; i-- {
		c := missing[i]
		if c.id != "" {
			c.lower = []string{filepath.Join(s.dir(c.id), "diff")}
		}
		if below != nil {
			c.lower = append(c.lower, below.lower...)
		}
		s.chains[c.id] = c
		below = c
	}
	return below, nil
}

// maxLayers bounds a chain; overlayfs takes 500.
const maxLayers = 500

func (s *Service) read(id ChainID) (*chain, error) {
	if id == "" {
		return &chain{}, nil
	}
	name := filepath.Join(s.dir(id), recordFile)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, s.missing("layer " + string(id) + " does not exist")
	}
	if err != nil {
		return nil, err
	}
	c := &chain{id: id}
	if err := json.Unmarshal(b, &c.record); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if c.record.Version != recordVersion {
		return nil, fmt.Errorf("%s: version %d, want %d", name, c.record.Version, recordVersion)
	}
	return c, checkChain(c.record.Parent)
}

// Has reports whether a chain is committed.
func (s *Service) Has(id ChainID) bool {
	_, err := s.chainOf(id)
	return err == nil
}

// Size returns the bytes of a chain's topmost layer alone.
func (s *Service) Size(id ChainID) (int64, error) {
	c, err := s.chainOf(id)
	if err != nil {
		return 0, err
	}
	return c.record.Size, nil
}

// View returns a read-only mount of a chain, attached nowhere. The caller
// closes it.
func (s *Service) View(ctx context.Context, id ChainID) (*os.File, error) {
	c, err := s.chainOf(id)
	if err != nil {
		return nil, err
	}
	if len(c.lower) == 0 {
		return nil, errdefs.New(errdefs.InvalidArgument, "the empty chain has nothing to view")
	}
	return s.driver.View(ctx, c.lower)
}

// Chain returns the ID of a layer on top of a chain (OCI image specification,
// "Layer ChainID").
func Chain(parent ChainID, diff DiffID) ChainID {
	if parent == "" {
		return diff
	}
	return digest.FromString(strings.Join([]string{string(parent), string(diff)}, " "))
}

// MapsIDs reports why containers cannot have ids of their own here; nil: they
// can. ns is any user namespace with maps.
func (s *Service) MapsIDs(ctx context.Context, ns *os.File) error { return s.driver.MapsIDs(ctx, ns) }

// Parent returns the chain that a chain's topmost layer lies on.
func (s *Service) Parent(id ChainID) (ChainID, error) {
	c, err := s.chainOf(id)
	if err != nil {
		return "", err
	}
	return c.record.Parent, nil
}
