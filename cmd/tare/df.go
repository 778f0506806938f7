package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

type dfOptions struct {
	format  string
	verbose bool
}

func newDfCommand(c *cli) *cobra.Command {
	var o dfOptions
	cmd := &cobra.Command{
		Use:   "df [OPTIONS]",
		Short: "Show what images, containers and volumes take on the disk",
		Args:  noArgs,
		RunE: c.connected(func(ctx context.Context, cl *client.Client, _ []string) error {
			return runDf(ctx, cl, c.out, c.err, o)
		}),
	}
	cmd.Flags().StringVar(&o.format, "format", "", formatHelp)
	cmd.Flags().BoolVarP(&o.verbose, "verbose", "v", false, "Show each object")
	return cmd
}

func runDf(ctx context.Context, cl *client.Client, out, notes io.Writer, o dfOptions) error {
	raw, err := cl.DiskUsageRaw(ctx, o.verbose, sizesOf(notes))
	if err != nil {
		return err
	}
	usage, err := decodeUsage(raw)
	if err != nil {
		return fmt.Errorf("read the engine's answer: %w", err)
	}
	if o.verbose {
		return printUsage(out, usage, o.format)
	}
	rows := []usageRow{
		{"Images", usage.ImageUsage.TotalCount, usage.ImageUsage.ActiveCount, usage.ImageUsage.TotalSize, usage.ImageUsage.Reclaimable},
		{"Containers", usage.ContainerUsage.TotalCount, usage.ContainerUsage.ActiveCount, usage.ContainerUsage.TotalSize, usage.ContainerUsage.Reclaimable},
		{"Local Volumes", usage.VolumeUsage.TotalCount, usage.VolumeUsage.ActiveCount, usage.VolumeUsage.TotalSize, usage.VolumeUsage.Reclaimable},
		{"Build Cache", usage.BuildCacheUsage.TotalCount, usage.BuildCacheUsage.ActiveCount, usage.BuildCacheUsage.TotalSize, usage.BuildCacheUsage.Reclaimable},
	}
	return format.Print(out, o.format, []format.Column[usageRow]{
		{Title: "TYPE", Value: usageRow.Type},
		{Title: "TOTAL", Value: usageRow.TotalCount},
		{Title: "ACTIVE", Value: usageRow.Active},
		{Title: "SIZE", Value: usageRow.Size},
		{Title: "RECLAIMABLE", Value: usageRow.Reclaimable},
	}, usageFields(), rows)
}

// sizesOf notes that sizes are not of now, if that is worth a line.
func sizesOf(notes io.Writer) api.Counted {
	return func(at time.Time) {
		if d := time.Since(at); d >= worthALine {
			fmt.Fprintf(notes, "Sizes may be of %s ago: what takes long to count is not counted each time\n", units.HumanDuration(d))
		}
	}
}

const worthALine = 10 * time.Second

// usageFields are what templates see of a line of the summary.
func usageFields() format.Fields[usageRow] {
	return format.Fields[usageRow]{Type: "*formatter.diskUsageImagesContext", List: []format.Field[usageRow]{
		format.Text("Type", "", usageRow.Type),
		format.Text("TotalCount", "TOTAL", usageRow.TotalCount),
		format.Text("Active", "", usageRow.Active),
		format.Text("Size", "", usageRow.Size),
		format.Text("Reclaimable", "", usageRow.Reclaimable),
	}}
}

// usageRow is one line of the summary.
type usageRow struct {
	kind                             string
	total, active, size, reclaimable int64
}

func (r usageRow) Type() string       { return r.kind }
func (r usageRow) TotalCount() string { return strconv.FormatInt(r.total, 10) }
func (r usageRow) Active() string     { return strconv.FormatInt(r.active, 10) }
func (r usageRow) Size() string       { return units.HumanSize(float64(r.size)) }

func (r usageRow) Reclaimable() string {
	text := units.HumanSize(float64(r.reclaimable))
	if r.size > 0 && r.kind != "Build Cache" {
		return fmt.Sprintf("%s (%d%%)", text, r.reclaimable*100/r.size)
	}
	return text
}

// decodeUsage reads the answer of any API version: before 1.52 an engine
// listed the objects and left the sums to us.
func decodeUsage(raw json.RawMessage) (system.DiskUsage, error) {
	var all struct {
		system.DiskUsage
		LayersSize int64
		Images     []image.Summary
		Containers []container.Summary
		Volumes    []volume.Volume
		BuildCache []build.CacheRecord
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		return system.DiskUsage{}, err
	}
	u := all.DiskUsage
	if u.ImageUsage == nil {
		u.ImageUsage = sumImages(all.Images, all.LayersSize)
	}
	if u.ContainerUsage == nil {
		u.ContainerUsage = sumContainers(all.Containers)
	}
	if u.VolumeUsage == nil {
		u.VolumeUsage = sumVolumes(all.Volumes)
	}
	if u.BuildCacheUsage == nil {
		u.BuildCacheUsage = sumBuildCache(all.BuildCache)
	}
	return u, nil
}

func sumImages(list []image.Summary, layers int64) *image.DiskUsage {
	u := &image.DiskUsage{Items: list, TotalCount: int64(len(list)), TotalSize: layers}
	used := int64(0)
	for _, i := range list {
		if i.Containers > 0 {
			u.ActiveCount++
			if i.Size != -1 && i.SharedSize != -1 {
				used += i.Size - i.SharedSize
			}
		}
	}
	u.Reclaimable = layers - used
	return u
}

