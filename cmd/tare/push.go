package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/moby/moby/api/types/auxprogress"
	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/opts"
)

type pushOptions struct {
	all, quiet bool
	platform   string
}

func newPushCommand(c *cli) *cobra.Command {
	var o pushOptions
	cmd := &cobra.Command{
		Use:         "push [OPTIONS] NAME[:TAG]",
		Short:       "Send an image to a registry",
		Args:        exactArgs(1),
		Annotations: aliases("image push", "push"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			return runPush(ctx, c, cl, o, args[0])
		}),
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all-tags", "a", false, "Send the images of all tags of the repository")
	opts.AddUntrusted(f)
	f.StringVar(&o.platform, "platform", "", "Send this platform of an image that has several, such as linux/arm64, as an image of its own:\nneither the index nor attestations")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Show only what was sent")
	return cmd
}

func runPush(ctx context.Context, c *cli, cl *client.Client, o pushOptions, ref string) error {
	platform, err := pushPlatform(c, o.platform)
	if err != nil {
		return err
	}
	if strings.Contains(ref, "@") {
		return errors.New("cannot push a digest reference")
	}
	what, err := transferOf(ref, o.all)
	if err != nil {
		return err
	}
	var notes []string
	req := api.PushOptions{Repo: what.repo, Tag: what.tag, Platform: platform, Auth: c.credentials(ref)}
	err = c.transfer(what.note, o.quiet, func(report func(jsonstream.Message) error) error {
		return cl.ImagePush(ctx, req, func(m jsonstream.Message) error {
			notes = append(notes, pushNotes(m)...)
			return report(m)
		})
	})
	for _, n := range notes {
		printNote(c.out, n)
	}
	if err == nil && o.quiet {
		_, err = fmt.Fprintln(c.out, safe(canonical(what.ref)))
	}
	return err
}

func pushPlatform(c *cli, text string) (*ocispec.Platform, error) {
	p, err := parsePlatform(text)
	if err != nil {
		return nil, fmt.Errorf("invalid platform %s: %w", text, err)
	}
	if p != nil {
		printNote(c.out, "With --platform one image is pushed, without the index and the attestations it belongs to.\nWithout the flag the whole of it is.")
	}
	return p, nil
}

// pushNotes is what an engine has to say beside the progress.
func pushNotes(m jsonstream.Message) (notes []string) {
	if m.Aux == nil {
		return nil
	}
	var instead auxprogress.ManifestPushedInsteadOfIndex
	if json.Unmarshal(*m.Aux, &instead) == nil && instead.ManifestPushedInsteadOfIndex {
		notes = append(notes, fmt.Sprintf("Not all of the platforms are here, so that only this one was pushed:\n%s -> %s",
			safe(instead.OriginalIndex.Digest.String()), safe(instead.SelectedManifest.Digest.String())))
	}
	var missing auxprogress.ContentMissing
	if json.Unmarshal(*m.Aux, &missing) == nil && missing.ContentMissing {
		notes = append(notes, "The image has several platforms, and not all of them are here or in the registry.\n"+
			"Pull those that are missing, or push one with the --platform flag.")
	}
	return notes
}

// printNote prints what the user should know, apart from the rest.
func printNote(out io.Writer, text string) {
	fmt.Fprintf(out, "\n Info -> %s\n", strings.ReplaceAll(text, "\n", "\n         "))
}
