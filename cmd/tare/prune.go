package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
)

type pruneOptions struct {
	force   bool
	all     bool // of images: not only those without a name
	volumes bool
	noSpace bool          // what is removed takes none
	unused  time.Duration // of images: only those that were not used for so long
	filters api.Filters
}

func newContainerPruneCommand(c *cli) *cobra.Command {
	warning := func(pruneOptions) string { return "WARNING! This will remove all stopped containers." }
	return newPruneCommand(c, &pruneOptions{}, "Remove all stopped containers", warning, pruneContainers)
}

func newImagePruneCommand(c *cli) *cobra.Command {
	var o pruneOptions
	cmd := newPruneCommand(c, &o, "Remove unused images", imagesWarning, pruneImages)
	o.addAll(cmd)
	cmd.Flags().DurationVar(&o.unused, "unused-for", 0, "Remove all images, named or not, that nothing has used for so long, such as 72h")
	return cmd
}

func newNetworkPruneCommand(c *cli) *cobra.Command {
	warning := func(pruneOptions) string {
		return "WARNING! This will remove all custom networks not used by at least one container."
	}
	return newPruneCommand(c, &pruneOptions{noSpace: true}, "Remove the networks that no container uses", warning, pruneNetworks)
}

func newVolumePruneCommand(c *cli) *cobra.Command {
	var o pruneOptions
	warning := func(o pruneOptions) string {
		if o.all {
			return "WARNING! This will remove all local volumes not used by at least one container."
		}
		return "WARNING! This will remove anonymous local volumes not used by at least one container."
	}
	cmd := newPruneCommand(c, &o, "Remove anonymous volumes that no container has", warning, pruneVolumes)
	cmd.Flags().BoolVarP(&o.all, "all", "a", false, "Remove volumes with names, too")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if o.all && o.filters.Has("all") {
			return errors.New("conflicting options: cannot specify both --all and --filter all=1")
		}
		if o.all {
			o.filters.Add("all", "true")
		}
		return nil
	}
	return cmd
}

func newSystemPruneCommand(c *cli) *cobra.Command {
	var o pruneOptions
	cmd := newPruneCommand(c, &o, "Remove what is not in use", systemWarning, pruneSystem)
	o.addAll(cmd)
	cmd.Flags().BoolVar(&o.volumes, "volumes", false, "Remove anonymous volumes too")
	return cmd
}

// pruner removes unused objects, prints which, and returns how much that freed.
type pruner func(context.Context, *client.Client, io.Writer, pruneOptions) (uint64, error)

// newPruneCommand makes a command that asks first, then removes.
func newPruneCommand(c *cli, o *pruneOptions, short string, warning func(pruneOptions) string, prune pruner) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: short,
		Args:  noArgs,
		RunE: c.connected(func(ctx context.Context, cl *client.Client, _ []string) error {
			if !o.force && !c.confirm(warning(*o)) {
				return nil
			}
			addConfigured(o.filters, c.config.PruneFilters)
			space, err := prune(ctx, cl, c.out, *o)
			if err != nil || o.noSpace {
				return err
			}
			_, err = fmt.Fprintln(c.out, "Total reclaimed space: "+units.HumanSize(float64(space)))
			return err
		}),
	}
	o.filters = api.Filters{}
	cmd.Flags().Var(filterFlag{o.filters}, "filter", `Remove only what meets a condition, such as until=24h`)
	cmd.Flags().BoolVarP(&o.force, "force", "f", false, "Do not ask first")
	return cmd
}

// addConfigured adds the filters that config.json has for all prunes, but those that
// the command line says the contrary of.
func addConfigured(f api.Filters, configured []string) {
	contrary := map[string]string{"label": "label!", "label!": "label"}
	for _, text := range configured {
		if key, value, ok := strings.Cut(text, "="); ok && value != "" && !f[contrary[key]][value] {
			f.Add(key, value)
		}
	}
}

func (o *pruneOptions) addAll(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&o.all, "all", "a", false, "Remove all unused images, not only those without a name")
}

