package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/moby/moby/api/types/registry"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

type imageVerifyOptions struct {
	quiet  bool
	format string
	repair bool
	auths  map[string]registry.AuthConfig // by registry
}

func newImageVerifyCommand(c *cli) *cobra.Command {
	return newVerifyCommand(c, imageVerifyOptions{}, "verify", "Read images again and name what is damaged",
		`Every blob is read and its digest compared; every unpacked layer is compared with what its blob
unpacks to. Without arguments all images are verified. The exit code is 1 if anything is damaged.`)
}

func newImageRepairCommand(c *cli) *cobra.Command {
	return newVerifyCommand(c, imageVerifyOptions{repair: true}, "repair", "Replace what verify finds damaged",
		`Damaged blobs are fetched again from the registry that the image came from, damaged layers are
unpacked again. Running containers keep what they have mounted. Without arguments all images are
looked at. The exit code is 1 if anything stays damaged.`)
}

func newVerifyCommand(c *cli, o imageVerifyOptions, name, short, long string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   name + " [OPTIONS] [IMAGE...]",
		Short: short,
		Long:  long,
		Args:  minArgs(0),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, refs []string) error {
			if o.repair {
				o.auths = c.credentialsOf(ctx, cl, refs)
			}
			return runImageVerify(ctx, cl, c.out, o, refs)
		}),
	}
	f := cmd.Flags()
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Show only what is damaged")
	f.StringVar(&o.format, "format", "", `"json" for the engine's documents, one a line`)
	return cmd
}

// credentialsOf returns those for the registries that images came from: the
// ones that the engine lists, and those named, which it may not be able to list.
func (c *cli) credentialsOf(ctx context.Context, cl *client.Client, refs []string) map[string]registry.AuthConfig {
	list, err := cl.ImageList(ctx, api.ImageListOptions{})
	if err != nil {
		return nil // said again by what follows
	}
	for _, i := range list {
		refs = append(refs, i.RepoDigests...)
	}
	auths := map[string]registry.AuthConfig{}
	asked := map[string]bool{}
	for _, ref := range refs {
		domain, _ := splitDomain(ref)
		if asked[domain] {
			continue
		}
		asked[domain] = true
		if a := c.credentials(ref); a != nil {
			auths[domain] = *a
		}
	}
	return auths
}

func runImageVerify(ctx context.Context, cl *client.Client, out io.Writer, o imageVerifyOptions, refs []string) error {
	if o.format != "" && o.format != "json" {
		return fmt.Errorf("invalid format %q: only json is possible", o.format)
	}
	verify := cl.ImageVerify
	if o.repair {
		verify = cl.ImageRepair
	}
	damaged := false
	err := verify(ctx, api.ImageVerifyRequest{Images: refs, Auths: o.auths}, func(m api.ImageVerifyMessage) error {
		damaged = damaged || m.Damage != nil && !m.Damage.Repaired
		return o.print(out, m)
	})
	if err == nil && damaged {
		err = &exitError{code: 1}
	}
	return err
}

func (o imageVerifyOptions) print(out io.Writer, m api.ImageVerifyMessage) error {
	var err error
	switch {
	case o.format == "json":
		var b []byte
		if b, err = json.Marshal(m); err == nil {
			_, err = fmt.Fprintf(out, "%s\n", format.EscapeJSON(b))
		}
	case m.Damage != nil:
		_, err = fmt.Fprintln(out, safe(damageLine(m.Damage)))
	case m.Image != nil && !o.quiet:
		_, err = fmt.Fprintln(out, safe(verifiedLine(m.Image)))
	case m.Image == nil:
		err = errors.New("the engine sends a document that says nothing")
	}
	return err
}

// damageLine is "NAME: layer DIGEST: PATH has other data (unpacked again)".
func damageLine(d *api.ImageDamage) string {
	name := d.Name
	if name == "" {
		name = format.ShortID(d.Image)
	}
	line := name + ": " + d.Kind + " " + d.Digest
	if d.Path != "" {
		line += ": " + d.Path
	}
	line += " " + d.Problem
	switch {
	case d.Repaired && d.Kind == "layer":
		line += " (unpacked again)"
	case d.Repaired:
		line += " (fetched again)"
	case d.Unrepaired != "":
		line += " (not repaired: " + d.Unrepaired + ")"
	}
	return line
}

func verifiedLine(v *api.ImageVerified) string {
	line := strings.Join(v.Names, ", ")
	if line == "" {
		line = format.ShortID(v.ID)
	}
	switch {
	case v.Damaged == 0:
		return fmt.Sprintf("%s: whole (blobs: %d, layers: %d)", line, v.Blobs, v.Layers)
	case v.Damaged == v.Repaired:
		return fmt.Sprintf("%s: repaired (damaged: %d)", line, v.Damaged)
	}
	return fmt.Sprintf("%s: damaged (damaged: %d, repaired: %d)", line, v.Damaged, v.Repaired)
}
