package container

import (
	"os"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/container/health"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/idrange"
)

// recordVersion is written into every durable record. A reader accepts all from
// 1 to this one.
const recordVersion = 1

// Record is what is kept of a container: its configuration and how its last
// run ended. It is never changed once it is published; a change makes a copy.
//
// It lies in DATAROOT/containers/ID/record.json. The record of a container
// that removes itself (--rm) lies in EXECROOT/containers/ID.json, on tmpfs: a
// reboot removes such a container by definition.
type Record struct {
	Version int
	ID      string
	Name    string // without a slash
	Created time.Time

	Image    string           // image ID; empty with Rootfs
	Chain    digest.Digest    // the image's layers; empty with Rootfs
	Rootfs   string           `json:",omitempty"` // a host directory that is the root (--rootfs)
	Platform ocispec.Platform // of the image
	// Manifest is that of the image by which it was made; "": a rootfs, or a record
	// of before.
	Manifest ocispec.Descriptor `json:",omitzero"`

	Path string // program and
	Args []string

	Config     *container.Config
	HostConfig *container.HostConfig
	Networking *network.NetworkingConfig `json:",omitempty"`
	IDs        *idrange.Map              `json:",omitempty"` // nil: its ids are the host's
	// ShallowBinds says that a read-only -v leaves the mounts below it writable: the
	// client is older than API 1.44.
	ShallowBinds bool     `json:",omitempty"`
	Requires     []string `json:",omitempty"` // IDs of containers that are started before it
	// Mounts are its volumes, images, and what it has of other containers.
	Mounts []spec.Mount `json:",omitempty"`

	Last    Outcome
	Run     bool `json:",omitempty"` // made to be started by the same request: alone it is nothing
	Stopped bool `json:",omitempty"` // by a user: the policy "unless-stopped" does not start it at boot
}

// Outcome says how the last run of a container went.
type Outcome struct {
	StartedAt  time.Time // zero: it never ran
	FinishedAt time.Time
	ExitCode   int
	OOMKilled  bool   `json:",omitempty"`
	Error      string `json:",omitempty"`
	Restarts   int    `json:",omitempty"`
	GivenUp    bool   `json:",omitempty"` // its startup probe failed too often: it is started again, whatever the policy says
}

// Request is what Create makes a container of. The engine has merged the image's
// configuration into Config and applied defaults to HostConfig.
type Request struct {
	Name       string // empty: one is made up
	Replace    bool   // who has the name is removed
	Run        bool   // it is started by the same request
	Image      string
	Chain      digest.Digest
	Rootfs     string
	Platform   ocispec.Platform
	Manifest   ocispec.Descriptor
	Config     *container.Config
	HostConfig *container.HostConfig
	Networking *network.NetworkingConfig
	Images     []spec.Mount // whose files it has, with IDs and chains

	ShallowBinds bool // see Record

	Adopted *Adopted // it was another engine's; nil: it is new
}

// Adopted is what a container brings along that another engine has had.
type Adopted struct {
	ID      string
	Created time.Time
	Last    Outcome
	Stopped bool
	Volumes map[string]string // names of its anonymous volumes by target; they are there
	Upper   *os.File          // its read-write layer, an upper directory of overlayfs
	Log     []*os.File        // what it has said, in the json-file format, oldest first
}

// live is what a reboot ends: the running process and what it holds of the
// host. It lies in EXECROOT/containers/ID.live.json, and is written after the
// keeper has started the process and before the start is answered.
type live struct {
	BootID     string
	Pid        int    // 0: the keeper was about to start it
	StartTicks uint64 // of /proc/PID/stat: a pid used again is never adopted
	StartedAt  time.Time
	User       specs.User             // of the process: owner of its FIFOs
	Network    *Networking            `json:",omitempty"`
	Cgroup     string                 // see package cgroup
	Health     container.HealthStatus `json:",omitempty"` // as of the last probe
	Startup    health.Progress        `json:",omitzero"`  // of the probe before them
	Restarts   int                    `json:",omitempty"` // that have led to this run
}

// begin changes a record to that of the run.
func (l *live) begin(r *Record) {
	r.Last = Outcome{StartedAt: l.StartedAt, Restarts: l.Restarts}
}
