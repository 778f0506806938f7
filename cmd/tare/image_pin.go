package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
)

func newImagePinCommand(c *cli) *cobra.Command {
	return newPinCommand(c, "pin", "Keep images from being pruned, collected, or removed without force", (*client.Client).ImagePin)
}

func newImageUnpinCommand(c *cli) *cobra.Command {
	return newPinCommand(c, "unpin", "Take the pin off images", (*client.Client).ImageUnpin)
}

type pinner = func(*client.Client, context.Context, string) error

func newPinCommand(c *cli, name, short string, pin pinner) *cobra.Command {
	return &cobra.Command{
		Use:   name + " IMAGE [IMAGE...]",
		Short: short,
		Args:  minArgs(1),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, refs []string) error {
			return runPin(ctx, cl, c.out, pin, refs)
		}),
	}
}

func runPin(ctx context.Context, cl *client.Client, out io.Writer, pin pinner, refs []string) error {
	var errs []error
	for _, ref := range refs {
		if err := pin(cl, ctx, ref); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(out, safe(ref))
	}
	return errors.Join(errs...)
}
