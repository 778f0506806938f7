package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/cmd/tare/manifestlist"
)

type manifestCreateOptions struct{ insecure, amend bool }

func newManifestCreateCommand(c *cli) *cobra.Command {
	var o manifestCreateOptions
	cmd := &cobra.Command{
		Use:   "create MANIFEST_LIST MANIFEST [MANIFEST...]",
		Short: "Begin a manifest list with manifests that a registry has",
		Long: `The list is kept in the configuration directory, where docker's command line looks too, until it is
pushed. Its manifests have to be in the registry where the list is to be.`,
		Args: minArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runManifestCreate(cmd.Context(), c, o, args[0], args[1:])
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.amend, "amend", "a", false, "Add to a manifest list that is there")
	f.BoolVar(&o.insecure, "insecure", false, insecureHelp)
	return cmd
}

func runManifestCreate(ctx context.Context, c *cli, o manifestCreateOptions, list string, refs []string) error {
	target, err := normalize(list)
	if err != nil {
		return fmt.Errorf("error parsing name for manifest list %s: %w", list, err)
	}
	store := c.manifestLists()
	there, err := store.Has(target)
	if err != nil {
		return err
	}
	if there && !o.amend {
		return errors.New("refusing to amend an existing manifest list with no --amend flag")
	}
	// Nothing is written until all of them are known.
	found, err := c.manifestsFor(ctx, target, refs, o.insecure)
	if err != nil {
		return err
	}
	if there {
		err = amend(store, target, found)
	} else {
		err = store.Create(target, found)
	}
	if err != nil {
		return fmt.Errorf("save manifest list %s: %w", target, err)
	}
	_, err = fmt.Fprintln(c.out, "Created manifest list", safe(target))
	return err
}

func amend(store manifestlist.Store, list string, found []manifestlist.Manifest) error {
	for _, m := range found {
		if err := store.Save(list, m); err != nil {
			return err
		}
	}
	return nil
}

// manifestsFor has the engine read manifests for a list. Those that the list has
// already are not asked for: they may be annotated.
func (c *cli) manifestsFor(ctx context.Context, list string, refs []string, insecure bool) (found []manifestlist.Manifest, err error) {
	for _, text := range refs {
		ref, err := normalize(text)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(found, func(m manifestlist.Manifest) bool { return m.Ref == ref }) {
			continue
		}
		m, err := c.manifestLists().Get(list, ref)
		if err == nil && len(m.Raw) > 0 {
			continue
		}
		if err != nil && !manifestlist.IsNotFound(err) {
			return nil, err
		}
		if m, err = c.manifestFor(ctx, ref, insecure); err != nil {
			return nil, err
		}
		found = append(found, m)
	}
	return found, nil
}

func (c *cli) manifestFor(ctx context.Context, ref string, insecure bool) (m manifestlist.Manifest, err error) {
	got, err := c.remoteManifest(ctx, api.ManifestOptions{Ref: ref, Insecure: insecure, Platform: true})
	if err != nil {
		return m, err
	}
	if isIndex(got) {
		return m, fmt.Errorf("%s is a manifest list", ref)
	}
	if m, err = manifestlist.New(ref, got.Descriptor, got.Raw); err != nil {
		return m, fmt.Errorf("manifest %s: %w", ref, err)
	}
	return m, nil
}
