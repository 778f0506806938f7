package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/tare-engine/tare/client"
)

func newVolumeCloneCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "clone VOLUME NEW",
		Short: "Make a volume that is a copy of another",
		Long: `The copy has the other's files, labels and options. Where the file system can, the two share data until one changes it. No running container may have the
volume.`,
		Args: exactArgs(2),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			v, err := cl.VolumeClone(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.out, safe(v.Name))
			return err
		}),
	}
}

func newVolumeRenameCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "rename VOLUME NEW",
		Short: "Give a volume that no container has another name",
		Args:  exactArgs(2),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			_, err := cl.VolumeRename(ctx, args[0], args[1])
			return err
		}),
	}
}

func newVolumeExportCommand(c *cli) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "export [OPTIONS] VOLUME",
		Short: "Write all files of a volume to an archive, a file or STDOUT",
		Args:  exactArgs(1),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			return named("failed to export volume", output, writeArchive(c.out, output, func() (io.ReadCloser, error) { return cl.VolumeExport(ctx, args[0]) }))
		}),
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "Write to a file instead of STDOUT")
	return cmd
}

func newVolumeImportCommand(c *cli) *cobra.Command {
	var replace bool
	cmd := &cobra.Command{
		Use:   "import [OPTIONS] VOLUME [FILE|-]",
		Short: "Make a volume of an archive, a file or STDIN",
		Long:  `A volume that is there is filled if it is empty. The archive may be compressed. The volume has all of the files or, after an error, none.`,
		Args:  rangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var path string
			if len(args) == 2 && args[1] != "-" {
				path = args[1]
			}
			in, err := openInput(c.in, path)
			if err != nil {
				return err
			}
			defer in.Close()
			cl, err := c.connect()
			if err != nil {
				return err
			}
			return cl.VolumeImport(cmd.Context(), args[0], in, replace)
		},
	}
	cmd.Flags().BoolVar(&replace, "replace", false, "Take away what the volume has")
	return cmd
}
