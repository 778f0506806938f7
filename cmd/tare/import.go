package main

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/opts"
)

func newImportCommand(c *cli) *cobra.Command {
	var o client.ImageImportOptions
	cmd := &cobra.Command{
		Use:         "import [OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
		Short:       "Make an image of one layer of an archive",
		Args:        minArgs(1),
		Annotations: aliases("image import", "import"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			if len(args) > 1 {
				o.Name = args[1]
			}
			return runImport(ctx, c, cl, o, args[0])
		}),
	}
	f := cmd.Flags()
	f.StringArrayVarP(&o.Changes, "change", "c", nil, "Apply an instruction of a Dockerfile to the image")
	opts.CallValues(f, "list", "change")
	f.StringVarP(&o.Message, "message", "m", "", "Message of the import")
	f.StringVar(&o.Platform, "platform", "", "Platform of the image, such as linux/amd64")
	return cmd
}

// runImport sends a file or STDIN; an URL is fetched by the engine.
func runImport(ctx context.Context, c *cli, cl *client.Client, o client.ImageImportOptions, from string) error {
	var in io.Reader
	source := "-"
	switch {
	case from == "-":
		in = c.in
	case strings.HasPrefix(from, "http://"), strings.HasPrefix(from, "https://"):
		source = from
	default:
		f, err := os.Open(from)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	p := newProgress(c.out, false)
	err := errors.Join(cl.ImageImport(ctx, source, in, o, p.Show), p.Close())
	if text, ok := badReference(err); ok {
		return errors.New(text)
	}
	return err
}
