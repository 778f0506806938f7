package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
)

type pruneOptions struct {
	force   bool
	all     bool // of images: not only those without a name
	volumes bool
	filters api.Filters
}

func (o *pruneOptions) add(cmd *cobra.Command) {
	o.filters = api.Filters{}
	cmd.Flags().Var(filterFlag{o.filters}, "filter", `Remove only what meets a condition, such as until=24h`)
	cmd.Flags().BoolVarP(&o.force, "force", "f", false, "Do not ask first")
}

func newContainerPruneCommand(c *cli) *cobra.Command {
	var o pruneOptions
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove all stopped containers",
		Args:  noArgs,
		RunE: c.connected(func(ctx context.Context, cl *client.Client, _ []string) error {
			if !o.force && !c.confirm("WARNING! This will remove all stopped containers.") {
				return nil
			}
			space, err := pruneContainers(ctx, cl, c.out, o)
			return reclaimed(c.out, space, err)
		}),
	}
	o.add(cmd)
	return cmd
}

func newImagePruneCommand(c *cli) *cobra.Command {
	var o pruneOptions
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove unused images",
		Args:  noArgs,
		RunE: c.connected(func(ctx context.Context, cl *client.Client, _ []string) error {
			warning := "WARNING! This will remove all dangling images."
			if o.all {
				warning = "WARNING! This will remove all images without at least one container associated to them."
			}
			if !o.force && !c.confirm(warning) {
				return nil
			}
			space, err := pruneImages(ctx, cl, c.out, o)
			return reclaimed(c.out, space, err)
		}),
	}
	o.add(cmd)
	cmd.Flags().BoolVarP(&o.all, "all", "a", false, "Remove all unused images, not only those without a name")
	return cmd
}

func newSystemPruneCommand(c *cli) *cobra.Command {
	var o pruneOptions
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove what is not in use",
		Args:  noArgs,
		RunE: c.connected(func(ctx context.Context, cl *client.Client, _ []string) error {
			if !o.force && !c.confirm(systemWarning(o)) {
				return nil
			}
			space, err := pruneSystem(ctx, cl, c.out, o)
			return reclaimed(c.out, space, err)
		}),
	}
	o.add(cmd)
	cmd.Flags().BoolVarP(&o.all, "all", "a", false, "Remove all unused images, not only those without a name")
	cmd.Flags().BoolVar(&o.volumes, "volumes", false, "Remove anonymous volumes too")
	return cmd
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
	return "WARNING! This will remove:\n  - " + strings.Join(lines, "\n  - ") + "\n"
}

// confirm asks before something is lost.
func (c *cli) confirm(warning string) bool {
	fmt.Fprintf(c.out, "%s\nAre you sure you want to continue? [y/N] ", warning)
	answer, _ := bufio.NewReader(c.in).ReadString('\n')
	return strings.EqualFold(strings.TrimSpace(answer), "y")
}

func reclaimed(out io.Writer, space uint64, err error) error {
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, "Total reclaimed space: "+units.HumanSize(float64(space)))
	return err
}

// pruneSystem removes in the order in which things hold one another.
func pruneSystem(ctx context.Context, cl *client.Client, out io.Writer, o pruneOptions) (uint64, error) {
	var total uint64
	steps := []func(context.Context, *client.Client, io.Writer, pruneOptions) (uint64, error){pruneContainers, pruneNetworks}
	if o.volumes {
		steps = append(steps, pruneVolumes)
	}
	for _, step := range append(steps, pruneImages) {
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
	filters.Add("dangling", fmt.Sprint(!o.all))
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
