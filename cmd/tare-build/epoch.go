package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	exptypes "github.com/moby/buildkit/exporter/exptypes"
	"github.com/moby/buildkit/frontend/dockerui"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/gitutil/gitobject"
)

// The time of the sources is what images have for their own, and what no file that a
// build adds is newer than. So one commit gives one image. It is given, or that of the
// commit whose files the context has.

const (
	epochName = "SOURCE_DATE_EPOCH" // https://reproducible-builds.org/specs/source-date-epoch
	epochAttr = "build-arg:" + epochName
)

// epochGiven takes the time from the command line or the environment, and reports
// whether there is one. An empty one says that there shall be none.
func epochGiven(a map[string]string) bool {
	if has(a, epochAttr) {
		return true
	}
	v, given := os.LookupEnv(epochName)
	if v != "" {
		a[epochAttr] = v
	}
	return given
}

// epochOfDir takes the time from the commit that is checked out, if the context has
// its files and no others. What git does not tell is no reason not to build.
func epochOfDir(ctx context.Context, s *bkclient.SolveOpt, dir string) {
	at, err := git(ctx, dir, "log", "-1", "--no-show-signature", "--format=%ct")
	if err != nil || at == "" {
		return
	}
	if changed, err := git(ctx, dir, "status", "--porcelain", "--", "."); err != nil || changed != "" {
		return
	}
	s.FrontendAttrs[epochAttr] = at
	for i, e := range s.Exports {
		if e.Type == bkclient.ExporterLocal { // make(1) compares these files with others of this machine
			s.Exports[i].Attrs[string(exptypes.OptKeySourceDateEpoch)] = ""
		}
	}
}

// git asks git about a directory. A repository may name programs that are to help
// watching its files: they are not run.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir, "-c", "core.fsmonitor=false", "--no-optional-locks"}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "GIT_NO_LAZY_FETCH=1", "GIT_TERMINAL_PROMPT=0")
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// epochOfRemote takes the time from the commit of a context that the engine fetches
// with git. A reason why it cannot be had is for the build to tell, which fetches it too.
func epochOfRemote(ctx context.Context, gw gateway.Client, attrs map[string]string) {
	if _, given := attrs[epochAttr]; given {
		return
	}
	st, isGit, err := dockerui.DetectGitContext(attrs["context"], nil, llb.GitMTimeCommit())
	if !isGit || err != nil {
		return
	}
	op, err := sourceOf(ctx, st)
	if err != nil {
		return
	}
	meta, err := gw.ResolveSourceMetadata(ctx, op, sourceresolver.Opt{
		LogName: "[internal] time of the commit", GitOpt: &sourceresolver.ResolveGitOpt{ReturnObject: true},
	})
	if err != nil || meta.Git == nil {
		return
	}
	if at, err := commitTime(meta.Git.CommitObject); err == nil {
		attrs[epochAttr] = at
	}
}

// sourceOf is the one source that a state has.
func sourceOf(ctx context.Context, st *llb.State) (*pb.SourceOp, error) {
	def, err := st.Marshal(ctx)
	if err != nil {
		return nil, err
	}
	for _, b := range def.Def {
		var op pb.Op
		if err := op.UnmarshalVT(b); err != nil {
			return nil, err
		}
		if src := op.GetSource(); src != nil {
			return src, nil
		}
	}
	return nil, fmt.Errorf("the context has no source")
}

// commitTime reads when a commit was made.
func commitTime(object []byte) (string, error) {
	o, err := gitobject.Parse(object)
	if err != nil {
		return "", err
	}
	c, err := o.ToCommit()
	if err != nil {
		return "", err
	}
	if c.Committer.When == nil {
		return "", fmt.Errorf("the commit has no time")
	}
	return strconv.FormatInt(c.Committer.When.Unix(), 10), nil
}
