// Package engine is where the nouns meet: it answers the Engine API with what
// containers, images and networks know, and holds the rules that need two of
// them (a container's configuration comes from its image; an image in use is
// not removed). The front door, package server, calls it.
package engine

import (
	regtypes "github.com/moby/moby/api/types/registry"

	"github.com/tare-engine/tare/internal/build"
	"github.com/tare-engine/tare/internal/container"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/event"
	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/network"
	"github.com/tare-engine/tare/internal/registry"
	"github.com/tare-engine/tare/internal/store"
	"github.com/tare-engine/tare/internal/volume"
)

// Config is what the engine says of itself.
type Config struct {
	ID        string
	DataRoot  string
	MountDir  string // of images on the host; gone after a reboot
	Version   string
	Commit    string
	BuildTime string // RFC 3339; empty: not known
	Debug     bool
	Live      Live
	MaxAPI    string
	MinAPI    string
	Reserve   *store.Reserve // space for what must work on a full disk

	ImageCap int64 // bytes that images may take; 0: as many as there are
}

// Live is what of an engine's settings may change while it runs.
type Live struct {
	Containers *spec.HostDefaults // what new ones get that do not say otherwise
	Labels     []string           // KEY=VALUE, of the engine

	SeccompProfile string   // file of Containers' profile, or unconfined; empty: ours. Only shown
	Authorization  []string // plugins; only shown

	Registries *regtypes.ServiceConfig
	Foreign    []string // registries from and to which layers go that "must not be distributed"
	Uploads    int      // blobs that a push sends at a time
}

// Engine answers the Engine API.
type Engine struct {
	*Distribution
	cfg        Config
	containers *container.Service
	images     *image.Service
	mounts     *image.Mounts
	layers     *layer.Service
	networks   *network.Service
	builds     *build.Service
	volumes    *volume.Service
	events     *event.Log
}

// New puts the parts together.
func New(cfg Config, containers *container.Service, images *image.Service, layers *layer.Service, networks *network.Service, volumes *volume.Service, registries *registry.Client, builds *build.Service, events *event.Log) *Engine {
	e := &Engine{Distribution: &Distribution{registries: registries, images: images, events: events}, cfg: cfg, containers: containers, images: images, mounts: images.NewMounts(cfg.MountDir), layers: layers, networks: networks, volumes: volumes, builds: builds, events: events}
	e.SetLive(cfg.Live)
	images.SetCap(image.Cap{Bytes: cfg.ImageCap, InUse: e.imageUsers, Collected: func(done []image.Removed) { e.deleted(done) }})
	return e
}

// SetLive changes settings while the engine runs.
func (e *Engine) SetLive(l Live) {
	if l.Containers == nil {
		l.Containers = &spec.HostDefaults{}
	}
	e.live.Store(&l)
}
