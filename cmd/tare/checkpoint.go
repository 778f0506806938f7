package main

import (
	"context"
	"fmt"

	"github.com/moby/moby/api/types/checkpoint"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

// requireExperimental refuses what only a dockerd with experimental features does.
func requireExperimental(ctx context.Context, cl *client.Client, what string) error {
	pong, err := cl.Ping(ctx)
	if err == nil && !pong.Experimental {
		err = fmt.Errorf("%s is only supported on a Docker daemon with experimental features enabled", what)
	}
	return err
}

// checkpoints wraps what a command does with checkpoints.
func (c *cli) checkpoints(cmd *cobra.Command, do func(ctx context.Context, cl *client.Client, args []string) error) *cobra.Command {
	cmd.RunE = c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
		if err := requireExperimental(ctx, cl, cmd.CommandPath()); err != nil {
			return err
		}
		return do(ctx, cl, args)
	})
	return cmd
}

const checkpointDirHelp = "Directory of the engine's host where the checkpoints lie"

func newCheckpointCreateCommand(c *cli) *cobra.Command {
	var o checkpoint.CreateRequest
	var running bool
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] CONTAINER CHECKPOINT",
		Short: "Write the state of a container's processes down",
		Args:  exactArgs(2),
	}
	cmd.Flags().StringVar(&o.CheckpointDir, "checkpoint-dir", "", checkpointDirHelp)
	cmd.Flags().BoolVar(&running, "leave-running", false, "Let the container go on afterwards")
	return c.checkpoints(cmd, func(ctx context.Context, cl *client.Client, args []string) error {
		o.CheckpointID, o.Exit = args[1], !running
		if err := cl.CheckpointCreate(ctx, args[0], o); err != nil {
			return err
		}
		_, err := fmt.Fprintln(c.out, safe(args[1]))
		return err
	})
}

func newCheckpointLsCommand(c *cli) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:         "ls [OPTIONS] CONTAINER",
		Short:       "List the checkpoints of a container",
		Args:        exactArgs(1),
		Annotations: aliases("checkpoint ls", "checkpoint list"),
	}
	cmd.Flags().StringVar(&dir, "checkpoint-dir", "", checkpointDirHelp)
	return c.checkpoints(cmd, func(ctx context.Context, cl *client.Client, args []string) error {
		list, err := cl.CheckpointList(ctx, args[0], dir)
		if err != nil {
			return err
		}
		name := func(s checkpoint.Summary) string { return s.Name }
		return format.Print(c.out, "", []format.Column[checkpoint.Summary]{{Title: "CHECKPOINT NAME", Value: name}}, format.Fields[checkpoint.Summary]{}, list)
	})
}

func newCheckpointRmCommand(c *cli) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:         "rm [OPTIONS] CONTAINER CHECKPOINT",
		Short:       "Remove a checkpoint",
		Args:        exactArgs(2),
		Annotations: aliases("checkpoint rm", "checkpoint remove"),
	}
	cmd.Flags().StringVar(&dir, "checkpoint-dir", "", checkpointDirHelp)
	return c.checkpoints(cmd, func(ctx context.Context, cl *client.Client, args []string) error {
		return cl.CheckpointRemove(ctx, args[0], args[1], dir)
	})
}
