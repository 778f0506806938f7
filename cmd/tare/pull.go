package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/opts"
)

type pullOptions struct {
	all, quiet bool
	platform   string
}

func newPullCommand(c *cli) *cobra.Command {
	var o pullOptions
	cmd := &cobra.Command{
		Use:         "pull [OPTIONS] NAME[:TAG|@DIGEST]",
		Short:       "Fetch an image from a registry",
		Args:        exactArgs(1),
		Annotations: aliases("image pull", "pull"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			return runPull(ctx, c, cl, o, args[0])
		}),
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all-tags", "a", false, "Fetch the images of all tags in the repository")
	opts.AddUntrusted(f)
	f.StringVar(&o.platform, "platform", os.Getenv("DOCKER_DEFAULT_PLATFORM"), "Platform to fetch of an image that has several, such as linux/arm64")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Show only what was fetched")
	return cmd
}

func runPull(ctx context.Context, c *cli, cl *client.Client, o pullOptions, ref string) error {
	what, err := transferOf(ref, o.all)
	if err != nil {
		return err
	}
	req := client.ImagePullOptions{Repo: what.repo, Tag: what.tag, Platform: o.platform, Auth: c.credentials(ref)}
	err = c.transfer(what.note, o.quiet, func(report func(jsonstream.Message) error) error {
		return cl.ImagePull(ctx, req, report)
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.out, safe(canonical(what.ref)))
	return err
}

// transferred is what a pull or push is about.
type transferred struct {
	repo, tag string // tag "": all of them
	ref       string // as it was typed, with the tag that is meant
	note      string // what the user did not say
}

func transferOf(ref string, all bool) (transferred, error) {
	repo, tag := repositoryOf(ref)
	switch {
	case all && tag != "":
		return transferred{}, errors.New("tag can't be used with --all-tags/-a")
	case !all && tag == "":
		return transferred{repo, "latest", withTag(ref), "Using default tag: latest\n"}, nil
	}
	return transferred{repo: repo, tag: tag, ref: ref}, nil
}

// pullImage fetches the image of a container that is to be made.
func (o *createOptions) pullImage(ctx context.Context, c *cli, cl *client.Client, ref string) error {
	repo, tag := repositoryOf(ref)
	if tag == "" {
		tag = "latest"
	}
	p := newProgress(c.err, o.quiet)
	req := client.ImagePullOptions{Repo: repo, Tag: tag, Platform: o.platform, Auth: c.credentials(ref)}
	err := cl.ImagePull(ctx, req, p.Show)
	return errors.Join(p.Close(), err)
}
