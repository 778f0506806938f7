package main

import (
	"context"
	"fmt"

	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/cmd/tare/manifestlist"
)

type manifestPushOptions struct{ insecure, purge bool }

func newManifestPushCommand(c *cli) *cobra.Command {
	var o manifestPushOptions
	cmd := &cobra.Command{
		Use:   "push [OPTIONS] MANIFEST_LIST",
		Short: "Send a manifest list to its registry",
		Args:  exactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runManifestPush(cmd.Context(), c, o, args[0])
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.insecure, "insecure", false, insecureHelp)
	f.BoolVarP(&o.purge, "purge", "p", false, "Remove the list from the configuration directory once it is pushed")
	return cmd
}

func runManifestPush(ctx context.Context, c *cli, o manifestPushOptions, list string) error {
	ref, err := normalize(list)
	if err != nil {
		return err
	}
	store := c.manifestLists()
	all, err := store.List(ref)
	if err != nil {
		return err
	}
	push, err := pushOf(ref, all)
	if err != nil {
		return err
	}
	cl, err := c.connect()
	if err != nil {
		return err
	}
	push.Insecure = o.insecure
	err = cl.ManifestPush(ctx, push, c.credentials(ref), func(m jsonstream.Message) error {
		_, err := fmt.Fprintln(c.out, safe(m.Status))
		return err
	})
	if err != nil {
		return bare(err)
	}
	if o.purge {
		return store.Remove(ref)
	}
	return nil
}

// pushOf makes the request for a list.
func pushOf(ref string, all []manifestlist.Manifest) (p api.ManifestPush, err error) {
	if len(all) == 0 {
		return p, fmt.Errorf("%s not found", ref)
	}
	for _, m := range all {
		if p := m.Descriptor.Platform; p == nil || p.OS == "" || p.Architecture == "" {
			return api.ManifestPush{}, fmt.Errorf("manifest %s must have an OS and Architecture to be pushed to a registry", m.Ref)
		}
	}
	mediaType, raw, err := manifestlist.Index(ref, all)
	if err != nil {
		return p, err
	}
	p.Index = api.RegistryManifest{Ref: ref, Raw: raw,
		Descriptor: ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}}
	for _, m := range all {
		raw, err := m.Payload()
		if err != nil {
			return p, err
		}
		p.Index.Manifests = append(p.Index.Manifests, api.RegistryManifest{Ref: m.Ref, Descriptor: m.Descriptor, Raw: raw})
	}
	return p, nil
}
