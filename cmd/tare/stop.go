package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
)

type stopOptions struct {
	signal  string
	timeout *int // seconds until SIGKILL; nil is the container's own
}

func newStopCommand(c *cli) *cobra.Command {
	var o stopOptions
	cmd := &cobra.Command{
		Use:         "stop [OPTIONS] CONTAINER [CONTAINER...]",
		Short:       "Stop running containers",
		Args:        minArgs(1),
		Annotations: aliases("container stop", "stop"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, names []string) error {
			return runStop(ctx, cl, c.out, o, names)
		}),
	}
	o.add(cmd)
	return cmd
}

func newRestartCommand(c *cli) *cobra.Command {
	var o stopOptions
	cmd := &cobra.Command{
		Use:         "restart [OPTIONS] CONTAINER [CONTAINER...]",
		Short:       "Stop containers and start them again",
		Args:        minArgs(1),
		Annotations: aliases("container restart", "restart"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, names []string) error {
			return each(c.out, names, func(name string) error { return cl.ContainerRestart(ctx, name, o.wire()) })
		}),
	}
	o.add(cmd)
	return cmd
}

func (o *stopOptions) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&o.signal, "signal", "s", "", "Signal to send to the container")
	f.VarP(optionalInt{&o.timeout}, "timeout", "t", "Seconds to wait before the container is killed (-1 for ever)")
	f.VarP(optionalInt{&o.timeout}, "time", "", "Seconds to wait before the container is killed")
	f.MarkHidden("time")
}

func (o *stopOptions) wire() api.StopOptions {
	return api.StopOptions{Signal: o.signal, Timeout: o.timeout}
}

func runStop(ctx context.Context, cl *client.Client, out io.Writer, o stopOptions, names []string) error {
	return each(out, names, func(name string) error { return cl.ContainerStop(ctx, name, o.wire()) })
}
