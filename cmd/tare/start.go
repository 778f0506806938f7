package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
)

type startOptions struct {
	attach, stdin             bool
	detachKeys                string
	checkpoint, checkpointDir string
}

func newStartCommand(c *cli) *cobra.Command {
	var o startOptions
	cmd := &cobra.Command{
		Use:         "start [OPTIONS] CONTAINER [CONTAINER...]",
		Short:       "Start stopped containers",
		Long:        "Exit codes with -a or -i: the program's own; 128+n if signal n ended it",
		Args:        minArgs(1),
		Annotations: aliases("container start", "start"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, names []string) error {
			if o.checkpoint != "" {
				return runRestore(ctx, cl, o, names)
			}
			if !o.attach && !o.stdin {
				return runStart(ctx, cl, c.out, names)
			}
			if len(names) > 1 {
				return errors.New("you cannot start and attach multiple containers at once")
			}
			return runStartAttached(ctx, c, cl, o, names[0])
		}),
	}
	f := cmd.Flags()
	f.BoolVarP(&o.attach, "attach", "a", false, "Attach STDOUT and STDERR and pass signals on")
	f.StringVar(&o.checkpoint, "checkpoint", "", "Go on from a checkpoint (engines with experimental features)")
	f.StringVar(&o.checkpointDir, "checkpoint-dir", "", "Where that checkpoint lies")
	f.StringVar(&o.detachKeys, "detach-keys", "", "Keys that detach from the container")
	f.BoolVarP(&o.stdin, "interactive", "i", false, "Attach STDIN")
	return cmd
}

// runRestore starts a container where a checkpoint has left it. As docker's, it does
// not attach to it.
func runRestore(ctx context.Context, cl *client.Client, o startOptions, names []string) error {
	if o.attach || o.stdin {
		return errors.New("--checkpoint goes with neither --attach nor --interactive: attach when the container runs")
	}
	if len(names) > 1 {
		return errors.New("you cannot restore multiple containers at once")
	}
	if err := requireExperimental(ctx, cl, `"--checkpoint"`); err != nil {
		return err
	}
	return cl.ContainerRestore(ctx, names[0], o.checkpoint, o.checkpointDir)
}

func runStart(ctx context.Context, cl *client.Client, out io.Writer, names []string) error {
	var failed []string
	var errs []error
	for _, name := range names {
		if err := cl.ContainerStart(ctx, name); err != nil {
			failed = append(failed, name)
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(out, safe(name))
	}
	if len(failed) == 0 {
		return nil
	}
	return errors.Join(append(errs, fmt.Errorf("Error: failed to start containers: %s", strings.Join(failed, ", ")))...)
}

// runStartAttached starts one container with our terminal joined to it.
func runStartAttached(ctx context.Context, c *cli, cl *client.Client, o startOptions, name string) error {
	ct, err := cl.ContainerInspect(ctx, name)
	if err != nil {
		return err
	}
	tty, stdin := ct.Config.Tty, o.stdin && ct.Config.OpenStdin
	if o.detachKeys == "" {
		o.detachKeys = c.config.DetachKeys
	}
	s, err := newSession(c, stdin, true, true, tty, o.detachKeys)
	if err != nil {
		return err
	}
	stream, err := cl.ContainerAttach(ctx, ct.ID, api.AttachOptions{
		Stream: true, Stdin: stdin, Stdout: true, Stderr: true, DetachKeys: o.detachKeys,
	})
	if err != nil {
		return err
	}
	defer stream.Close()
	condition := container.WaitConditionNextExit
	if ct.HostConfig != nil && ct.HostConfig.AutoRemove {
		condition = container.WaitConditionRemoved
	}
	wait, err := cl.ContainerWait(ctx, ct.ID, condition)
	if err != nil {
		return err
	}
	target := make(chan func(string) error, 1)
	if !tty { // a terminal makes its own signals
		defer c.proxySignals(target)()
	}
	restore, err := s.raw()
	if err != nil {
		return err
	}
	defer restore()
	if err := cl.ContainerStart(ctx, ct.ID); err != nil {
		return err
	}
	target <- func(sig string) error { return cl.ContainerKill(ctx, ct.ID, sig) }
	ended := watchExit(ctx, cl, ct.ID, wait)
	if tty {
		defer c.followSize(func(rows, cols uint16) error { return cl.ContainerResize(ctx, ct.ID, rows, cols) })()
	}
	err = s.run(stream, func(stdout, stderr io.Writer) error { return stream.Output(stdout, stderr, tty) })
	restore()
	switch {
	case errors.Is(err, errDetached):
		return nil
	case err != nil:
		return err
	}
	end := <-ended
	return exitWith(end.code, end.err)
}
