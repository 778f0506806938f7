package main

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
)

func newKillCommand(c *cli) *cobra.Command {
	var signal string
	cmd := &cobra.Command{
		Use:         "kill [OPTIONS] CONTAINER [CONTAINER...]",
		Short:       "Kill running containers",
		Args:        minArgs(1),
		Annotations: aliases("container kill", "kill"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, names []string) error {
			return each(c.out, names, func(name string) error { return cl.ContainerKill(ctx, name, signal) })
		}),
	}
	cmd.Flags().StringVarP(&signal, "signal", "s", "", "Signal to send to the container")
	return cmd
}
