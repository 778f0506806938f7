package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

func newDiffCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:         "diff CONTAINER",
		Short:       "Show which files a container has changed",
		Args:        exactArgs(1),
		Annotations: aliases("container diff", "diff"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			return runDiff(ctx, cl, c.out, args[0])
		}),
	}
}

func runDiff(ctx context.Context, cl *client.Client, out io.Writer, name string) error {
	if name == "" {
		return errors.New("container name cannot be empty")
	}
	changes, err := cl.ContainerDiff(ctx, name)
	if err != nil {
		return err
	}
	return format.Collected(out, func(out io.Writer) error {
		for _, change := range changes {
			fmt.Fprintf(out, "%s %s\n", change.Kind, format.Escape(change.Path))
		}
		return nil
	})
}
