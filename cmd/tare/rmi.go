package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
)

func newRmiCommand(c *cli) *cobra.Command {
	var o client.ImageRemoveOptions
	var platforms []string
	cmd := &cobra.Command{
		Use:         "rmi [OPTIONS] IMAGE [IMAGE...]",
		Short:       "Remove images",
		Args:        minArgs(1),
		Annotations: aliases("image rm", "image remove", "rmi"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, refs []string) (err error) {
			if o.Platforms, err = parsePlatforms(platforms); err != nil {
				return err
			}
			return runRmi(ctx, cl, c.out, c.err, o, refs)
		}),
	}
	cmd.Flags().BoolVarP(&o.Force, "force", "f", false, "Remove an image that stopped containers use")
	cmd.Flags().BoolVar(&o.NoPrune, "no-prune", false, "Keep untagged parents")
	cmd.Flags().StringSliceVar(&platforms, "platform", nil, "Remove only the given platforms of an image that has several, such as linux/arm64")
	return cmd
}

func runRmi(ctx context.Context, cl *client.Client, out, errOut io.Writer, o client.ImageRemoveOptions, refs []string) error {
	var errs []error
	for _, ref := range refs {
		done, err := cl.ImageRemove(ctx, ref, o)
		if o.Force && client.IsNotFound(err) {
			report(errOut, err)
			err = nil
		}
		errs = append(errs, err)
		for _, d := range done {
			if d.Deleted != "" {
				fmt.Fprintln(out, "Deleted: "+safe(d.Deleted))
			} else {
				fmt.Fprintln(out, "Untagged: "+safe(d.Untagged))
			}
		}
	}
	return errors.Join(errs...)
}
