// Package build builds images: BuildKit inside the engine, on its layers, images,
// networks and runtime.
//
//	b := build.New(build.Config{…})        // nothing is opened yet
//	err := b.ServeGRPC(ctx, conn)          // BuildKit's API, for any client of it
//	err := b.ServeSession(ctx, conn, h)    // a client's side of a build: files, secrets
//
// Everything below DATAROOT/build/DRIVER is a cache: what is damaged there is thrown
// away as a whole, and built again.
//
//	content/          blobs; those that images have too are links to the same files
//	snapshots/ …      package snapshot
//	names.db          blobs, snapshots, leases (containerd)
//	records.db        what BuildKit knows of snapshots
//	cache.db          which step led to which result
//	history.db        builds that were
//	used              which boot it is in use by; not there when all of it is on disk
package build

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/tare-engine/tare/internal/build/snapshot"
	"github.com/tare-engine/tare/internal/content"
	"github.com/tare-engine/tare/internal/event"
	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/linux/disk"
	"github.com/tare-engine/tare/internal/network"
	"github.com/tare-engine/tare/internal/registry"
)

// Config says what builds stand on.
type Config struct {
	Root     string // directory of the cache; made when the first build comes
	ExecRoot string // directory for what need not outlive a reboot
	Runtime  string // path of tare-runtime
	Cgroup   string // parent of the steps' control groups, which nothing else has
	AppArmor string // profile of steps; "": none
	DNS      []string
	CDIDirs  []string
	Bounds   Bounds
	Denied   []string // entitlements that clients cannot give

	Layers     *layer.Service
	Images     *image.Service
	Content    *content.Store
	Networks   *network.Service
	Registries *registry.Client
	Events     *event.Log
}

// Service builds. It may be used by many at once.
type Service struct {
	cfg Config

	mu     sync.Mutex
	opened *builder // nil until somebody wants to build
	closed bool

	orders  orders
	uploads uploads
}

// New makes a service that opens nothing until it is used: an engine that does not
// build pays nothing.
func New(cfg Config) *Service { return &Service{cfg: cfg} }

// CacheDir is where the cache lies in a data root, for a storage driver.
func CacheDir(dataRoot, driver string) string { return filepath.Join(dataRoot, "build", driver) }

// LentDir is the directory of such a cache to which layers are lent.
func LentDir(cache string) string { return snapshot.Dir(cache) }

// errClosed is the error of who comes when the engine ends.
var errClosed = errors.New("the engine is shutting down")

// get opens the builder if need be.
func (s *Service) get(ctx context.Context) (*builder, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if s.opened != nil {
		return s.opened, nil
	}
	ctx = context.WithoutCancel(ctx) // others come after who came first
	var b *builder
	err := intact(s.cfg.Root)
	if err == nil {
		b, err = open(ctx, s.cfg)
	}
	if err != nil && !disk.IsFull(err) {
		slog.Warn("the build cache is damaged and begun anew", "dir", s.cfg.Root, "err", err.Error())
		if derr := s.cfg.Layers.Discard(s.cfg.Root); derr != nil {
			return nil, errors.Join(err, derr)
		}
		b, err = open(ctx, s.cfg)
	}
	if err != nil {
		return nil, fmt.Errorf("open the build cache: %w", err)
	}
	s.opened = b
	return b, nil
}

// Ready opens the builder, or says why that cannot be.
func (s *Service) Ready(ctx context.Context) error {
	_, err := s.get(ctx)
	return err
}

// Close ends builds and closes what is open.
func (s *Service) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.opened == nil {
		return nil
	}
	return s.opened.close()
}
