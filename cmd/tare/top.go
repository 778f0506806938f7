package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

func newTopCommand(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:         "top CONTAINER [ps OPTIONS]",
		Short:       "Show the processes of a container",
		Args:        minArgs(1),
		Annotations: aliases("container top", "top"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			return runTop(ctx, cl, c.out, args[0], args[1:])
		}),
	}
	cmd.Flags().SetInterspersed(false) // the rest is for ps
	return cmd
}

func runTop(ctx context.Context, cl *client.Client, out io.Writer, name string, args []string) error {
	procs, err := cl.ContainerTop(ctx, name, strings.Join(args, " "))
	if err != nil {
		return err
	}
	return format.Collected(out, func(out io.Writer) error { return printProcesses(out, procs) })
}

func printProcesses(out io.Writer, procs container.TopResponse) error {
	w := tabwriter.NewWriter(out, 20, 1, 3, ' ', 0)
	fmt.Fprintln(w, strings.Join(procs.Titles, "\t"))
	for _, p := range procs.Processes {
		for i := range p {
			p[i] = format.Escape(p[i])
		}
		fmt.Fprintln(w, strings.Join(p, "\t"))
	}
	return w.Flush()
}
