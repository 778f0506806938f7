package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
)

type saveOptions struct {
	output    string
	platforms []string
	since     []string
}

func newSaveCommand(c *cli) *cobra.Command {
	var o saveOptions
	cmd := &cobra.Command{
		Use:         "save [OPTIONS] IMAGE [IMAGE...]",
		Short:       "Write images to an archive, a file or STDOUT",
		Args:        minArgs(1),
		Annotations: aliases("image save", "save"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			return runSave(ctx, c, cl, o, args)
		}),
	}
	f := cmd.Flags()
	f.StringVarP(&o.output, "output", "o", "", "Write to a file instead of STDOUT")
	f.StringSliceVar(&o.platforms, "platform", nil, "Save only the given platforms, such as linux/amd64")
	f.StringSliceVar(&o.since, "since", nil, "Leave out the layers of these images: who loads the archive must have them")
	return cmd
}

func runSave(ctx context.Context, c *cli, cl *client.Client, o saveOptions, refs []string) error {
	platforms, err := parsePlatforms(o.platforms)
	if err != nil {
		return err
	}
	return named("failed to save image", o.output, writeArchive(c.out, o.output, func() (io.ReadCloser, error) {
		if len(o.since) > 0 {
			return cl.ImageSaveIncrement(ctx, api.ImageSaveRequest{Images: refs, Platforms: platforms, Since: o.since})
		}
		return cl.ImageSave(ctx, refs, platforms)
	}))
}

// named says what has failed, where the error is about a file and not the
// engine's.
func named(what, output string, err error) error {
	if _, ok := errors.AsType[*client.Error](err); err == nil || ok || output == "" {
		return err
	}
	return fmt.Errorf("%s: %w", what, err)
}
