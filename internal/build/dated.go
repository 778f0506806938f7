package build

import (
	"context"
	"maps"
	"strings"

	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	commonexptypes "github.com/moby/buildkit/exporter/exptypes"
)

// dated exports images of which the sources have a time (SOURCE_DATE_EPOCH) with no
// file newer than that in what the build has added: two builds of the same give the
// same image then, whenever they are made. Clients may say otherwise.
type dated struct{ exporter.Exporter }

// Resolve reads what the client wants.
func (e dated) Resolve(ctx context.Context, id int, attrs map[string]string) (exporter.ExporterInstance, error) {
	i, err := e.Exporter.Resolve(ctx, id, attrs)
	rewrite := string(exptypes.OptKeyRewriteTimestamp)
	if _, said := attrs[rewrite]; said || err != nil {
		return i, err
	}
	attrs = maps.Clone(attrs)
	if attrs == nil {
		attrs = map[string]string{}
	}
	attrs[rewrite] = "true"
	of, err := e.Exporter.Resolve(ctx, id, attrs)
	return &datedExport{i, of, attrs[string(exptypes.OptKeySourceDateEpoch)] != ""}, err
}

// datedExport is an export whose sources may have a time.
type datedExport struct {
	exporter.ExporterInstance
	of    exporter.ExporterInstance // the same, with times that are not after the sources'
	given bool                      // a time, by the client
}

// Export makes the image.
func (e *datedExport) Export(ctx context.Context, src *exporter.Source, info exporter.ExportBuildInfo) (map[string]string, exporter.FinalizeFunc, exporter.DescriptorReference, error) {
	if e.given || hasTime(src) {
		return e.of.Export(ctx, src, info)
	}
	return e.ExporterInstance.Export(ctx, src, info)
}

// hasTime reports whether the frontend has found a time of the sources.
func hasTime(src *exporter.Source) bool {
	for key := range src.Metadata { // of each platform, or of all
		if key, _, _ := strings.Cut(key, "/"); key == commonexptypes.ExporterEpochKey {
			return true
		}
	}
	return false
}
