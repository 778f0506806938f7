package engine

import (
	"runtime"

	"github.com/moby/moby/api/types/container"

	own "github.com/tare-engine/tare/internal/container"
	"github.com/tare-engine/tare/internal/linux/host"
)

// Facts are what stays the same while an engine runs.
type Facts struct {
	ID, Version, Commit, Driver, Kernel, OS, OSVersion, OSType, Architecture string
	CPUs                                                                     int
	Memory                                                                   uint64 // bytes
}

// Facts are those of this engine.
func (e *Engine) Facts() Facts {
	return Facts{
		ID: e.cfg.ID, Version: e.cfg.Version, Commit: e.cfg.Commit, Driver: e.layers.Driver(), Kernel: host.KernelRelease(),
		OS: operatingSystem(), OSVersion: osRelease("VERSION_ID"), OSType: runtime.GOOS, Architecture: architecture(),
		CPUs: runtime.NumCPU(), Memory: uint64(host.Memory()),
	}
}

// Counts are an engine in numbers, as it is now.
type Counts struct {
	Cells                own.CellCounts
	KeepersLost          uint64
	Events               uint64 // all that there have been
	Listeners            int64  // of events
	Probes, ProbesFailed uint64 // of containers' health
	Containers           []*own.View
	Running              []*container.StatsResponse
}

// Counts measures the engine and all of its containers.
func (e *Engine) Counts() Counts {
	c := Counts{Cells: e.containers.Cells(), KeepersLost: e.containers.KeepersLost(), Containers: e.containers.List(), Running: e.containers.Stats().All()}
	c.Events, c.Listeners = e.events.Counts()
	c.Probes, c.ProbesFailed = e.containers.Probes()
	return c
}

// KeeperPid is the pid of the keeper, false while it is being replaced.
func (e *Engine) KeeperPid() (int, bool) { return e.containers.KeeperPid() }
