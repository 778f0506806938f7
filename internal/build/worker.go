package build

import (
	"context"
	"maps"
	"runtime/debug"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/worker/base"
)

// builderWorker is BuildKit's worker, whose images go to the engine.
type builderWorker struct{ *base.Worker }

// exporterMoby is what clients of Docker call the exporter to the engine's images.
const exporterMoby = "moby"

// danglingPrefix begins the names, ended by a digest, of images that have none.
const danglingPrefix = "tare-dangling"

// Exporter returns the exporter that a client asks for.
func (w *builderWorker) Exporter(name string, sm *session.Manager) (exporter.Exporter, error) {
	if name != exporterMoby && name != bkclient.ExporterImage {
		return w.Worker.Exporter(name, sm)
	}
	e, err := w.Worker.Exporter(bkclient.ExporterImage, sm)
	return &toImages{e}, err
}

// toImages keeps images that have no name too.
type toImages struct{ exporter.Exporter }

func (e *toImages) Resolve(ctx context.Context, id int, attrs map[string]string) (exporter.ExporterInstance, error) {
	attrs = maps.Clone(attrs)
	if attrs == nil {
		attrs = map[string]string{}
	}
	if attrs[string(exptypes.OptKeyName)] == "" {
		attrs[string(exptypes.OptKeyDanglingPrefix)] = danglingPrefix
	}
	return e.Exporter.Resolve(ctx, id, attrs)
}

// closingExecutor is where executors of ours would be wrapped.
type closingExecutor struct{ executor.Executor }

// gcPolicy bounds the cache.
func (b *builder) gcPolicy() []bkclient.PruneInfo {
	return []bkclient.PruneInfo{{All: true, MaxUsedSpace: b.cfg.Keep}}
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
