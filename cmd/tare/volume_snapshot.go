package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

type snapshotOptions struct {
	list, remove bool
	format       string
}

func newVolumeSnapshotCommand(c *cli) *cobra.Command {
	var o snapshotOptions
	cmd := &cobra.Command{
		Use:   "snapshot [OPTIONS] VOLUME [SNAPSHOT]",
		Short: "Keep the files of a volume as they are now, or list or remove such copies",
		Long: `Without a name the snapshot is called by the time; its name is printed. Where the file system can, it
shares data with the volume. No running container may have the volume. Snapshots go with their volume;
"tare volume rollback" brings one back.`,
		Args: rangeArgs(1, 2),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			snapshot := ""
			if len(args) == 2 {
				snapshot = args[1]
			}
			switch {
			case o.list && o.remove || o.list && snapshot != "":
				return errors.New("--list goes with neither --rm nor the name of a snapshot")
			case o.remove && snapshot == "":
				return errors.New("say which snapshot is to be removed")
			case o.list:
				return runSnapshots(ctx, cl, c.out, args[0], o.format)
			case o.remove:
				return cl.VolumeSnapshotRemove(ctx, args[0], snapshot)
			}
			taken, err := cl.VolumeSnapshot(ctx, args[0], snapshot)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.out, safe(taken.Name))
			return err
		}),
	}
	f := cmd.Flags()
	f.BoolVarP(&o.list, "list", "l", false, "List the volume's snapshots")
	f.BoolVar(&o.remove, "rm", false, "Remove the snapshot")
	f.StringVar(&o.format, "format", "", formatHelp)
	return cmd
}

func runSnapshots(ctx context.Context, cl *client.Client, out io.Writer, name, text string) error {
	list, err := cl.VolumeSnapshots(ctx, name)
	if err != nil {
		return err
	}
	snapshotName := func(s api.VolumeSnapshot) string { return s.Name }
	age := func(s api.VolumeSnapshot) string { return units.HumanDuration(time.Since(s.Created)) + " ago" }
	return format.Print(out, text, []format.Column[api.VolumeSnapshot]{
		{Title: "SNAPSHOT", Value: snapshotName}, {Title: "CREATED", Value: age},
	}, format.Fields[api.VolumeSnapshot]{Type: "snapshot", List: []format.Field[api.VolumeSnapshot]{
		format.Text("Name", "SNAPSHOT", snapshotName),
		format.Text("Volume", "", func(s api.VolumeSnapshot) string { return s.Volume }),
		format.Text("CreatedSince", "CREATED", age),
		format.Text("CreatedAt", "CREATED AT", func(s api.VolumeSnapshot) string { return s.Created.Format(time.RFC3339Nano) }),
	}}, list)
}

func newVolumeRollbackCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "rollback VOLUME SNAPSHOT",
		Short: "Give a volume the files that it had at a snapshot",
		Long:  `The snapshot stays. What the volume has is gone; take a snapshot first to keep it. No running container may have the volume.`,
		Args:  exactArgs(2),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			return cl.VolumeRollback(ctx, args[0], args[1])
		}),
	}
}

func newVolumeDuCommand(c *cli) *cobra.Command {
	var text string
	cmd := &cobra.Command{
		Use:   "du [OPTIONS] [VOLUME...]",
		Short: "Show what volumes and their snapshots take on the disk",
		Args:  cobra.ArbitraryArgs,
		RunE: c.connected(func(ctx context.Context, cl *client.Client, names []string) error {
			return runVolumeDu(ctx, cl, c.out, names, text)
		}),
	}
	cmd.Flags().StringVar(&text, "format", "", formatHelp)
	return cmd
}

func runVolumeDu(ctx context.Context, cl *client.Client, out io.Writer, names []string, text string) error {
	list, err := cl.VolumeUsage(ctx, names)
	if err != nil {
		return err
	}
	type usage = api.VolumeUsage
	size := func(u usage) string {
		if u.Size < 0 {
			return unknown
		}
		return units.HumanSize(float64(u.Size))
	}
	name := func(u usage) string { return u.Name }
	links := func(u usage) string { return strconv.Itoa(u.Links) }
	age := func(u usage) string {
		if u.Size < 0 || u.Counted.IsZero() {
			return unknown
		}
		if d := time.Since(u.Counted); d >= time.Second {
			return units.HumanDuration(d) + " ago"
		}
		return "now"
	}
	snapshots := func(u usage) string { return strconv.Itoa(u.Snapshots) }
	snapshotSize := func(u usage) string { return units.HumanSize(float64(u.SnapshotSize)) }
	return format.Print(out, text, []format.Column[usage]{
		{Title: "VOLUME NAME", Value: name}, {Title: "LINKS", Value: links}, {Title: "SIZE", Value: size}, {Title: "COUNTED", Value: age},
		{Title: "SNAPSHOTS", Value: snapshots}, {Title: "SIZE OF SNAPSHOTS", Value: snapshotSize},
	}, format.Fields[usage]{Type: "usage", List: []format.Field[usage]{
		format.Text("Name", "VOLUME NAME", name),
		format.Text("Driver", "", func(u usage) string { return u.Driver }),
		format.Text("Links", "", links),
		format.Text("Size", "", size),
		format.Text("Counted", "", age),
		format.Text("Bytes", "", func(u usage) string { return strconv.FormatInt(u.Size, 10) }),
		format.Text("Snapshots", "", snapshots),
		format.Text("SnapshotSize", "SIZE OF SNAPSHOTS", snapshotSize),
	}}, list)
}
