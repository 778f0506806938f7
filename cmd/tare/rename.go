package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
)

func newRenameCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:         "rename CONTAINER NEW_NAME",
		Short:       "Give a container another name",
		Args:        exactArgs(2),
		Annotations: aliases("container rename", "rename"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			name, to := strings.TrimSpace(args[0]), strings.TrimSpace(args[1])
			if name == "" || to == "" {
				return errors.New("Error: Neither old nor new names may be empty")
			}
			if err := cl.ContainerRename(ctx, name, to); err != nil {
				return errors.Join(err, fmt.Errorf("Error: failed to rename container named %s", name))
			}
			return nil
		}),
	}
}
