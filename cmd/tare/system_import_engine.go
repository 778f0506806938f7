package main

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
)

func newSystemImportEngineCommand(c *cli) *cobra.Command {
	var dry, quiet bool
	cmd := &cobra.Command{
		Use:   "import-engine [OPTIONS] DIR",
		Short: "Take over images, volumes, networks and containers of a stopped Docker",
		Long: `DIR is Docker's data root on the engine's host, such as /var/lib/docker. Nothing in it is changed:
files are copied, and share their data with the copies where the file system can. Containers keep
their IDs, names, files and logs, and are not started. What is there already stays as it is, so the
command may be given again. The exit code is 1 if something cannot come; it is named, and the rest
comes all the same.`,
		Args: exactArgs(1),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			p := newProgress(c.out, quiet)
			err = cl.ImportEngine(ctx, api.ImportEngineRequest{Dir: dir, DryRun: dry}, p.Show)
			return errors.Join(p.Close(), err)
		}),
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "Only show what would come")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Show only what goes wrong")
	return cmd
}
