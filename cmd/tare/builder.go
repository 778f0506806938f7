package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/build"
	"github.com/spf13/cobra"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
	"github.com/tare-engine/tare/cmd/tare/opts"
)

func newBuilderDuCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "du",
		Short: "Show what the build cache takes",
		Args:  noArgs,
		RunE: c.connected(func(ctx context.Context, cl *client.Client, _ []string) error {
			raw, err := cl.DiskUsageRaw(ctx, true, nil)
			if err != nil {
				return err
			}
			u, err := decodeUsage(raw)
			if err != nil {
				return fmt.Errorf("read the engine's answer: %w", err)
			}
			if err := format.Print(c.out, "", cacheUsageColumns(time.Now()), format.Fields[build.CacheRecord]{}, u.BuildCacheUsage.Items); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.out, "Reclaimable:\t%s\nTotal:\t\t%s\n",
				units.HumanSize(float64(u.BuildCacheUsage.Reclaimable)), units.HumanSize(float64(u.BuildCacheUsage.TotalSize)))
			return err
		}),
	}
}

func newBuilderLsCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List builders: the engine's",
		Args:  noArgs,
		RunE:  func(*cobra.Command, []string) error { return c.execBuild("ls", nil) },
	}
}

func newBuilderInspectCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "inspect",
		Short: "Show what the engine's builder is, and in which bounds its cache is kept",
		Args:  noArgs,
		RunE:  func(*cobra.Command, []string) error { return c.execBuild("inspect", nil) },
	}
}

func newBuilderPruneCommand(c *cli) *cobra.Command {
	var o pruneOptions
	var reserved, most, free opts.Bytes
	warning := func(o pruneOptions) string {
		if o.all {
			return "WARNING! This will remove all build cache."
		}
		return "WARNING! This will remove all dangling build cache."
	}
	cmd := newPruneCommand(c, &o, "Remove build cache", warning, func(ctx context.Context, cl *client.Client, out io.Writer, o pruneOptions) (uint64, error) {
		return pruneBuilds(ctx, cl, out, api.BuildPruneOptions{
			All: o.all, Filters: o.filters, Reserved: int64(reserved), MaxUsed: int64(most), MinFree: int64(free),
		})
	})
	cmd.Flags().BoolVarP(&o.all, "all", "a", false, "Remove all unused build cache, not just dangling ones")
	cmd.Flags().Var(&reserved, "reserved-space", "Amount of disk space always allowed to keep for cache")
	cmd.Flags().Var(&most, "max-used-space", "Maximum amount of disk space allowed to keep for cache")
	cmd.Flags().Var(&free, "min-free-space", "Target amount of free disk space after pruning")
	cmd.Flags().Var(&reserved, "keep-storage", "Amount of disk space to keep for cache")
	_ = cmd.Flags().MarkHidden("keep-storage")
	return cmd
}

// pruneBuilds removes build cache that no build uses.
func pruneBuilds(ctx context.Context, cl *client.Client, out io.Writer, o api.BuildPruneOptions) (uint64, error) {
	report, err := cl.BuildPrune(ctx, o)
	printDeleted(out, "Deleted build cache objects:", report.CachesDeleted)
	return report.SpaceReclaimed, err
}
