package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	gateway "github.com/moby/buildkit/frontend/gateway/client"
	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/term"
)

// enter runs a shell in the files that a failed step has left, with its mounts,
// network, user and environment, and returns when the shell has ended. The build has
// failed all the same.
func enter(ctx context.Context, gw gateway.Client, failed error, show *screen) error {
	step, ok := errors.AsType[*errdefs.SolveError](failed)
	if !ok {
		return nil // nothing has run
	}
	run := step.Op.GetExec()
	if run == nil {
		fmt.Fprintln(os.Stderr, "What failed is no RUN: there is nothing to enter.")
		return nil
	}
	show.quit()
	ctr, err := gw.NewContainer(ctx, containerOf(step, run))
	if err != nil {
		return fmt.Errorf("enter the failed step: %w", err)
	}
	defer ctr.Release(context.WithoutCancel(ctx))
	fmt.Fprintf(os.Stderr, "%v\nA shell in what the step has left follows; the build ends with it.\n", failed)
	return shellIn(ctx, ctr, run)
}

// containerOf asks for a container with what a failed step had. Its file systems are
// those that it has left.
func containerOf(step *errdefs.SolveError, run *pb.ExecOp) gateway.NewContainerRequest {
	req := gateway.NewContainerRequest{
		Hostname: run.Meta.Hostname, NetMode: run.Network, ExtraHosts: run.Meta.ExtraHosts, Platform: step.Op.Platform, Constraints: step.Op.Constraints,
	}
	for i, m := range run.Mounts {
		mount := gateway.Mount{
			Selector: m.Selector, Dest: m.Dest, Readonly: m.Readonly, MountType: m.MountType, CacheOpt: m.CacheOpt, SecretOpt: m.SecretOpt, SSHOpt: m.SSHOpt,
		}
		if i < len(step.MountIDs) {
			mount.ResultID = step.MountIDs[i]
		}
		req.Mounts = append(req.Mounts, mount)
	}
	return req
}

// shellOf is the shell of a step: the one that was to run its command, if one was.
func shellOf(args []string) string {
	if len(args) > 2 && strings.HasPrefix(args[len(args)-2], "-") && strings.HasSuffix(args[len(args)-2], "c") {
		return args[0]
	}
	return "/bin/sh"
}

// shellIn joins a shell with our terminal, or with our streams if they are none.
func shellIn(ctx context.Context, ctr gateway.Container, run *pb.ExecOp) error {
	tty := term.IsTerminal(os.Stdin.Fd()) && term.IsTerminal(os.Stdout.Fd())
	start := gateway.StartRequest{
		Args: []string{shellOf(run.Meta.Args)}, Env: run.Meta.Env, SecretEnv: run.Secretenv, User: run.Meta.User, Cwd: run.Meta.Cwd, Tty: tty, SecurityMode: run.Security,
		Stdin: os.Stdin, Stdout: unclosed{os.Stdout}, Stderr: unclosed{os.Stderr},
	}
	if tty {
		old, err := term.SetRawTerminal(os.Stdin.Fd())
		if err != nil {
			return fmt.Errorf("put the terminal into raw mode: %w", err)
		}
		defer term.RestoreTerminal(os.Stdin.Fd(), old)
		start.Env = append(start.Env, "TERM="+os.Getenv("TERM"))
	}
	p, err := ctr.Start(ctx, start)
	if err != nil {
		return fmt.Errorf("enter the failed step: start %s: %w", start.Args[0], err)
	}
	if tty {
		defer followSize(ctx, p)()
	}
	err = p.Wait()
	if _, exited := errors.AsType[*gatewayapi.ExitError](err); exited {
		return nil
	}
	return err
}

// followSize gives a process's terminal the size of ours, until stop is called.
func followSize(ctx context.Context, p gateway.ContainerProcess) (stop func()) {
	set := func() {
		if size, err := term.GetWinsize(os.Stdin.Fd()); err == nil {
			_ = p.Resize(ctx, gateway.WinSize{Rows: uint32(size.Height), Cols: uint32(size.Width)})
		}
	}
	set()
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, resized)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-changed:
				set()
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(changed)
		close(done)
	}
}

// unclosed is a stream of ours that goes on after the shell.
type unclosed struct{ io.Writer }

// Close does nothing.
func (unclosed) Close() error { return nil }
