package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/opts"
)

func newCommitCommand(c *cli) *cobra.Command {
	var o api.CommitOptions
	var noPause bool
	cmd := &cobra.Command{
		Use:         "commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
		Short:       "Make an image of what a container has changed",
		Args:        rangeArgs(1, 2),
		Annotations: aliases("container commit", "commit"),
	}
	f := cmd.Flags()
	f.StringVarP(&o.Author, "author", "a", "", `Who has made it (e.g., "John Hannibal Smith <hannibal@a-team.com>")`)
	f.StringArrayVarP(&o.Changes, "change", "c", nil, "Apply an instruction of a Dockerfile to the image")
	opts.CallValues(f, "list", "change")
	f.StringVarP(&o.Comment, "message", "m", "", "Message of the commit")
	f.BoolVarP(&o.Pause, "pause", "p", true, "Pause the container meanwhile")
	f.Lookup("pause").Hidden = true // it is so without it
	f.BoolVar(&noPause, "no-pause", false, "Let the container go on meanwhile")
	cmd.RunE = c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
		if noPause && f.Changed("pause") {
			return errors.New("conflicting options: --no-pause and --pause cannot be used together")
		}
		o.Pause = o.Pause && !noPause
		o.Container = args[0]
		if len(args) > 1 {
			o.Repo, o.Tag = splitTag(args[1])
			if strings.Contains(args[1], "@") {
				return errors.New("refusing to create a tag with a digest reference")
			}
			if _, second := splitTag(o.Repo); second != "" {
				return errors.New("invalid reference format")
			}
		}
		return runCommit(ctx, cl, c.out, o)
	})
	return cmd
}

func runCommit(ctx context.Context, cl *client.Client, out io.Writer, o api.CommitOptions) error {
	id, err := cl.ContainerCommit(ctx, o)
	if text, ok := badReference(err); ok {
		return errors.New(text)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, safe(id))
	return err
}
