package main

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
)

func newPauseCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:         "pause CONTAINER [CONTAINER...]",
		Short:       "Freeze all processes of containers",
		Args:        minArgs(1),
		Annotations: aliases("container pause", "pause"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, names []string) error {
			return each(c.out, names, func(name string) error { return cl.ContainerPause(ctx, name) })
		}),
	}
}

func newUnpauseCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:         "unpause CONTAINER [CONTAINER...]",
		Short:       "Let all processes of containers go on",
		Args:        minArgs(1),
		Annotations: aliases("container unpause", "unpause"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, names []string) error {
			return each(c.out, names, func(name string) error { return cl.ContainerUnpause(ctx, name) })
		}),
	}
}
