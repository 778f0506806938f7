package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/moby/term"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
)

type loadOptions struct {
	input     string
	quiet     bool
	platforms []string
}

func newLoadCommand(c *cli) *cobra.Command {
	var o loadOptions
	cmd := &cobra.Command{
		Use:         "load [OPTIONS]",
		Short:       "Load images from an archive or from STDIN",
		Args:        noArgs,
		Annotations: aliases("image load", "load"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			in, err := openInput(c.in, o.input)
			if err != nil {
				return err
			}
			defer in.Close()
			cl, err := c.connect()
			if err != nil {
				return err
			}
			return runLoad(cmd.Context(), cl, in, c.out, o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.input, "input", "i", "", "Read the archive from a file instead of STDIN")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Show only what was loaded")
	f.StringSliceVar(&o.platforms, "platform", nil, "Load only the given platforms, such as linux/amd64")
	return cmd
}

// openInput opens the file, or takes STDIN unless that is a terminal: nobody
// types archives.
func openInput(in *os.File, path string) (*os.File, error) {
	if path != "" {
		return os.Open(path)
	}
	if term.IsTerminal(in.Fd()) {
		return nil, errors.New("requested load from stdin, but stdin is empty")
	}
	return in, nil
}

func runLoad(ctx context.Context, cl *client.Client, in io.Reader, out *os.File, o loadOptions) error {
	platforms, err := parsePlatforms(o.platforms)
	if err != nil {
		return err
	}
	// Without a terminal the counts would not be shown.
	quiet := o.quiet || !isScreen(out)
	p := newProgress(out, false)
	err = cl.ImageLoad(ctx, in, quiet, platforms, p.Show)
	return errors.Join(p.Close(), err)
}
