package build

import (
	"runtime/debug"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/worker/base"

	"github.com/tare-engine/tare/internal/event"
)

// builderWorker is BuildKit's worker, whose images go to the engine.
type builderWorker struct {
	*base.Worker
	events *event.Log
	once   *once
}

// Exporter returns the exporter that a client asks for.
func (w *builderWorker) Exporter(name string, sm *session.Manager) (exporter.Exporter, error) {
	switch name {
	case exporterMoby, bkclient.ExporterImage:
		e, err := w.Worker.Exporter(bkclient.ExporterImage, sm)
		return &toImages{dated{e}, w.ContentStore(), w.events, w.once}, err
	case bkclient.ExporterOCI, bkclient.ExporterDocker:
		e, err := w.Worker.Exporter(name, sm)
		return dated{e}, err
	}
	return w.Worker.Exporter(name, sm) // files: these have no times after the sources' anyway
}

// buildkitVersion is that of the module.
func buildkitVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "github.com/moby/buildkit" {
				return m.Version
			}
		}
	}
	return "unknown"
}
