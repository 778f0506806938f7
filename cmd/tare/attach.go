package main

import (
	"context"
	"errors"
	"io"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
)

type attachOptions struct {
	noStdin, sigProxy bool
	detachKeys        string
}

func newAttachCommand(c *cli) *cobra.Command {
	var o attachOptions
	cmd := &cobra.Command{
		Use:         "attach [OPTIONS] CONTAINER",
		Short:       "Join STDIN, STDOUT and STDERR with a running container's",
		Long:        "Exit codes: the program's own; 1 could not attach, or left by the detach keys",
		Args:        exactArgs(1),
		Annotations: aliases("container attach", "attach"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			return runAttach(ctx, c, cl, o, args[0])
		}),
	}
	f := cmd.Flags()
	f.StringVar(&o.detachKeys, "detach-keys", "", "Keys that detach from the container")
	f.BoolVar(&o.noStdin, "no-stdin", false, "Do not attach STDIN")
	f.BoolVar(&o.sigProxy, "sig-proxy", true, "Pass signals on to the process")
	return cmd
}

func runAttach(ctx context.Context, c *cli, cl *client.Client, o attachOptions, name string) error {
	ct, err := runningContainer(ctx, cl, name)
	if err != nil {
		return err
	}
	tty, stdin := ct.Config.Tty, !o.noStdin && ct.Config.OpenStdin
	if err := checkTTY(c.in, stdin, tty); err != nil {
		return err
	}
	if o.detachKeys == "" {
		o.detachKeys = c.config.DetachKeys
	}
	s, err := newSession(c, stdin, true, true, tty, o.detachKeys)
	if err != nil {
		return err
	}
	// Begun now, so that an exit while we attach is not missed.
	ended := watchExit(ctx, cl, ct.ID, nil)
	stream, err := cl.ContainerAttach(ctx, ct.ID, api.AttachOptions{
		Stream: true, Stdin: stdin, Stdout: true, Stderr: true, DetachKeys: o.detachKeys,
	})
	if err != nil {
		return err
	}
	defer stream.Close()
	restore, err := s.raw()
	if err != nil {
		return err
	}
	defer restore()
	if o.sigProxy && !tty {
		target := make(chan func(string) error, 1)
		target <- func(sig string) error { return cl.ContainerKill(ctx, ct.ID, sig) }
		defer c.proxySignals(target)()
	} else {
		defer s.restoreOnSignal(restore)()
	}
	if tty {
		resize := func(rows, cols uint16) error { return cl.ContainerResize(ctx, ct.ID, rows, cols) }
		c.redraw(resize)
		defer c.followSize(resize)()
	}
	err = s.run(stream, func(stdout, stderr io.Writer) error { return stream.Output(stdout, stderr, tty) })
	restore()
	if err != nil { // the detach keys too: docker's exit code is 1 then
		return err
	}
	end := <-ended
	return exitWith(end.code, end.err)
}

// runningContainer describes a container that can be attached to.
func runningContainer(ctx context.Context, cl *client.Client, name string) (container.InspectResponse, error) {
	ct, err := cl.ContainerInspect(ctx, name)
	switch {
	case err != nil:
		return ct, err
	case !ct.State.Running:
		return ct, errors.New("cannot attach to a stopped container, start it first")
	case ct.State.Paused:
		return ct, errors.New("cannot attach to a paused container, unpause it first")
	case ct.State.Restarting:
		return ct, errors.New("cannot attach to a restarting container, wait until it is running")
	}
	return ct, nil
}

// redraw makes a program that draws the whole screen do so again: it believes
// that its terminal has changed.
func (c *cli) redraw(resize func(rows, cols uint16) error) {
	if rows, cols := c.size(); rows > 0 {
		resize(rows+1, cols+1)
	}
}
