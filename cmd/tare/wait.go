package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
)

func newWaitCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:         "wait CONTAINER [CONTAINER...]",
		Short:       "Wait until containers stop and print their exit codes",
		Args:        minArgs(1),
		Annotations: aliases("container wait", "wait"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, names []string) error {
			return runWait(ctx, cl, c.out, names)
		}),
	}
}

func runWait(ctx context.Context, cl *client.Client, out io.Writer, names []string) error {
	var errs []error
	for _, name := range names {
		wait, err := waitStopped(ctx, cl, name)
		code := 0
		if err == nil {
			code, err = awaitExit(ctx, cl, name, wait)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(out, code)
	}
	return errors.Join(errs...)
}
