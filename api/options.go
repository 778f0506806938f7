package api

import (
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// CreateOptions are what a new container needs beside its configuration.
type CreateOptions struct {
	Name     string            `json:",omitempty"` // "": the engine makes one up
	Platform *ocispec.Platform `json:",omitempty"`

	// ShallowBinds leaves the mounts below a read-only -v writable, as for clients
	// before API 1.44.
	ShallowBinds bool `json:"-"`

	// What follows is ours.

	Rootfs  string `json:",omitempty"` // a directory of the engine's machine instead of an image
	Replace bool   `json:",omitempty"` // a container of that name, running or not, is removed first
}

// StopOptions say how a container is stopped or restarted.
type StopOptions struct {
	Signal  string // empty: the container's own stop signal
	Timeout *int   // seconds until SIGKILL; negative waits without end, nil is the container's own
}

// AttachOptions say which streams of a process a client wants.
type AttachOptions struct {
	Stdin      bool   `json:",omitempty"`
	Stdout     bool   `json:",omitempty"`
	Stderr     bool   `json:",omitempty"`
	Stream     bool   `json:",omitempty"` // what comes from now on
	Logs       bool   `json:",omitempty"` // what was written before
	DetachKeys string `json:",omitempty"` // empty: [DefaultDetachKeys]
}

// LogsOptions choose lines of a container's log.
type LogsOptions struct {
	Since, Until   time.Time // zero: no bound
	Tail           string    // number of lines; "all" or empty is all of them
	Follow         bool
	Stdout, Stderr bool
	Timestamps     bool // each line begins with its time
	Details        bool // and with the attributes of the log
}

// ListOptions choose containers.
type ListOptions struct {
	All     bool // also those that are not running
	Limit   int  // the newest n, running or not; zero or less is no limit
	Size    bool // count the bytes of their read-write layers
	Filters Filters
	Counted Counted
}

// Counted, if it is not nil, is told of which time the oldest of the sizes in an answer is,
// if that is not now: what it takes long to count is not counted each time.
type Counted func(at time.Time)

// CountedHeader tells clients so, as RFC 3339 has it.
const CountedHeader = "Tare-Counted"

// RemoveOptions say what goes away with a container.
type RemoveOptions struct {
	Force   bool // kill it if it runs
	Volumes bool // its anonymous volumes
	Link    bool // only the link of that name
	Depend  bool // all containers that require it, first (Tare only)
}

// ImageListOptions choose images.
type ImageListOptions struct {
	All        bool
	SharedSize bool
	Manifests  bool
	Filters    Filters
}

// ImageInspectOptions say what is told of an image.
type ImageInspectOptions struct {
	Manifests bool
	Platforms []ocispec.Platform // it must be for each of them
}

// ImageAttestationsOptions say which statements about an image are wanted.
type ImageAttestationsOptions struct {
	Platforms []ocispec.Platform // the image must be for each of them
	Types     []string           // of predicates; none: all
	Statement bool               // the statements themselves, too
}

// ImageRemoveOptions say what goes away with a reference.
type ImageRemoveOptions struct {
	Force     bool
	NoPrune   bool
	Platforms []ocispec.Platform // the image must be for each of them
}

// PullOptions say what is pulled: the parts of a reference as the Engine API
// has them, where Tag may be a digest.
type PullOptions struct {
	Repo, Tag string
	Platform  *ocispec.Platform
	Auth      *registry.AuthConfig // nil: none
}

// PushOptions say what is pushed: without Tag all tags of the repository.
type PushOptions struct {
	Repo, Tag string
	Platform  *ocispec.Platform    // nil: all that are there
	Auth      *registry.AuthConfig // nil: none
}

// SearchOptions of a search for images.
type SearchOptions struct {
	Term    string
	Limit   int // 0: the registry's default
	Filters Filters
	Auth    *registry.AuthConfig // nil: none
}

// DiskUsageOptions choose what is counted; nothing chosen is everything.
type DiskUsageOptions struct {
	Containers, Images, Volumes, BuildCache bool
	Counted                                 Counted
}

// Filters that the list and prune operations accept.
var (
	ContainerFilters      = []string{"ancestor", "annotation", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network", "publish", "since", "status", "volume"}
	ContainerPruneFilters = []string{"label", "label!", "until"}
	EventFilters          = []string{"config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope", "secret", "service", "type", "volume"}
	SearchFilters         = []string{"is-automated", "is-official", "stars"}
	ImageFilters          = []string{"before", "dangling", "label", "reference", "since", "until"}
	ImagePruneFilters     = []string{"dangling", "label", "label!", "until", "unused-for"}
	NetworkFilters        = []string{"dangling", "driver", "id", "label", "name", "scope", "type"}
	BuildPruneFilters     = []string{"until", "unused-for", "id", "parent", "type", "description", "inuse", "shared", "private"}
	NetworkPruneFilters   = []string{"label", "label!", "until"}
	VolumeFilters         = []string{"dangling", "driver", "label", "name"}
	VolumePruneFilters    = []string{"all", "label", "label!"}
)

// CommitOptions say what an image is made of.
type CommitOptions struct {
	Container string
	Repo, Tag string // "": the image gets no name
	Comment   string
	Author    string
	Changes   []string          // instructions of a Dockerfile
	Pause     bool              // freeze the container's processes meanwhile
	Config    *container.Config // what it leaves open is the container's; nil: all of it
}

// ImportOptions say what becomes of an imported archive.
type ImportOptions struct {
	Source    string // a URL, or "-" for what is sent
	Repo, Tag string // "": the image gets no name
	Message   string
	Changes   []string // instructions of a Dockerfile
	Platform  *ocispec.Platform
}

// BuildPruneOptions say what of the build cache goes (POST /build/prune).
type BuildPruneOptions struct {
	All      bool  // internal and shared entries too
	Reserved int64 // bytes that stay in any case (reserved-space)
	MaxUsed  int64 // bytes to which the cache is to shrink (max-used-space)
	MinFree  int64 // bytes of the disk that are to be free (min-free-space)
	Filters  Filters
}

// BuildRequest is a build as the API had it before BuildKit (POST /build).
type BuildRequest struct {
	Attrs       map[string]string // for the Dockerfile's frontend, in BuildKit's words
	Remote      string            // URL of the context; "": it comes with the request
	Tags        []string
	CacheFrom   []string
	HostNetwork bool
	Limits      container.Resources // what of Attrs are limits
	Quiet       bool
	ID          string // by which it can be cancelled
	Auths       map[string]registry.AuthConfig

	Solve       bool   // by BuildKit, which tells how it gets on in its own words, with files and secrets of a session
	Session     string // its ID
	InlineCache bool
	Output      *BuildOutput // nil: an image of the engine
}

// BuildOutput is where the result of a build goes.
type BuildOutput struct {
	Type  string
	Attrs map[string]string
}

// Words for BuildRequest.Remote, and for what begins the ID of a build whose context a
// request brings.
const (
	BuildFromSession = "client-session"
	BuildFromUpload  = "upload-request"
)
