package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
)

func newExportCommand(c *cli) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:         "export [OPTIONS] CONTAINER",
		Short:       "Write all files of a container to an archive, a file or STDOUT",
		Args:        exactArgs(1),
		Annotations: aliases("container export", "export"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			return named("failed to export container", output, writeArchive(c.out, output, func() (io.ReadCloser, error) { return cl.ContainerExport(ctx, args[0]) }))
		}),
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "Write to a file instead of STDOUT")
	return cmd
}
