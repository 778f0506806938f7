package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"

	bkclient "github.com/moby/buildkit/client"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/util/progress/progressui"
)

// solve has the engine build, and shows how far it is. The answer holds what the
// frontend has said as well.
func (o *request) solve(ctx context.Context, c *bkclient.Client, s *bkclient.SolveOpt, mode progressui.DisplayMode) (*bkclient.SolveResponse, error) {
	show, err := newScreen(ctx, os.Stderr, mode)
	if err != nil {
		return nil, err
	}
	f := frontend{request: o, opt: s, show: show}
	resp, err := c.Build(ctx, *s, "tare", f.build, show.in)
	warnings, serr := show.end()
	if err == nil {
		err = serr
	}
	if err != nil && context.Cause(ctx) == errGone {
		return nil, errGone
	}
	if err != nil {
		for _, src := range errdefs.Sources(err) {
			_ = src.Print(os.Stderr)
		}
		return nil, errors.Join(fmt.Errorf("failed to build: %w", err), missingScanner(s.FrontendAttrs, err), f.entering)
	}
	if mode != progressui.QuietMode && mode != progressui.RawJSONMode {
		printWarnings(os.Stderr, warnings)
	}
	if resp.ExporterResponse == nil {
		resp.ExporterResponse = map[string]string{}
	}
	if o.call.method != "" {
		for k, v := range f.said {
			resp.ExporterResponse[k] = string(v)
		}
	}
	return resp, nil
}

// frontend has a Dockerfile translated and built.
type frontend struct {
	*request
	opt  *bkclient.SolveOpt
	show *screen

	said     map[string][]byte // what it has said
	entering error             // why a failed step cannot be entered
}

func (f *frontend) build(ctx context.Context, gw gateway.Client) (*gateway.Result, error) {
	req := gateway.SolveRequest{Frontend: f.opt.Frontend, FrontendOpt: maps.Clone(f.opt.FrontendAttrs), Evaluate: f.OnFailure != ""}
	epochOfRemote(ctx, gw, req.FrontendOpt)
	res, err := gw.Solve(ctx, req)
	if err != nil {
		if f.OnFailure != "" {
			f.entering = enter(ctx, gw, err, f.show)
		}
		return nil, err
	}
	f.said = res.Metadata
	return res, nil
}

// printWarnings tells what the frontend found fault with.
func printWarnings(w io.Writer, warnings []bkclient.VertexWarning) {
	switch n := len(warnings); n {
	case 0:
		return
	case 1:
		fmt.Fprintf(w, "\n 1 warning found (--check tells more):\n")
	default:
		fmt.Fprintf(w, "\n %d warnings found (--check tells more):\n", n)
	}
	for _, warning := range warnings {
		fmt.Fprintf(w, " - %s\n", warning.Short)
	}
}

// screen shows how far a build is, until it is left to something else.
type screen struct {
	in    chan *bkclient.SolveStatus // for the build, which closes it
	leave chan struct{}
	left  chan struct{} // closed when nothing is shown any more

	warnings []bkclient.VertexWarning // with err, set when left is closed
	err      error
}

func newScreen(ctx context.Context, out *os.File, mode progressui.DisplayMode) (*screen, error) {
	display, err := progressui.NewDisplay(out, mode)
	if err != nil {
		return nil, err
	}
	s := &screen{in: make(chan *bkclient.SolveStatus), leave: make(chan struct{}, 1), left: make(chan struct{})}
	shown := make(chan *bkclient.SolveStatus)
	go s.forward(shown) // until the build ends
	go func() {         // until then, or until leave
		defer close(s.left)
		s.warnings, s.err = display.UpdateFrom(context.WithoutCancel(ctx), shown)
	}()
	return s, nil
}

// forward hands on what the build says, until nobody wants to see it.
func (s *screen) forward(shown chan *bkclient.SolveStatus) {
	open := true
	finish := func() {
		if open {
			close(shown)
		}
		open = false
	}
	defer finish()
	for {
		select {
		case <-s.leave:
			finish()
		case st, more := <-s.in:
			if !more {
				return
			}
			if open {
				shown <- st
			}
		}
	}
}

// quit leaves the terminal to something else, for good.
func (s *screen) quit() {
	s.leave <- struct{}{}
	<-s.left
}

// end waits until all is shown, once the build has ended.
func (s *screen) end() ([]bkclient.VertexWarning, error) {
	<-s.left
	return s.warnings, s.err
}
