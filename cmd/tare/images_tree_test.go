package main

import (
	"testing"

	"github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/tare-engine/tare/api"
)

// TestTreeOfPlatformsEnds at the last image, where attestations come behind it.
func TestTreeOfPlatformsEnds(t *testing.T) {
	of := func(arch string, bytes int64) image.ManifestSummary {
		m := image.ManifestSummary{ID: "sha256:" + arch, Kind: image.ManifestKindImage}
		m.ImageData = &image.ImageProperties{Platform: ocispec.Platform{OS: "linux", Architecture: arch}}
		m.Size.Content, m.Size.Total = bytes, 2*bytes
		return m
	}
	i := &api.ImageSummary{}
	i.ID, i.RepoTags = "sha256:all", []string{"a:1", "b:1"}
	i.Manifests = []image.ManifestSummary{of("amd64", 1), of("arm64", 2), {ID: "sha256:said", Kind: image.ManifestKindAttestation}}
	rows := platformRows(i, true)
	if len(rows) != 4 || rows[0].name != "a:1" || rows[1].name != "b:1" || rows[2].name != "├─ linux/amd64" || rows[3].name != "└─ linux/arm64" {
		t.Errorf("%+v", rows)
	}
	if rows[1].bytes != 3 || rows[1].disk != 6 {
		t.Errorf("%+v", rows[1])
	}
}
