package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/distribution/reference"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/cmd/buildctl/build"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/session/auth/authprovider"
	"github.com/moby/buildkit/session/sshforward/sshprovider"
)

// run builds, or does what is asked for instead.
func (o *request) run(ctx context.Context, e *engine) (err error) {
	mode, err := o.mode()
	if err != nil {
		return err
	}
	if err := o.settle(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.clean()) }()
	s, err := o.solveOpt(ctx)
	if err != nil {
		return err
	}
	ctx, c, err := e.client(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if o.Verify {
		if err := o.verify(ctx, c, s, mode); err != nil {
			return err
		}
		delete(s.FrontendAttrs, "no-cache") // what was verified is in the cache
	}
	resp, err := o.solve(ctx, c, s, mode)
	if err != nil {
		return err
	}
	if err := o.report(resp); err != nil || o.call.method == "" {
		return err
	}
	return o.call.print(os.Stdout, resp.ExporterResponse, o.where)
}

// settle reads what is to be done, and refuses what does not go together.
func (o *request) settle() (err error) {
	if o.Check {
		o.Call = "check"
	}
	if o.call, err = parseCall(o.Call); err != nil {
		return err
	}
	switch {
	case o.Verify && o.call.method != "":
		return errors.New("--verify and --call cannot be used together: a call builds nothing")
	case o.Verify && o.Context == "-":
		return errors.New("--verify builds more than once: the context cannot come from standard input")
	case o.OnFailure == "":
	case o.OnFailure != "shell":
		return fmt.Errorf("invalid argument %q for --on-failure: only shell is possible", o.OnFailure)
	case o.Context == "-" || o.File == "-":
		return errors.New("--on-failure shell reads from standard input: the context and the Dockerfile cannot come from there too")
	case o.call.method != "":
		return errors.New("--on-failure and --call cannot be used together: a call runs no step")
	}
	return nil
}

// solveOpt is the request.
func (o *request) solveOpt(ctx context.Context) (_ *bkclient.SolveOpt, err error) {
	s := &bkclient.SolveOpt{Frontend: "dockerfile.v0", AllowedEntitlements: o.Allow}
	if s.FrontendAttrs, err = o.attrs(); err != nil {
		return nil, err
	}
	if o.Network == "host" {
		s.AllowedEntitlements = append(s.AllowedEntitlements, "network.host")
	}
	dated := epochGiven(s.FrontendAttrs)
	if err := o.inputs(s); err != nil {
		return nil, err
	}
	if s.Exports, err = o.exports(); err != nil {
		return nil, err
	}
	if s.CacheExports, err = build.ParseExportCache(cacheSpecs(o.CacheTo)); err != nil {
		return nil, err
	}
	if o.call.method != "" {
		s.Exports, s.CacheExports, s.Internal = nil, nil, true
		o.call.ask(s.FrontendAttrs)
	} else if _, local := s.LocalMounts["context"]; local && !dated && o.Context != "-" {
		epochOfDir(ctx, s, o.Context)
	}
	if s.CacheImports, err = build.ParseImportCache(cacheSpecs(o.CacheFrom)); err != nil {
		return nil, err
	}
	creds, err := credentials(os.Getenv("TARE_BUILD_CONFIG"))
	if err != nil {
		return nil, err
	}
	s.Session = append(s.Session, authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{AuthConfigProvider: creds}))
	if len(o.Secrets) > 0 {
		p, err := build.ParseSecret(o.Secrets)
		if err != nil {
			return nil, err
		}
		s.Session = append(s.Session, p)
	}
	if len(o.SSH) > 0 {
		conf, err := build.ParseSSH(o.SSH)
		if err != nil {
			return nil, err
		}
		p, err := sshprovider.NewSSHAgentProvider(conf)
		if err != nil {
			return nil, err
		}
		s.Session = append(s.Session, p)
	}
	return s, nil
}

// cacheSpecs completes what may be written short: a name is a registry's.
func cacheSpecs(list []string) []string {
	var out []string
	for _, s := range list {
		if !strings.Contains(s, "=") {
			s = "type=registry,ref=" + s
		}
		out = append(out, s)
	}
	return out
}

// exports say where the result goes: to the engine's images if nothing is said.
func (o *request) exports() ([]bkclient.ExportEntry, error) {
	var names []string
	for _, t := range o.Tags {
		n, err := reference.ParseNormalizedNamed(t)
		if err != nil {
			return nil, fmt.Errorf("invalid tag %q: %w", t, err)
		}
		names = append(names, reference.TagNameOnly(n).String())
	}
	specs := append([]string{}, o.Outputs...)
	if o.Push {
		specs = append(specs, "type=registry")
	}
	if len(specs) == 0 || o.Load {
		specs = append(specs, "type=moby")
	}
	var list []bkclient.ExportEntry
	for _, s := range specs {
		e, err := o.export(s)
		if err != nil {
			return nil, err
		}
		if named := e.Type != bkclient.ExporterLocal && e.Type != bkclient.ExporterTar; named && e.Attrs["name"] == "" && len(names) > 0 {
			e.Attrs["name"] = strings.Join(names, ",")
		}
		if e.Attrs["push"] == "true" && e.Attrs["name"] == "" {
			return nil, errors.New("tag is needed when pushing to registry")
		}
		for _, a := range o.Annotations {
			k, v, ok := strings.Cut(a, "=")
			if !ok {
				return nil, fmt.Errorf("invalid annotation %q, expected key=value", a)
			}
			if where, key, ok := strings.Cut(k, ":"); ok {
				e.Attrs["annotation-"+where+"."+key] = v
			} else {
				e.Attrs["annotation."+k] = v
			}
		}
		list = append(list, e)
	}
	return list, nil
}

// export reads one --output: a directory, "-", or fields.
func (o *request) export(s string) (bkclient.ExportEntry, error) {
	switch {
	case s == "-":
		s = "type=tar,dest=-"
	case !strings.Contains(s, "="):
		s = "type=local,dest=" + s
	}
	to := strings.Contains(s, "dest=")
	if kind, _, _ := strings.Cut(s, ","); kind == "type=docker" && !to {
		s = strings.Replace(s, "type=docker", "type=moby", 1)
	}
	if kind, rest, _ := strings.Cut(s, ","); kind == "type=registry" {
		s = strings.TrimSuffix("type=image,push=true,"+rest, ",")
	}
	list, err := build.ParseOutput([]string{s})
	if err != nil {
		return bkclient.ExportEntry{}, err
	}
	return list[0], nil
}

// report writes down what the build came to.
func (o *request) report(resp *bkclient.SolveResponse) error {
	id := resp.ExporterResponse[exptypes.ExporterImageDigestKey]
	if v := resp.ExporterResponse[exptypes.ExporterImageConfigDigestKey]; v != "" {
		id = v
	}
	if o.Quiet && id != "" {
		fmt.Println(id)
	}
	if o.IIDFile != "" {
		if err := os.WriteFile(o.IIDFile, []byte(id), 0644); err != nil {
			return err
		}
	}
	if o.MetadataFile == "" {
		return nil
	}
	meta := map[string]any{}
	for k, v := range resp.ExporterResponse {
		meta[k] = decoded(v)
	}
	b, err := json.MarshalIndent(meta, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.MetadataFile, append(b, '\n'), 0644)
}

// decoded is the document that a value of the answer holds, or the value.
func decoded(v string) any {
	b, err := base64.StdEncoding.DecodeString(v)
	var doc map[string]any
	if err != nil || json.Unmarshal(b, &doc) != nil || len(doc) == 0 {
		return v
	}
	return json.RawMessage(b)
}
