package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/cmd/tare/format"
	"github.com/tare-engine/tare/cmd/tare/manifestlist"
)

type manifestInspectOptions struct{ insecure, verbose bool }

func newManifestInspectCommand(c *cli) *cobra.Command {
	var o manifestInspectOptions
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] [MANIFEST_LIST] MANIFEST",
		Short: "Show a manifest or an index that a registry has, or a manifest list that is being made",
		Long:  `With MANIFEST_LIST it is the manifest as that list has it.`,
		Args:  rangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runManifestInspect(cmd.Context(), c, format.Screen(c.out, ""), o, args)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.insecure, "insecure", false, insecureHelp)
	f.BoolVarP(&o.verbose, "verbose", "v", false, "Show the platform, the digest and the bytes as well, and the manifests of an index")
	return cmd
}

func runManifestInspect(ctx context.Context, c *cli, out io.Writer, o manifestInspectOptions, args []string) error {
	ref, err := normalize(args[len(args)-1])
	if err != nil {
		return err
	}
	if len(args) == 2 {
		list, err := normalize(args[0])
		if err != nil {
			return err
		}
		m, err := c.manifestLists().Get(list, ref)
		if err != nil {
			return err
		}
		return printManifest(out, m, o.verbose)
	}
	list, err := c.manifestLists().List(ref)
	if manifestlist.IsNotFound(err) {
		return inspectRemote(ctx, c, out, o, ref)
	}
	if err != nil {
		return err
	}
	return printManifestList(out, ref, list, o.verbose)
}

// inspectRemote shows what a registry has.
func inspectRemote(ctx context.Context, c *cli, out io.Writer, o manifestInspectOptions, ref string) error {
	got, err := c.remoteManifest(ctx, api.ManifestOptions{Ref: ref, Insecure: o.insecure, Platform: o.verbose, Members: o.verbose})
	if err != nil {
		return err
	}
	if !isIndex(got) {
		m, err := manifestlist.New(got.Ref, got.Descriptor, got.Raw)
		if err != nil {
			return fmt.Errorf("manifest %s: %w", ref, err)
		}
		return printManifest(out, m, o.verbose)
	}
	list, err := membersOf(got, o.verbose)
	if err != nil {
		return fmt.Errorf("index %s: %w", ref, err)
	}
	return printManifestList(out, ref, list, o.verbose)
}

func isIndex(m api.RegistryManifest) bool {
	return m.Descriptor.MediaType == ocispec.MediaTypeImageIndex || m.Descriptor.MediaType == manifestlist.DockerList
}

// membersOf are the manifests of an index, or what it says of them.
func membersOf(index api.RegistryManifest, whole bool) ([]manifestlist.Manifest, error) {
	list := []manifestlist.Manifest{}
	if whole {
		for _, m := range index.Manifests {
			one, err := manifestlist.New(m.Ref, m.Descriptor, m.Raw)
			if err != nil {
				return nil, err
			}
			if one.Descriptor.Platform == nil {
				one.Descriptor.Platform = &ocispec.Platform{} // docker shows an empty one
			}
			list = append(list, one)
		}
		return list, nil
	}
	var doc ocispec.Index
	if err := json.Unmarshal(index.Raw, &doc); err != nil {
		return nil, err
	}
	for _, d := range doc.Manifests {
		list = append(list, manifestlist.Manifest{Ref: index.Ref, Descriptor: d})
	}
	return list, nil
}

func printManifest(out io.Writer, m manifestlist.Manifest, verbose bool) error {
	if verbose {
		return printIndented(out, m)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, m.Document(), "", "\t"); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, b.String())
	return err
}

func printManifestList(out io.Writer, ref string, list []manifestlist.Manifest, verbose bool) error {
	if verbose {
		return printIndented(out, list)
	}
	_, raw, err := manifestlist.Index(ref, list)
	if err != nil {
		return fmt.Errorf("failed to assemble ManifestDescriptor: %w", err)
	}
	_, err = fmt.Fprintln(out, string(raw))
	return err
}

func printIndented(out io.Writer, v any) error {
	b, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, string(b))
	return err
}
