package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

// platformRow is an image, or what it is for one platform.
type platformRow struct {
	name, id    string
	disk, bytes int64 // with the unpacked layers, and as it came
	inUse       bool
}

func runImagesTree(ctx context.Context, cl *client.Client, out io.Writer, o imagesOptions) error {
	for _, f := range []struct {
		name string
		set  bool
	}{{"quiet", o.quiet}, {"digests", o.digests}, {"format", o.format != ""}} {
		if f.set {
			return fmt.Errorf("--%s cannot be used with --tree", f.name)
		}
	}
	list, err := cl.ImageList(ctx, api.ImageListOptions{All: o.all, Manifests: true, Filters: o.filters})
	if err != nil {
		return err
	}
	var rows []platformRow
	for i := range list {
		rows = append(rows, platformRows(&list[i], o.noTrunc)...)
	}
	return format.Print(out, "", []format.Column[platformRow]{
		{Title: "IMAGE", Value: func(r platformRow) string { return r.name }},
		{Title: "ID", Value: func(r platformRow) string { return r.id }},
		{Title: "DISK USAGE", Value: func(r platformRow) string { return format.Size(r.disk) }},
		{Title: "CONTENT SIZE", Value: func(r platformRow) string { return format.Size(r.bytes) }},
		{Title: "IN USE", Value: func(r platformRow) string {
			if r.inUse {
				return "yes"
			}
			return ""
		}},
	}, format.Fields[platformRow]{}, rows)
}

// platformRows are a row for each name of an image, with the space of all its
// platforms, and below the last a row for each platform.
func platformRows(i *api.ImageSummary, full bool) []platformRow {
	short := func(id string) string {
		if full {
			return id
		}
		return format.ShortID(id)
	}
	var below []platformRow
	whole := platformRow{id: short(i.ID)}
	images := slices.DeleteFunc(slices.Clone(i.Manifests), func(m image.ManifestSummary) bool {
		return m.Kind != image.ManifestKindImage || m.ImageData == nil // an attestation, or not here
	})
	for n, m := range images {
		branch := "├─ "
		if n == len(images)-1 {
			branch = "└─ "
		}
		r := platformRow{branch + platformName(m.ImageData.Platform), short(m.ID), m.Size.Total, m.Size.Content, len(m.ImageData.Containers) > 0}
		below = append(below, r)
		whole.disk, whole.bytes, whole.inUse = whole.disk+r.disk, whole.bytes+r.bytes, whole.inUse || r.inUse
	}
	names := i.RepoTags
	if len(names) == 0 {
		names = []string{none}
	}
	var rows []platformRow
	for _, n := range names {
		whole.name = n
		rows = append(rows, whole)
	}
	return append(rows, below...)
}

func platformName(p ocispec.Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}