func sumContainers(list []container.Summary) *container.DiskUsage {
	u := &container.DiskUsage{Items: list, TotalCount: int64(len(list))}
	for _, c := range list {
		u.TotalSize += c.SizeRw
		switch c.State {
		case container.StateRunning, container.StatePaused, container.StateRestarting:
			u.ActiveCount++
		default:
			u.Reclaimable += c.SizeRw
		}
	}
	return u
}

func sumVolumes(list []volume.Volume) *volume.DiskUsage {
	u := &volume.DiskUsage{Items: list, TotalCount: int64(len(list))}
	for _, v := range list {
		if v.UsageData == nil {
			continue
		}
		size := max(v.UsageData.Size, 0) // -1 is not known
		u.TotalSize += size
		if v.UsageData.RefCount > 0 {
			u.ActiveCount++
		} else {
			u.Reclaimable += size
		}
	}
	return u
}

func sumBuildCache(list []build.CacheRecord) *build.DiskUsage {
	u := &build.DiskUsage{Items: list, TotalCount: int64(len(list))}
	for _, r := range list {
		if r.InUse {
			u.ActiveCount++
		}
		if !r.Shared {
			u.TotalSize += r.Size
			if !r.InUse {
				u.Reclaimable += r.Size
			}
		}
	}
	return u
}

// printUsage lists each object.
func printUsage(out io.Writer, u system.DiskUsage, tmpl string) error {
	if tmpl != "" {
		err := printBy(out, tmpl, u)
		if e, ok := errors.AsType[*exitError](err); ok {
			e.code = 1 // docker's, here
		}
		return err
	}
	now := time.Now()
	var images []imageRow
	for i := range u.ImageUsage.Items {
		images = append(images, imageRows(&api.ImageSummary{Summary: u.ImageUsage.Items[i]}, false, false)[0]) // its sizes count once
	}
	var containers []containerRow
	for i := range u.ContainerUsage.Items {
		containers = append(containers, containerRow{c: &u.ContainerUsage.Items[i], now: now})
	}
	fmt.Fprint(out, "Images space usage:\n\n")
	columns := append(imageColumns(false),
		format.Column[imageRow]{Title: "SHARED SIZE", Value: imageRow.SharedSize},
		format.Column[imageRow]{Title: "UNIQUE SIZE", Value: imageRow.UniqueSize},
		format.Column[imageRow]{Title: "CONTAINERS", Value: imageRow.Containers})
	if err := format.Print(out, "", columns, format.Fields[imageRow]{}, images); err != nil {
		return err
	}
	fmt.Fprint(out, "\nContainers space usage:\n\n")
	if err := format.Print(out, "", containerUsageColumns(), format.Fields[containerRow]{}, containers); err != nil {
		return err
	}
	fmt.Fprint(out, "\nLocal Volumes space usage:\n\n")
	if err := format.Print(out, "", volumeUsageColumns(), format.Fields[volume.Volume]{}, u.VolumeUsage.Items); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nBuild cache usage: %s\n\n", units.HumanSize(float64(u.BuildCacheUsage.TotalSize)))
	return format.Print(out, "", cacheUsageColumns(now), format.Fields[build.CacheRecord]{}, u.BuildCacheUsage.Items)
}

func containerUsageColumns() []format.Column[containerRow] {
	return []format.Column[containerRow]{
		{Title: "CONTAINER ID", Value: containerRow.ID},
		{Title: "IMAGE", Value: containerRow.Image},
		{Title: "COMMAND", Value: containerRow.Command},
		{Title: "LOCAL VOLUMES", Value: containerRow.LocalVolumes},
		{Title: "SIZE", Value: func(r containerRow) string { return format.Size(r.c.SizeRw) }},
		{Title: "CREATED", Value: containerRow.RunningFor},
		{Title: "STATUS", Value: containerRow.Status},
		{Title: "NAMES", Value: containerRow.Names},
	}
}

func volumeUsageColumns() []format.Column[volume.Volume] {
	return []format.Column[volume.Volume]{
		{Title: "VOLUME NAME", Value: func(v volume.Volume) string { return v.Name }},
		{Title: "LINKS", Value: func(v volume.Volume) string {
			if v.UsageData == nil {
				return "N/A"
			}
			return strconv.FormatInt(v.UsageData.RefCount, 10)
		}},
		{Title: "SIZE", Value: func(v volume.Volume) string {
			if v.UsageData == nil || v.UsageData.Size < 0 {
				return "N/A"
			}
			return units.HumanSize(float64(v.UsageData.Size))
		}},
	}
}

func cacheUsageColumns(now time.Time) []format.Column[build.CacheRecord] {
	return []format.Column[build.CacheRecord]{
		{Title: "CACHE ID", Value: func(r build.CacheRecord) string { return format.ShortID(r.ID) }},
		{Title: "CACHE TYPE", Value: func(r build.CacheRecord) string { return r.Type }},
		{Title: "SIZE", Value: func(r build.CacheRecord) string { return format.Size(r.Size) }},
		{Title: "CREATED", Value: func(r build.CacheRecord) string { return format.Ago(r.CreatedAt, now) }},
		{Title: "LAST USED", Value: func(r build.CacheRecord) string {
			if r.LastUsedAt == nil {
				return ""
			}
			return format.Ago(*r.LastUsedAt, now)
		}},
		{Title: "USAGE", Value: func(r build.CacheRecord) string { return strconv.Itoa(r.UsageCount) }},
		{Title: "SHARED", Value: func(r build.CacheRecord) string { return strconv.FormatBool(r.Shared) }},
	}
}
