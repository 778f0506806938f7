package main

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
)

func newRmCommand(c *cli) *cobra.Command {
	var o api.RemoveOptions
	cmd := &cobra.Command{
		Use:         "rm [OPTIONS] CONTAINER [CONTAINER...]",
		Short:       "Remove containers",
		Args:        minArgs(1),
		Annotations: aliases("container rm", "container remove", "rm"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, names []string) error {
			return each(c.out, names, func(name string) error {
				name = strings.Trim(name, "/")
				if name == "" {
					return errors.New("container name cannot be empty")
				}
				err := cl.ContainerRemove(ctx, name, o)
				if o.Force && client.IsNotFound(err) {
					report(c.err, err)
					return errSaid
				}
				return err
			})
		}),
	}
	f := cmd.Flags()
	f.BoolVar(&o.Depend, "depend", false, "Remove the containers that require it, first (Tare's engine only)")
	f.BoolVarP(&o.Force, "force", "f", false, "Kill a container that is running (by SIGKILL)")
	f.BoolVarP(&o.Link, "link", "l", false, "Remove the link of that name only")
	f.BoolVarP(&o.Volumes, "volumes", "v", false, "Remove the container's anonymous volumes too")
	return cmd
}
