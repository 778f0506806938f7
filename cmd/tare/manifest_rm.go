package main

import (
	"errors"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/cmd/tare/manifestlist"
)

func newManifestRmCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "rm MANIFEST_LIST [MANIFEST_LIST...]",
		Short: "Remove manifest lists that are being made",
		Args:  minArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return runManifestRm(c.manifestLists(), args)
		},
	}
}

func runManifestRm(store manifestlist.Store, lists []string) error {
	var errs []error
	for _, list := range lists {
		ref, err := normalize(list)
		if err == nil {
			err = store.Remove(ref)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
