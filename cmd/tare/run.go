package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

type runOptions struct {
	createOptions
	detach     bool
	sigProxy   bool
	detachKeys string
}

func newRunCommand(c *cli) *cobra.Command {
	o := &runOptions{}
	cmd := &cobra.Command{
		Use:   "run [OPTIONS] IMAGE [COMMAND] [ARG...]",
		Short: "Create a container from an image and run it",
		Long: `Exit codes: the program's own; 128+n if signal n ended it
            125 no container was made or started
            126 the program is not executable · 127 the program was not found`,
		Args:        o.args,
		Annotations: aliases("container run", "run"),
		RunE: o.requested(c, func(cmd *cobra.Command, cl *client.Client, req container.CreateRequest) error {
			return runRun(cmd, c, cl, o, req)
		}),
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	o.add(f)
	f.BoolVarP(&o.detach, "detach", "d", false, "Run in the background and print the container's ID")
	f.BoolVar(&o.sigProxy, "sig-proxy", true, "Pass signals on to the process")
	f.StringVar(&o.detachKeys, "detach-keys", "", "Keys that detach from the container")
	c.completeExtensions(cmd)
	return cmd
}

func runRun(cmd *cobra.Command, c *cli, cl *client.Client, o *runOptions, req container.CreateRequest) error {
	if req.Tty {
		rows, cols := c.size()
		req.HostConfig.ConsoleSize = [2]uint{uint(rows), uint(cols)}
	}
	if o.detach {
		return runDetached(cmd, c, cl, o, req)
	}
	if err := checkTTY(c.in, req.AttachStdin, req.Tty); err != nil {
		return err
	}
	if o.detachKeys == "" {
		o.detachKeys = c.config.DetachKeys
	}
	s, err := newSession(c, req.AttachStdin, req.AttachStdout, req.AttachStderr, req.Tty, o.detachKeys)
	if err != nil {
		return err
	}
	r := &run{cmd: cmd, c: c, cl: cl, o: o, s: s, req: req}
	if req.Tty { // its output has no frames for the exit code
		return r.inSteps()
	}
	err = r.atOnce()
	if errors.Is(err, client.ErrNoRun) {
		return r.inSteps()
	}
	return err
}

// runDetached starts a container nobody looks at.
func runDetached(cmd *cobra.Command, c *cli, cl *client.Client, o *runOptions, req container.CreateRequest) error {
	if o.container.Attached() {
		return &exitError{1, "conflicting options: cannot specify both --attach and --detach"}
	}
	req.AttachStdin, req.AttachStdout, req.AttachStderr, req.StdinOnce = false, false, false, false
	resp, err := o.create(cmd.Context(), c, cl, req)
	if err != nil {
		return o.fail(cmd, err)
	}
	err = cl.ContainerStart(cmd.Context(), resp.ID)
	fmt.Fprintln(c.out, resp.ID) // it exists, started or not
	if err != nil {
		return notStarted(cmd, err)
	}
	return nil
}

// run is one attached run: what it takes to make the container, and the
// terminal it is joined with.
type run struct {
	cmd *cobra.Command
	c   *cli
	cl  *client.Client
	o   *runOptions
	s   *session
	req container.CreateRequest
}

// inSteps makes, attaches, waits for and starts the container by Docker's
// four requests.
func (r *run) inSteps() error {
	ctx := r.cmd.Context()
	resp, err := r.o.create(ctx, r.c, r.cl, r.req)
	if err != nil {
		return r.o.fail(r.cmd, err)
	}
	id := resp.ID
	stream, err := r.cl.ContainerAttach(ctx, id, r.attachOptions())
	if err != nil {
		return err
	}
	defer stream.Close()
	wait, err := r.cl.ContainerWait(ctx, id, r.condition())
	if err != nil {
		return r.o.fail(r.cmd, err)
	}
	target := make(chan func(string) error, 1)
	stopProxy := r.proxy(target)
	defer stopProxy()

	restore, err := r.s.raw()
	if err != nil {
		return err
	}
	defer restore()
	if err := r.cl.ContainerStart(ctx, id); err != nil {
		restore()
		r.awaitRemoval(wait)
		return notStarted(r.cmd, err)
	}
	target <- func(sig string) error { return r.cl.ContainerKill(ctx, id, sig) }
	ended := watchExit(ctx, r.cl, id, wait)
	if r.s.tty {
		defer r.c.followSize(func(rows, cols uint16) error { return r.cl.ContainerResize(ctx, id, rows, cols) })()
	}
	err = r.s.run(stream, func(stdout, stderr io.Writer) error { return stream.Output(stdout, stderr, r.s.tty) })
	restore()
	if errors.Is(err, errDetached) {
		return nil
	}
	if err != nil {
		return err
	}
	end := <-ended
	return exitWith(end.code, end.err)
}

// atOnce does the same in the one request that only tared knows. It returns
// client.ErrNoRun, with nothing done, where the engine is another one.
func (r *run) atOnce() error {
	ctx := r.cmd.Context()
	how, err := r.o.how()
	if err != nil {
		return r.o.fail(r.cmd, err)
	}
	req := api.RunRequest{CreateOptions: how, Create: r.req, Attach: r.attachOptions()}
	var stream *client.Stream
	err = r.o.withImage(ctx, r.c, r.cl, r.req.Image, func() error {
		stream, err = r.cl.Run(ctx, req)
		return err
	})
	if errors.Is(err, client.ErrNoRun) {
		return err
	}
	if err != nil {
		return r.failed(err)
	}
	defer stream.Close()
	target := make(chan func(string) error, 1)
	stopProxy := r.proxy(target)
	defer stopProxy()
	restore, err := r.s.raw()
	if err != nil {
		return err
	}
	defer restore()
	w := &runWatch{r: r, target: target}
	defer w.close()
	err = r.s.run(stream, func(stdout, stderr io.Writer) error { return stream.RunOutput(stdout, stderr, w.status) })
	restore()
	return w.result(ctx, err)
}

// failed is the end of a run in one request that the engine refuses: it does
// not tell whether it was to make or to start the container.
func (r *run) failed(err error) error {
	if _, answered := errors.AsType[*client.Error](err); answered && startCode(err) != 125 {
		return notStarted(r.cmd, err)
	}
	return r.o.fail(r.cmd, err)
}

// runWatch follows the status documents of a run.
type runWatch struct {
	r        *run
	target   chan<- func(string) error
	id       string
	last     api.RunStatus
	ended    <-chan exit // the second source of the exit code
	stopSize func()
}

// status takes one document, in the order they come.
func (w *runWatch) status(st api.RunStatus) error {
	first := w.id == "" && st.ID != ""
	w.last = st
	if !first {
		return nil
	}
	w.id = st.ID
	ctx, cl, id := w.r.cmd.Context(), w.r.cl, st.ID
	w.target <- func(sig string) error { return cl.ContainerKill(ctx, id, sig) }
	w.ended = watchLongRun(ctx, cl, id)
	if w.r.s.tty {
		w.stopSize = w.r.c.followSize(func(rows, cols uint16) error { return cl.ContainerResize(ctx, id, rows, cols) })
	}
	return w.r.o.created(w.r.c, st.ID, st.Warnings)
}

func (w *runWatch) close() {
	if w.stopSize != nil {
		w.stopSize()
	}
}

// result is the end of the run, once its stream has ended with err.
func (w *runWatch) result(ctx context.Context, err error) error {
	st := w.last
	switch {
	case errors.Is(err, errDetached), st.Detached:
		return nil
	case st.Error != "":
		return notStarted(w.r.cmd, &client.Error{Message: st.Error})
	case st.ExitCode != nil:
		return exitWith(*st.ExitCode, nil)
	case w.id == "" && err == nil:
		err = io.ErrUnexpectedEOF
	}
	if _, local := errors.AsType[unwritableError](err); local {
		return err
	}
	if w.id == "" {
		return w.r.o.fail(w.r.cmd, err)
	}
	// The keeper, or all of the engine, went away before it could tell the exit
	// code, and with it what the client had not got yet.
	var end exit
	select {
	case end = <-w.ended:
	case <-time.After(patience):
		end.code, end.err = awaitExit(ctx, w.r.cl, w.id, nil)
	}
	if end.err == nil {
		fmt.Fprintf(w.r.c.err, "%s: the connection to container %s was lost, and output with it; its log may have more (%s logs)\n", program, format.ShortID(w.id), program)
		end.code = cmp.Or(end.code, 125) // a success that is cut off is none
	}
	return exitWith(end.code, end.err)
}

func (r *run) attachOptions() api.AttachOptions {
	return api.AttachOptions{
		Stream: true, Stdin: r.req.AttachStdin, Stdout: r.req.AttachStdout, Stderr: r.req.AttachStderr, DetachKeys: r.o.detachKeys,
	}
}

func (r *run) condition() container.WaitCondition {
	if r.req.HostConfig.AutoRemove {
		return container.WaitConditionRemoved
	}
	return container.WaitConditionNextExit
}

// proxy passes signals on, if that is wanted.
func (r *run) proxy(target <-chan func(string) error) (stop func()) {
	if !r.o.sigProxy {
		return func() {}
	}
	return r.c.proxySignals(target)
}

// removalTime bounds the wait for a container that did not start.
const removalTime = 10 * time.Second

// awaitRemoval lets a container that did not start go, so that its name is
// free when we return.
func (r *run) awaitRemoval(wait func() (container.WaitResponse, error)) {
	if !r.req.HostConfig.AutoRemove {
		return
	}
	done := make(chan struct{})
	go func() {
		wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(removalTime):
	}
}

// notStarted is the end of a run whose process did not come to life. The code
// tells shells what they know from their own commands.
func notStarted(cmd *cobra.Command, err error) error {
	return notRun(cmd, startCode(err), err)
}

func startCode(err error) int {
	text := err.Error()
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) {
				return true
			}
		}
		return false
	}
	switch {
	case has("executable file not found", "no such file or directory", "system cannot find the file specified"):
		return 127
	case has("permission denied", "is a directory"):
		return 126
	}
	return 125
}
