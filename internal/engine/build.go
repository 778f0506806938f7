package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/tare-engine/tare/api"
	own "github.com/tare-engine/tare/internal/build"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/ident"
)

// BuildReady opens the builder, or says why that cannot be.
func (e *Engine) BuildReady(ctx context.Context) error { return e.builds.Ready(ctx) }

// BuildGRPC serves BuildKit's API on a connection until the client leaves.
func (e *Engine) BuildGRPC(ctx context.Context, conn net.Conn) error {
	return e.builds.ServeGRPC(ctx, conn)
}

// BuildSession has builds ask the client for files, secrets and credentials.
func (e *Engine) BuildSession(ctx context.Context, conn net.Conn, header http.Header) error {
	return e.builds.ServeSession(ctx, conn, header)
}

// buildUsage counts what the build cache takes. To open it takes some space.
func (e *Engine) buildUsage(ctx context.Context) (du *build.DiskUsage, err error) {
	err = e.cfg.Reserve.Use(func() (err error) {
		du, err = e.countBuilds(ctx)
		return err
	})
	return du, err
}

func (e *Engine) countBuilds(ctx context.Context) (*build.DiskUsage, error) {
	list, err := e.builds.Usage(ctx)
	if err != nil {
		return nil, err
	}
	du := &build.DiskUsage{TotalCount: int64(len(list))}
	for _, u := range list {
		du.Items = append(du.Items, build.CacheRecord{
			ID: u.ID, Parents: u.Parents, Type: string(u.RecordType), Description: u.Description, InUse: u.InUse, Shared: u.Shared, Size: u.Size,
			CreatedAt: u.CreatedAt, LastUsedAt: u.LastUsedAt, UsageCount: u.UsageCount,
		})
		if u.InUse {
			du.ActiveCount++
		}
		if !u.Shared {
			du.TotalSize += u.Size
			if !u.InUse {
				du.Reclaimable += u.Size
			}
		}
	}
	return du, nil
}

// BuildPrune removes what no build uses of the cache.
func (e *Engine) BuildPrune(ctx context.Context, o api.BuildPruneOptions) (build.CachePruneReport, error) {
	report := build.CachePruneReport{CachesDeleted: []string{}}
	if err := validate(o.Filters, api.BuildPruneFilters); err != nil {
		return report, err
	}
	p := own.PruneOptions{All: o.All, Reserved: o.Reserved, MaxUsed: o.MaxUsed, MinFree: o.MinFree}
	if err := buildFilters(&p, o.Filters); err != nil {
		return report, err
	}
	err := e.cfg.Reserve.Use(func() error {
		gone, err := e.builds.Prune(ctx, p)
		for _, u := range gone {
			report.CachesDeleted = append(report.CachesDeleted, u.ID)
			report.SpaceReclaimed += uint64(max(u.Size, 0))
		}
		return err
	})
	e.events.Publish(events.BuilderEventType, events.ActionPrune, "", map[string]string{"reclaimed": fmt.Sprint(report.SpaceReclaimed)})
	return report, err
}

// buildFilters reads filters of a prune. Those of BuildKit's own fields have one
// value each.
func buildFilters(p *own.PruneOptions, f api.Filters) error {
	var terms []string
	for _, key := range api.BuildPruneFilters {
		values := f.Get(key)
		if len(values) == 0 {
			continue
		}
		if len(values) > 1 {
			return errdefs.New(errdefs.InvalidArgument, "filters expect only one value")
		}
		switch v := values[0]; key {
		case "until", "unused-for":
			if p.Until > 0 {
				return errdefs.New(errdefs.InvalidArgument, "conflicting filters: until and unused-for")
			}
			age, err := time.ParseDuration(v)
			if err != nil {
				return errdefs.New(errdefs.InvalidArgument, "%q filter expects a duration (e.g., '24h'): %w", key, err)
			}
			p.Until = age
		case "id":
			terms = append(terms, key+"~="+v)
		case "parent":
			terms = append(terms, "parents~="+v)
		default:
			terms = append(terms, key+"=="+v)
		}
	}
	if len(terms) > 0 {
		p.Filters = []string{strings.Join(terms, ",")}
	}
	return nil
}

