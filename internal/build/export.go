package build

import (
	"context"
	"maps"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/internal/event"
)

// exporterMoby is what clients of Docker call the exporter to the engine's images.
const exporterMoby = "moby"

// danglingPrefix begins the names, ended by a digest, of images that have none.
const danglingPrefix = "tare-dangling"

// toImages exports to the engine's images, without a name too. Layers stay unpacked
// tar streams unless the client asks for something else or pushes: nobody but a
// registry is glad of packed ones.
type toImages struct {
	exporter.Exporter
	store  content.Provider
	events *event.Log
	once   *once
}

// Resolve reads what the client wants.
func (e *toImages) Resolve(ctx context.Context, id int, attrs map[string]string) (exporter.ExporterInstance, error) {
	attrs = maps.Clone(attrs)
	if attrs == nil {
		attrs = map[string]string{}
	}
	if attrs[string(exptypes.OptKeyName)] == "" {
		attrs[string(exptypes.OptKeyDanglingPrefix)] = danglingPrefix
	}
	const compression = "compression"
	if push := attrs[string(exptypes.OptKeyPush)]; attrs[compression] == "" && (push == "" || push == "false") {
		attrs[compression] = "uncompressed"
	}
	i, err := e.Exporter.Resolve(ctx, id, attrs)
	stored, perr := strconv.ParseBool(attrs[string(exptypes.OptKeyStore)])
	return &imageExport{
		ExporterInstance: i, store: e.store, events: e.events, once: e.once,
		name: attrs[string(exptypes.OptKeyName)], stored: stored || perr != nil,
	}, err
}

// imageExport tells the client the image's ID here. Of an image without a name that
// is the digest too: nothing else is sure to lead to it later.
type imageExport struct {
	exporter.ExporterInstance
	store  content.Provider
	events *event.Log
	once   *once
	name   string // several are separated by commas
	stored bool   // as an image of the engine; else it only goes to a registry
}

// Export makes the image.
func (e *imageExport) Export(ctx context.Context, src *exporter.Source, info exporter.ExportBuildInfo) (map[string]string, exporter.FinalizeFunc, exporter.DescriptorReference, error) {
	if e.stored {
		if err := fetchLazy(ctx, src, info.SessionID); err != nil {
			return nil, nil, nil, err
		}
	}
	resp, finalize, ref, err := e.ExporterInstance.Export(ctx, src, info)
	if err != nil || ref == nil {
		return resp, finalize, ref, err
	}
	if m, err := images.Manifest(ctx, e.store, ref.Descriptor(), platforms.Default()); err == nil { // else it is for other machines
		id := m.Config.Digest.String()
		resp[exptypes.ExporterImageConfigDigestKey] = id
		if e.name == "" {
			resp[exptypes.ExporterImageDigestKey] = id
		}
		e.tell(id)
	}
	e.once.share(ctx, src)
	return resp, finalize, ref, nil
}

// tell says that the image is there, and its names.
func (e *imageExport) tell(id string) {
	e.events.Publish(events.ImageEventType, events.ActionCreate, id, map[string]string{"name": id})
	for name := range strings.SplitSeq(e.name, ",") {
		if named, err := reference.ParseNormalizedNamed(name); err == nil {
			e.events.Publish(events.ImageEventType, events.ActionTag, id, map[string]string{"name": reference.FamiliarString(reference.TagNameOnly(named))})
		}
	}
}
