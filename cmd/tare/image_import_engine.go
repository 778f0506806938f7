package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
)

type imageImportEngineOptions struct {
	namespaces []string
	dryRun     bool
	quiet      bool
}

func newImageImportEngineCommand(c *cli) *cobra.Command {
	var o imageImportEngineOptions
	cmd := &cobra.Command{
		Use:   "import-engine [OPTIONS] DIR [IMAGE...]",
		Short: "Take images from the data root of Docker or containerd",
		Long: `DIR is the data root of another engine on the engine's host, such as /var/lib/docker or
/var/lib/containerd; that engine may be running, and nothing of it is changed. Images keep
their IDs and tags. Without IMAGE all are taken. Layers that are there are not taken again.
The exit code is 1 if an image cannot be taken; the others come all the same.`,
		Args: minArgs(1),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			return runImageImportEngine(ctx, cl, c.out, o, args)
		}),
	}
	f := cmd.Flags()
	f.BoolVar(&o.dryRun, "dry-run", false, "Only show which images would come, and how much")
	f.StringSliceVar(&o.namespaces, "namespace", nil, "Namespaces of containerd (default default,moby,k8s.io)")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Show only what goes wrong")
	return cmd
}

func runImageImportEngine(ctx context.Context, cl *client.Client, out *os.File, o imageImportEngineOptions, args []string) error {
	dir, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	p := newProgress(out, o.quiet)
	err = cl.ImageImportEngine(ctx, api.ImageImportEngineRequest{Dir: dir, Images: args[1:], Namespaces: o.namespaces, DryRun: o.dryRun}, p.Show)
	return errors.Join(p.Close(), err)
}
