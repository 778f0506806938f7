package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
	"github.com/tare-engine/tare/cmd/tare/opts"
)

type execOptions struct {
	detach, stdin, tty, privileged bool
	endWithClient                  bool
	detachKeys, user, workdir      string
	env, envFiles                  opts.List
}

func newExecCommand(c *cli) *cobra.Command {
	o := execOptions{env: opts.List{Check: opts.CheckEnv}}
	cmd := &cobra.Command{
		Use:   "exec [OPTIONS] CONTAINER COMMAND [ARG...]",
		Short: "Run a command in a running container",
		Long: `Exit codes: the command's own; 128+n if signal n ended it
            126 it is not executable · 127 it was not found

Unless a container is called "ls" or "kill":
  ` + program + ` exec ls [--format TEMPLATE] [--no-trunc] [-q] CONTAINER
  ` + program + ` exec kill [-s SIGNAL] CONTAINER EXEC...|--all
list the running commands and send signals to them (Tare's engine only).`,
		Args:        minArgs(2),
		Annotations: aliases("container exec", "exec"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			return runExec(ctx, c, cl, o, args[0], args[1:])
		}),
	}
	inContainer := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().NFlag() == 0 && c.aboutExecs(cmd.Context(), args[0]) {
			return runAboutExecs(cmd, c, args[0], args[1:])
		}
		return inContainer(cmd, args)
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.BoolVarP(&o.detach, "detach", "d", false, "Run in the background")
	f.StringVar(&o.detachKeys, "detach-keys", "", "Keys that detach from the command")
	f.BoolVar(&o.endWithClient, "end-with-client", false, "Kill the command when this client ends (Tare's engine only)")
	f.VarP(&o.env, "env", "e", "Set environment variables; a NAME alone takes our own value")
	f.Var(&o.envFiles, "env-file", "Read environment variables from a file, NAME=value a line")
	f.BoolVarP(&o.stdin, "interactive", "i", false, "Keep STDIN open")
	f.BoolVar(&o.privileged, "privileged", false, "Give the command nearly all rights of the host")
	f.BoolVarP(&o.tty, "tty", "t", false, "Give the command a terminal")
	f.StringVarP(&o.user, "user", "u", "", "User to run as (<name|uid>[:<group|gid>])")
	f.StringVarP(&o.workdir, "workdir", "w", "", "Working directory inside the container")
	return cmd
}

func runExec(ctx context.Context, c *cli, cl *client.Client, o execOptions, name string, command []string) error {
	req, err := o.request(c, command)
	if err != nil {
		return err
	}
	if o.detach && o.endWithClient {
		return errors.New("conflicting options: --detach and --end-with-client")
	}
	if o.detach {
		id, err := cl.ExecCreate(ctx, name, req)
		if err != nil {
			return err
		}
		return cl.ExecStart(ctx, id, execStart(container.ExecStartRequest{Detach: true, Tty: o.tty}, false))
	}
	if err := checkTTY(c.in, o.stdin, o.tty); err != nil {
		return err
	}
	id, err := cl.ExecCreate(ctx, name, req)
	if err != nil {
		return err
	}
	s, err := newSession(c, o.stdin, true, true, o.tty, o.detachKeys)
	if err != nil {
		return err
	}
	stream, err := cl.ExecAttach(ctx, id, execStart(container.ExecStartRequest{Tty: o.tty, ConsoleSize: req.ConsoleSize}, o.endWithClient))
	if err != nil {
		return &exitError{execCode(err), err.Error()}
	}
	defer stream.Close()
	restore, err := s.raw()
	if err != nil {
		return err
	}
	defer restore()
	defer s.restoreOnSignal(restore)()
	if o.tty {
		defer c.followSize(func(rows, cols uint16) error { return cl.ExecResize(ctx, id, rows, cols) })()
	}
	err = s.run(stream, func(stdout, stderr io.Writer) error { return stream.Output(stdout, stderr, o.tty) })
	restore()
	if err != nil {
		return err
	}
	return exitWith(execExit(ctx, cl, id, c.err))
}

func execStart(req container.ExecStartRequest, endWithClient bool) api.ExecStartRequest {
	return api.ExecStartRequest{ExecStartRequest: req, EndWithClient: endWithClient}
}

// request makes the body of an exec request of the flags.
func (o *execOptions) request(c *cli, command []string) (container.ExecCreateRequest, error) {
	env, err := opts.ReadEnvFiles(o.envFiles.Values, o.env.Values)
	if err != nil {
		return container.ExecCreateRequest{}, err
	}
	if o.detachKeys == "" {
		o.detachKeys = c.config.DetachKeys
	}
	req := container.ExecCreateRequest{
		User: o.user, Privileged: o.privileged, Tty: o.tty, DetachKeys: o.detachKeys, Env: env, WorkingDir: o.workdir, Cmd: command,
	}
	if !o.detach {
		req.AttachStdin, req.AttachStdout, req.AttachStderr = o.stdin, true, true
	}
	if rows, cols := c.size(); o.tty && rows > 0 {
		req.ConsoleSize = &[2]uint{uint(rows), uint(cols)}
	}
	return req, nil
}

// execCode is the exit code of a command that did not start. An engine that
// knows the reason only after the answer tells it by the command's own code.
func execCode(err error) int {
	if code := startCode(err); code != 125 && client.StatusOf(err) == 400 {
		return code
	}
	return 1
}

// outputFirst is how long a command may outlive its output before that is told.
const outputFirst = 2 * time.Second

// execExit returns the exit code of a command whose output has ended, patient
// with an engine that is being restarted.
func execExit(ctx context.Context, cl *client.Client, id string, errOut io.Writer) (int, error) {
	begun := time.Now()
	give, told := begun.Add(patience), false
	for {
		e, err := cl.ExecInspect(ctx, id)
		switch {
		case err == nil && !e.Running && e.ExitCode != nil:
			return *e.ExitCode, nil
		case err == nil && time.Since(begun) < outputFirst: // its output ended a moment before itself
			time.Sleep(2 * time.Millisecond)
			continue
		case err == nil && e.Running:
			if !told {
				told = true
				fmt.Fprintf(errOut, "%s: the output of command %s has ended, or was lost with the engine's keeper; the command goes on\n", program, format.ShortID(id))
			}
			give = time.Now().Add(patience)
		case client.StatusOf(err) != 0:
			return 1, err
		case ctx.Err() != nil, time.Now().After(give):
			return 1, fmt.Errorf("ask for the exit code of %s: %w", id, cmp.Or(err, errors.New("it is not known")))
		}
		time.Sleep(100 * time.Millisecond)
	}
}
