package main

import (
	"context"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
)

func newNetworkRmCommand(c *cli) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:         "rm NETWORK [NETWORK...]",
		Short:       "Remove networks",
		Args:        minArgs(1),
		Annotations: aliases("network rm", "network remove"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, names []string) error {
			return each(c.out, names, func(name string) error {
				err := cl.NetworkRemove(ctx, name)
				if force && client.IsNotFound(err) {
					return nil
				}
				return err
			})
		}),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "It is no error if a network does not exist")
	return cmd
}