// ImageBuild builds from an archive and says through out how it gets on.
func (e *Engine) ImageBuild(ctx context.Context, req api.BuildRequest, archive io.Reader, out func(jsonstream.Message)) error {
	o := own.Order{
		Attrs: req.Attrs, Remote: req.Remote, CacheFrom: req.CacheFrom, HostNetwork: req.HostNetwork, Quiet: req.Quiet, Auths: req.Auths, ID: req.ID,
	}
	if err := spec.ValidateResources(&req.Limits); err != nil {
		return err
	}
	for _, t := range req.Tags {
		n, err := reference.ParseNormalizedNamed(t)
		if err != nil {
			return errdefs.As(errdefs.InvalidArgument, err)
		}
		tagged, ok := reference.TagNameOnly(n).(reference.NamedTagged)
		if _, digested := n.(reference.Digested); !ok || digested {
			return errdefs.New(errdefs.InvalidArgument, "refusing to create a tag with a digest reference: %s", t)
		}
		o.Names = append(o.Names, tagged)
	}
	if req.Solve {
		return e.solve(ctx, req, o, archive, out)
	}
	id, err := e.builds.Classic(ctx, o, archive, out)
	if step, ok := errors.AsType[*own.StepError](err); ok {
		out(jsonstream.Message{Error: &jsonstream.Error{Code: step.Code, Message: step.Text}})
		return nil
	}
	if err != nil {
		return err
	}
	if aux, err := json.Marshal(build.Result{ID: id}); err == nil {
		raw := json.RawMessage(aux)
		out(jsonstream.Message{Aux: &raw})
	}
	if req.Quiet {
		out(jsonstream.Message{Stream: id + "\n"})
		return nil
	}
	out(jsonstream.Message{Stream: "Successfully built " + ident.Short(strings.TrimPrefix(id, "sha256:")) + "\n"})
	for _, n := range o.Names {
		out(jsonstream.Message{Stream: "Successfully tagged " + reference.FamiliarString(n) + "\n"})
	}
	return nil
}

// solve is ImageBuild for a client that speaks BuildKit's words, and has a session.
func (e *Engine) solve(ctx context.Context, req api.BuildRequest, o own.Order, archive io.Reader, out func(jsonstream.Message)) error {
	if id, ok := strings.CutPrefix(req.ID, api.BuildFromUpload+":"); ok {
		return e.builds.Offer(ctx, id, archive)
	}
	s := own.Solving{Attrs: req.Attrs, Session: req.Session, Upload: req.Remote == api.BuildFromUpload, Names: o.Names, HostNetwork: req.HostNetwork, InlineCache: req.InlineCache, ID: req.ID}
	s.Auths = req.Auths
	switch {
	case req.Remote == "":
		s.Archive = archive
	case req.Remote != api.BuildFromSession && !s.Upload:
		s.Attrs["context"] = req.Remote
	}
	if len(req.CacheFrom) > 0 {
		s.Attrs["cache-from"] = strings.Join(req.CacheFrom, ",")
	}
	if req.Output != nil {
		s.Output = &own.Output{Type: req.Output.Type, Attrs: req.Output.Attrs}
	}
	trace := func(b []byte) { out(aux("moby.buildkit.trace", b)) }
	if req.Quiet {
		trace = func([]byte) {}
	}
	id, err := e.builds.Solve(ctx, s, trace)
	switch {
	case err != nil || id == "":
	case req.Quiet:
		out(jsonstream.Message{Stream: id + "\n"})
	default:
		out(aux("moby.image.id", build.Result{ID: id}))
	}
	return err
}

// aux is a message that is no text.
func aux(id string, v any) jsonstream.Message {
	b, err := json.Marshal(v)
	if err != nil { // strings and bytes always have a form
		return jsonstream.Message{ID: id}
	}
	raw := json.RawMessage(b)
	return jsonstream.Message{ID: id, Aux: &raw}
}

// BuildCancel ends the builds with an id that a client has chosen.
func (e *Engine) BuildCancel(id string) error { return e.builds.Cancel(id) }
