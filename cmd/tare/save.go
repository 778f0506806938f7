package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
)

type saveOptions struct {
	output    string
	platforms []string
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
	return cmd
}

func runSave(ctx context.Context, c *cli, cl *client.Client, o saveOptions, refs []string) error {
	var platforms []ocispec.Platform
	for _, text := range o.platforms {
		p, err := parsePlatform(text)
		if err != nil {
			return fmt.Errorf("invalid platform: %q: cannot parse platform specifier: invalid argument", text)
		}
		platforms = append(platforms, *p)
	}
	return named("failed to save image", o.output, writeArchive(c.out, o.output, func() (io.ReadCloser, error) { return cl.ImageSave(ctx, refs, platforms) }))
}

// named says what has failed, where the error is about a file and not the
// engine's.
func named(what, output string, err error) error {
	if _, ok := errors.AsType[*client.Error](err); err == nil || ok || output == "" {
		return err
	}
	return fmt.Errorf("%s: %w", what, err)
}
