package build

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"

	"github.com/moby/buildkit/client/llb"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/archiveutil"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

const dockerignore = ".dockerignore"

// archived builds by a Dockerfile from a context that is an archive, at a URL. Clients
// send the Dockerfile and .dockerignore whether or not that names them: what it names is
// no part of the context, though it is read.
type archived struct {
	frontend string
	attrs    map[string]string
}

func (a archived) build(ctx context.Context, gw gateway.Client) (*gateway.Result, error) {
	const name = "context"
	req := gateway.SolveRequest{Frontend: a.frontend, FrontendOpt: maps.Clone(a.attrs)}
	sent := llb.HTTP(a.attrs[name], llb.Filename(name), llb.WithCustomName("[internal] load remote build context"))
	head, err := read(ctx, gw, sent, gateway.ReadRequest{Filename: name, Range: &gateway.FileRange{Length: 1024}})
	if err != nil {
		return nil, fmt.Errorf("read the build context: %w", err)
	}
	if !archiveutil.IsArchive(head) {
		return gw.Solve(ctx, req) // it is a Dockerfile
	}
	whole := llb.Scratch().File(llb.Copy(sent, "/"+name, "/", &llb.CopyInfo{AttemptUnpack: true}), llb.WithCustomName("[internal] unpack the build context"))
	hidden, err := a.hidden(ctx, gw, whole)
	if err != nil {
		return nil, err
	}
	rest := whole
	for _, file := range hidden {
		rest = rest.File(llb.Rm("/"+file, llb.WithAllowNotFound(true)), llb.WithCustomName("[internal] leave out "+file))
	}
	delete(req.FrontendOpt, name)
	req.FrontendInputs = map[string]*pb.Definition{}
	for input, state := range map[string]llb.State{name: rest, "dockerfile": whole} {
		def, err := state.Marshal(ctx)
		if err != nil {
			return nil, err
		}
		req.FrontendInputs[input] = def.ToPB()
	}
	return gw.Solve(ctx, req)
}

// hidden are those of Dockerfile and .dockerignore that the latter names.
func (a archived) hidden(ctx context.Context, gw gateway.Client, whole llb.State) ([]string, error) {
	res, err := solve(ctx, gw, whole)
	if err != nil {
		return nil, err
	}
	if list, err := res.ReadDir(ctx, gateway.ReadDirRequest{Path: "/", IncludePattern: dockerignore}); err != nil || len(list) == 0 || !fs.FileMode(list[0].Mode).IsRegular() {
		return nil, err
	}
	b, err := res.ReadFile(ctx, gateway.ReadRequest{Filename: dockerignore})
	if err != nil {
		return nil, err
	}
	patterns, err := ignorefile.ReadAll(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dockerignore, err)
	}
	m, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dockerignore, err)
	}
	file := a.attrs["filename"]
	if file == "" {
		file = "Dockerfile"
	}
	list := []string{dockerignore, path.Clean("/" + file)[1:]}
	return slices.DeleteFunc(list, func(f string) bool {
		matches, merr := m.MatchesOrParentMatches(f)
		return merr != nil || !matches
	}), nil
}

// read reads a file of a state.
func read(ctx context.Context, gw gateway.Client, s llb.State, what gateway.ReadRequest) ([]byte, error) {
	ref, err := solve(ctx, gw, s)
	if err != nil {
		return nil, err
	}
	return ref.ReadFile(ctx, what)
}

// solve makes a state.
func solve(ctx context.Context, gw gateway.Client, s llb.State) (gateway.Reference, error) {
	def, err := s.Marshal(ctx)
	if err != nil {
		return nil, err
	}
	res, err := gw.Solve(ctx, gateway.SolveRequest{Definition: def.ToPB()})
	if err != nil {
		return nil, err
	}
	return res.SingleRef()
}
