package server

import (
	"context"
	"io"
	"net/http"

	"github.com/moby/moby/api/types"
	"github.com/moby/moby/api/types/container"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// containerReadBackend tells of containers and changes none.
type containerReadBackend interface {
	ContainerInspect(ctx context.Context, ref string, size bool) (container.InspectResponse, error)
	ContainerList(ctx context.Context, o api.ListOptions) ([]container.Summary, error)
	ContainerTop(ctx context.Context, ref, args string) (container.TopResponse, error)
	ContainerChanges(ctx context.Context, ref string) ([]container.FilesystemChange, error)

	// ContainerWait is registered when it returns: no exit after that is
	// missed. wait blocks until the condition holds.
	ContainerWait(ctx context.Context, ref string, cond container.WaitCondition) (wait func(context.Context) (container.WaitResponse, error), err error)

	// ContainerLogs calls start once it knows that there is something to send,
	// and writes to what start returns: frames, or plain bytes for a terminal.
	ContainerLogs(ctx context.Context, ref string, o api.LogsOptions, start func(tty bool) io.Writer) error
}

func (s *Server) inspectContainer(w http.ResponseWriter, r *request) error {
	c, err := s.backend.ContainerInspect(r.Context(), r.name, r.flag("size"))
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, inspectShape(c, r.version))
}

func (s *Server) listContainers(w http.ResponseWriter, r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	for _, key := range []string{"since", "before"} { // parameters of their own once
		if v := r.text(key); v != "" {
			f = f.With(key, v)
		}
	}
	limit, err := r.number("limit")
	if err != nil {
		return err
	}
	o := api.ListOptions{All: r.flag("all"), Size: r.flag("size"), Filters: f, Counted: r.counted}
	if limit != nil {
		o.Limit = *limit
	}
	list, err := s.backend.ContainerList(r.Context(), o)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, listShape(listOf(list), r.version))
}

func (s *Server) topContainer(w http.ResponseWriter, r *request) error {
	top, err := s.backend.ContainerTop(r.Context(), r.name, r.text("ps_args"))
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, top)
}

// containerChanges answers null if there are none, as Docker does.
func (s *Server) containerChanges(w http.ResponseWriter, r *request) error {
	changes, err := s.backend.ContainerChanges(r.Context(), r.name)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, changes)
}

func (s *Server) waitContainer(w http.ResponseWriter, r *request) error {
	cond, err := waitCondition(r)
	if err != nil {
		return err
	}
	ctx, cancel := s.streamContext(r)
	defer cancel()
	wait, err := s.backend.ContainerWait(ctx, r.name, cond)
	if err != nil {
		return err
	}
	// Since 1.30 the header says that the wait has begun: "docker run" starts
	// the container only then.
	if !r.version.Before(30) {
		r.begin(http.StatusOK, "application/json")
		r.flush()
	}
	res, err := wait(ctx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && r.begun:
		res.Error = &container.WaitExitError{Message: err.Error()}
	case err != nil:
		return err
	}
	return r.encode(res)
}

func waitCondition(r *request) (container.WaitCondition, error) {
	cond := container.WaitCondition(r.text("condition"))
	switch {
	case r.version.Before(30), cond == "":
		return container.WaitConditionNotRunning, nil
	case cond == container.WaitConditionNotRunning, cond == container.WaitConditionNextExit, cond == container.WaitConditionRemoved:
		return cond, nil
	}
	return "", errdefs.New(errdefs.InvalidArgument, "invalid condition: %q", string(cond))
}

func (s *Server) streamLogs(w http.ResponseWriter, r *request) error {
	o, err := logsOptions(r)
	if err != nil {
		return err
	}
	ctx, cancel := s.streamContext(r)
	defer cancel()
	out := &stream{r: r, live: o.Follow}
	framed := false
	r.paced.patience = max(r.paced.patience, logPatience)
	err = s.backend.ContainerLogs(ctx, r.name, o, func(tty bool) io.Writer {
		framed = !tty
		r.begin(http.StatusOK, streamType(tty, r.version))
		if o.Follow {
			r.flush()
		}
		return out
	})
	if ctx.Err() != nil || err == nil {
		return out.close()
	}
	if r.begun && framed {
		// The status went out with the first line; the frames have a stream
		// for what comes later.
		if _, werr := api.NewFrameWriter(out, api.System).Write([]byte("Error grabbing logs: " + err.Error() + "\n")); werr == nil {
			return out.close()
		}
	}
	_ = out.close()
	return err
}

func logsOptions(r *request) (o api.LogsOptions, err error) {
	o = api.LogsOptions{
		Follow: r.flag("follow"), Stdout: r.flag("stdout"), Stderr: r.flag("stderr"),
		Timestamps: r.flag("timestamps"), Details: r.flag("details"), Tail: r.text("tail"),
	}
	if !o.Stdout && !o.Stderr {
		return o, errdefs.New(errdefs.InvalidArgument, "Bad parameters: you must choose at least one stream")
	}
	if o.Since, err = r.time("since"); err != nil {
		return o, err
	}
	o.Until, err = r.time("until")
	return o, err
}

// streamType is the content type of a container's output.
func streamType(tty bool, v api.Version) string {
	if tty || v.Before(42) {
		return types.MediaTypeRawStream
	}
	return types.MediaTypeMultiplexedStream
}
