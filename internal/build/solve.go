package build

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"strings"
	"time"

	"github.com/distribution/reference"
	controlapi "github.com/moby/buildkit/api/services/control"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/upload/uploadprovider"
	"github.com/moby/moby/api/types/registry"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
)

// Solving is a build by BuildKit that a client asks for by POST /build, as docker's command
// line did before buildx: its files and secrets come by a session of the client's own.
type Solving struct {
	Attrs       map[string]string              // for the Dockerfile's frontend
	Session     string                         // ID of the client's session
	Archive     io.Reader                      // with the context; nil: that comes by the session, or as Attrs say
	Upload      bool                           // the archive comes with another request, by Offer
	Auths       map[string]registry.AuthConfig // with an archive, by registry
	Names       []reference.NamedTagged
	HostNetwork bool
	InlineCache bool
	Output      *Output // nil: an image of the engine
	ID          string  // for Cancel, and for Offer
}

// Output is where a build's result goes; of the type cacheonly nowhere.
type Output struct {
	Type  string
	Attrs map[string]string
}

// cacheOnly is the type of a result that nobody wants.
const cacheOnly = "cacheonly"

// Solve builds, and gives each document of progress to trace, as BuildKit encodes it. It
// returns the image's ID, "" if the result is no image of the engine.
func (s *Service) Solve(ctx context.Context, o Solving, trace func([]byte)) (string, error) {
	ctx, c, err := s.begin(ctx, o.ID)
	if err != nil {
		return "", err
	}
	defer c.end()
	req := o.request()
	if o.Upload {
		archive, err := s.uploads.take(ctx, o.ID)
		if err != nil {
			return "", err
		}
		defer archive.Close()
		o.Archive = archive
	}
	if o.Archive != nil {
		plain := recognizable(o.Archive)
		defer plain.Close()
		end, err := c.b.uploaded(ctx, req, plain, providing(o.Auths))
		if err != nil {
			return "", err
		}
		defer end()
	}
	var answer *controlapi.SolveResponse
	all, ctx := errgroup.WithContext(ctx)
	told, enough := context.WithCancel(context.WithoutCancel(ctx))
	defer enough()
	all.Go(func() (err error) {
		if answer, err = c.ControlClient().Solve(ctx, req); err != nil {
			time.AfterFunc(lastWords, enough) // of a build that has not begun nothing will be told
		}
		return err
	})
	all.Go(func() error { return follow(told, c.Client, req.Ref, trace) })
	if err := all.Wait(); err != nil {
		if cerr := context.Cause(ctx); errors.Is(cerr, context.Canceled) {
			return "", cerr
		}
		return "", errdefs.New(errdefs.InvalidArgument, "%s", err)
	}
	return answer.GetExporterResponse()[exptypes.ExporterImageConfigDigestKey], nil
}

// lastWords is how long a build that has failed may go on to tell of it.
const lastWords = 200 * time.Millisecond

func (o *Solving) request() *controlapi.SolveRequest {
	r := &controlapi.SolveRequest{Ref: ident.New(), Session: o.Session, Frontend: "dockerfile.v0", FrontendAttrs: maps.Clone(o.Attrs), Cache: &controlapi.CacheOptions{}}
	out := Output{Type: exporterMoby}
	if o.Output != nil {
		out = *o.Output
	}
	if (out.Type == exporterMoby || out.Type == bkclient.ExporterImage) && len(o.Names) > 0 {
		var names []string
		for _, n := range o.Names {
			names = append(names, n.String())
		}
		attrs := map[string]string{}
		maps.Copy(attrs, out.Attrs)
		attrs["name"] = strings.Join(names, ",")
		out.Attrs = attrs
	}
	if out.Type != cacheOnly {
		r.Exporters = []*controlapi.Exporter{{Type: out.Type, Attrs: out.Attrs}}
	}
	if o.InlineCache {
		r.Cache.Exports = []*controlapi.CacheOptionsEntry{{Type: "inline"}}
	}
	if o.HostNetwork {
		r.Entitlements = []string{"network.host"}
	}
	return r
}

// follow gives the progress of a build to trace, to its end.
func follow(ctx context.Context, c *bkclient.Client, ref string, trace func([]byte)) error {
	stream, err := c.ControlClient().Status(ctx, &controlapi.StatusRequest{Ref: ref})
	if err != nil {
		return err
	}
	for {
		st, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		b, err := proto.Marshal(st)
		if err != nil {
			return err
		}
		trace(b)
	}
}

// uploaded makes an archive the context of a build, by a session of ours, until end is
// called.
func (b *builder) uploaded(ctx context.Context, r *controlapi.SolveRequest, archive io.ReadCloser, more session.Attachable) (end func(), err error) {
	ours, err := session.NewSession(ctx, "")
	if err != nil {
		return nil, err
	}
	up := uploadprovider.New()
	r.FrontendAttrs["context"], r.Session = up.Add(archive), ours.ID()
	ours.Allow(up)
	ours.Allow(more)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = ours.Run(ctx, b.dialSession) // the build says what it lacks
	}()
	return func() {
		ours.Close()
		<-done
	}, nil
}

// dialSession connects a session of ours with the builder.
func (b *builder) dialSession(ctx context.Context, _ string, meta map[string][]string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go b.sessions.HandleConn(context.WithoutCancel(ctx), theirs, meta)
	return ours, nil
}
