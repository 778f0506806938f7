package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/containerd/platforms"
	"github.com/docker/go-units"
	bkclient "github.com/moby/buildkit/client"
)

// show tells what the engine's builder is, as buildx does: what "ls" or "inspect".
func (e *engine) show(ctx context.Context, out io.Writer, what string) error {
	ctx, c, err := e.client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	workers, err := c.ListWorkers(ctx)
	if err != nil {
		return fmt.Errorf("ask the builder: %w", err)
	}
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	if what == "ls" {
		w = tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
		e.list(w, workers)
	} else {
		e.inspect(w, workers)
	}
	return w.Flush()
}

// list writes a line for the builder, and one for each of its workers.
func (e *engine) list(w io.Writer, workers []*bkclient.WorkerInfo) {
	fmt.Fprintln(w, "NAME/NODE\tDRIVER/ENDPOINT\tSTATUS\tBUILDKIT\tPLATFORMS")
	fmt.Fprintf(w, "%s*\tdocker\t\t\t\n", e.Name)
	for _, i := range workers {
		fmt.Fprintf(w, " \\_ %s\t \\_ %s\trunning\t%s\t%s\n", e.Name, e.Name, i.BuildkitVersion.Version, platformsOf(i))
	}
}

func (e *engine) inspect(w io.Writer, workers []*bkclient.WorkerInfo) {
	fmt.Fprintf(w, "Name:\t%s\nDriver:\tdocker\n\nNodes:\n", e.Name)
	for n, i := range workers {
		if n > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "Name:\t%s\nEndpoint:\t%s\nStatus:\trunning\nBuildKit version:\t%s\nPlatforms:\t%s\n", e.Name, e.Name, i.BuildkitVersion.Version, platformsOf(i))
		if len(i.Labels) > 0 {
			fmt.Fprintln(w, "Labels:")
		}
		for _, k := range slices.Sorted(maps.Keys(i.Labels)) {
			fmt.Fprintf(w, "\t%s:\t%s\n", k, i.Labels[k])
		}
		inspectDevices(w, i)
		inspectPolicy(w, i)
	}
}

func inspectDevices(w io.Writer, i *bkclient.WorkerInfo) {
	if len(i.CDIDevices) > 0 {
		fmt.Fprintln(w, "Devices:")
	}
	for _, d := range i.CDIDevices {
		fmt.Fprintf(w, "\tName:\t%s\n", d.Name)
		if d.OnDemand {
			fmt.Fprintf(w, "\tOn-Demand:\t%v\n", d.OnDemand)
		} else {
			fmt.Fprintf(w, "\tAutomatically allowed:\t%v\n", d.AutoAllow)
		}
		for _, k := range slices.Sorted(maps.Keys(d.Annotations)) {
			fmt.Fprintf(w, "\t\t%s:\t%s\n", k, d.Annotations[k])
		}
	}
}

func inspectPolicy(w io.Writer, i *bkclient.WorkerInfo) {
	for n, rule := range i.GCPolicy {
		fmt.Fprintf(w, "GC Policy rule#%d:\n\tAll:\t%v\n", n, rule.All)
		if len(rule.Filter) > 0 {
			fmt.Fprintf(w, "\tFilters:\t%s\n", strings.Join(rule.Filter, " "))
		}
		if rule.KeepDuration > 0 {
			fmt.Fprintf(w, "\tKeep Duration:\t%v\n", rule.KeepDuration)
		}
		for _, s := range []struct {
			name  string
			bytes int64
		}{{"Reserved Space", rule.ReservedSpace}, {"Max Used Space", rule.MaxUsedSpace}, {"Min Free Space", rule.MinFreeSpace}} {
			if s.bytes > 0 {
				fmt.Fprintf(w, "\t%s:\t%s\n", s.name, units.BytesSize(float64(s.bytes)))
			}
		}
	}
}

func platformsOf(i *bkclient.WorkerInfo) string {
	var names []string
	for _, p := range i.Platforms {
		names = append(names, platforms.FormatAll(platforms.Normalize(p)))
	}
	return strings.Join(names, ", ")
}