func imagesWarning(o pruneOptions) string {
	if o.unused > 0 {
		return "WARNING! This will remove all images without at least one container associated to them that were not used for " + o.unused.String() + "."
	}
	if o.all {
		return "WARNING! This will remove all images without at least one container associated to them."
	}
	return "WARNING! This will remove all dangling images."
}

func systemWarning(o pruneOptions) string {
	lines := []string{"all stopped containers", "all networks not used by at least one container"}
	if o.volumes {
		lines = append(lines, "all anonymous volumes not used by at least one container")
	}
	if o.all {
		lines = append(lines, "all images without at least one container associated to them")
	} else {
		lines = append(lines, "all dangling images")
	}
	if o.all {
		lines = append(lines, "all build cache")
	} else {
		lines = append(lines, "unused build cache")
	}
	return "WARNING! This will remove:\n  - " + strings.Join(lines, "\n  - ") + "\n"
}

// confirm asks before something is lost.
func (c *cli) confirm(warning string) bool {
	fmt.Fprintf(c.out, "%s\nAre you sure you want to continue? [y/N] ", warning)
	answer, _ := bufio.NewReader(c.in).ReadString('\n')
	return strings.EqualFold(strings.TrimSpace(answer), "y")
}

// pruneSystem removes in the order in which things hold one another.
func pruneSystem(ctx context.Context, cl *client.Client, out io.Writer, o pruneOptions) (uint64, error) {
	var total uint64
	steps := []pruner{pruneContainers, pruneNetworks}
	if o.volumes {
		steps = append(steps, pruneVolumes)
	}
	pruneCache := func(ctx context.Context, cl *client.Client, out io.Writer, o pruneOptions) (uint64, error) {
		f := api.Filters{}
		for _, until := range o.filters.Get("until") { // what else is filtered, caches do not have
			f = f.With("until", until)
		}
		return pruneBuilds(ctx, cl, out, api.BuildPruneOptions{All: o.all, Filters: f})
	}
	for _, step := range append(steps, pruneImages, pruneCache) {
		space, err := step(ctx, cl, out, o)
		total += space
		// Engines without volumes or networks have nothing there to remove.
		if err != nil && client.StatusOf(err) != 404 && client.StatusOf(err) != 501 {
			return total, err
		}
	}
	return total, nil
}

func pruneContainers(ctx context.Context, cl *client.Client, out io.Writer, o pruneOptions) (uint64, error) {
	report, err := cl.ContainersPrune(ctx, o.filters)
	printDeleted(out, "Deleted Containers:", report.ContainersDeleted)
	return report.SpaceReclaimed, err
}

func pruneNetworks(ctx context.Context, cl *client.Client, out io.Writer, o pruneOptions) (uint64, error) {
	report, err := cl.NetworksPrune(ctx, o.filters)
	printDeleted(out, "Deleted Networks:", report.NetworksDeleted)
	return 0, err
}

func pruneVolumes(ctx context.Context, cl *client.Client, out io.Writer, o pruneOptions) (uint64, error) {
	report, err := cl.VolumesPrune(ctx, o.filters)
	printDeleted(out, "Deleted Volumes:", report.VolumesDeleted)
	return report.SpaceReclaimed, err
}

func pruneImages(ctx context.Context, cl *client.Client, out io.Writer, o pruneOptions) (uint64, error) {
	filters := api.Filters{}
	for key, values := range o.filters {
		for v := range values {
			filters.Add(key, v)
		}
	}
	filters.Add("dangling", fmt.Sprint(!o.all && o.unused == 0))
	if o.unused != 0 {
		filters.Add("unused-for", o.unused.String())
	}
	report, err := cl.ImagesPrune(ctx, filters)
	var lines []string
	for _, d := range report.ImagesDeleted {
		if d.Untagged != "" {
			lines = append(lines, "untagged: "+d.Untagged)
		} else {
			lines = append(lines, "deleted: "+d.Deleted)
		}
	}
	printDeleted(out, "Deleted Images:", lines)
	return report.SpaceReclaimed, err
}

func printDeleted(out io.Writer, title string, names []string) {
	if len(names) == 0 {
		return
	}
	fmt.Fprintln(out, title)
	for _, name := range names {
		fmt.Fprintln(out, safe(name))
	}
	fmt.Fprintln(out)
}
