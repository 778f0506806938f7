package server

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/registry"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// buildImage is the build of clients that do not speak BuildKit's API: `docker build`
// without buildx, docker-py, dockerode.
func (s *Server) buildImage(w http.ResponseWriter, r *request) error {
	req := api.BuildRequest{
		Attrs: map[string]string{}, Remote: r.text("remote"), Tags: r.query["t"], Quiet: r.flag("q"), ID: r.text("buildid"),
		HostNetwork: r.text("networkmode") == "host",
	}
	if r.flag("squash") {
		return errdefs.New(errdefs.InvalidArgument, "squash is not supported: use a multi-stage Dockerfile, or export and import")
	}
	if len(r.query["securityopt"]) > 0 {
		return errdefs.New(errdefs.InvalidArgument, "security options are not supported for builds: use RUN --security")
	}
	if err := r.buildOutput(&req); err != nil {
		return err
	}
	if err := r.buildAttrs(req.Attrs); err != nil {
		return err
	}
	if err := r.buildLimits(&req); err != nil {
		return err
	}
	if err := r.jsonOf("cachefrom", &req.CacheFrom); err != nil {
		return err
	}
	if err := r.buildAuths(&req); err != nil {
		return err
	}
	req.InlineCache, _ = strconv.ParseBool(req.Attrs["build-arg:BUILDKIT_INLINE_CACHE"]) // what is no boolean says no
	_ = http.NewResponseController(w).EnableFullDuplex()                                 // text comes while the archive is read
	ctx, cancel := s.streamContext(r)
	defer cancel()
	return s.streamed(r, s.backend.ImageBuild(ctx, req, r.Request.Body, r.progress()))
}

// buildOutput reads what only builds by BuildKit have. Without that a result is an image of
// the engine: elsewhere it would go by a session.
func (r *request) buildOutput(req *api.BuildRequest) error {
	switch v := r.text("version"); v {
	case "", "1":
	case "2":
		req.Solve, req.Session = true, r.text("session")
	default:
		return errdefs.New(errdefs.InvalidArgument, "invalid version %q: want 1 or 2", v)
	}
	if v := container.Isolation(r.text("isolation")); !v.IsDefault() {
		return errdefs.New(errdefs.InvalidArgument, "Unsupported isolation: %q", v)
	}
	var list []api.BuildOutput
	if err := r.jsonOf("outputs", &list); err != nil {
		return err
	}
	for _, o := range list {
		switch {
		case len(list) > 1:
			return errdefs.New(errdefs.InvalidArgument, "multiple outputs not supported")
		case req.Solve:
			req.Output = &o
		case o.Type != "" && o.Type != "moby" && o.Type != "docker" && o.Type != "image":
			return errdefs.New(errdefs.InvalidArgument, "outputs: type %q needs BuildKit's API: docker buildx build --output", o.Type)
		}
	}
	return nil
}

// buildAttrs translates the query into the words of BuildKit's frontend.
func (r *request) buildAttrs(a map[string]string) error {
	a["image-resolve-mode"] = "local"
	if r.flag("pull") {
		a["image-resolve-mode"] = "pull"
	}
	if r.flag("nocache") {
		a["no-cache"] = ""
	}
	for query, attr := range map[string]string{"dockerfile": "filename", "target": "target", "platform": "platform", "cgroupparent": "cgroup-parent"} {
		if v := r.text(query); v != "" {
			a[attr] = v
		}
	}
	switch mode := r.text("networkmode"); mode {
	case "", "default", "bridge":
	case "host", "none":
		a["force-network-mode"] = mode
	default:
		return errdefs.New(errdefs.InvalidArgument, "network mode %q not supported by BuildKit: use default, host or none", mode)
	}
	return r.buildLists(a)
}

// buildLimits reads the limits of all steps.
func (r *request) buildLimits(req *api.BuildRequest) error {
	l := &req.Limits
	shm := int64(0)
	for _, limit := range []struct {
		query, attr string
		to          *int64
	}{
		{"memory", "memory", &l.Memory}, {"memswap", "memswap", &l.MemorySwap}, {"cpushares", "cpushares", &l.CPUShares},
		{"cpuperiod", "cpuperiod", &l.CPUPeriod}, {"cpuquota", "cpuquota", &l.CPUQuota}, {"shmsize", "shm-size", &shm},
	} {
		n, err := r.number(limit.query)
		if err != nil {
			return err
		}
		if n != nil && *n != 0 {
			*limit.to = int64(*n)
			req.Attrs[limit.attr] = fmt.Sprint(*n)
		}
	}
	if shm < 0 {
		return errdefs.New(errdefs.InvalidArgument, "SHM size can not be less than 0")
	}
	l.CpusetCpus, l.CpusetMems = r.text("cpusetcpus"), r.text("cpusetmems")
	for key, v := range map[string]string{"cpusetcpus": l.CpusetCpus, "cpusetmems": l.CpusetMems} {
		if v != "" {
			req.Attrs[key] = v
		}
	}
	return nil
}

// buildLists adds what the query has as JSON or several times.
func (r *request) buildLists(a map[string]string) error {
	args, labels := map[string]*string{}, map[string]string{}
	var limits []container.Ulimit
	for key, to := range map[string]any{"buildargs": &args, "labels": &labels, "ulimits": &limits} {
		if err := r.jsonOf(key, to); err != nil {
			return err
		}
	}
	for k, v := range args {
		if v != nil { // null: the Dockerfile's default counts
			a["build-arg:"+k] = *v
		}
	}
	for k, v := range labels {
		a["label:"+k] = v
	}
	var hosts, ulimits []string
	for _, h := range r.query["extrahosts"] {
		name, ip, ok := strings.Cut(h, ":")
		if !ok {
			return errdefs.New(errdefs.InvalidArgument, "bad format for extrahosts: %q", h)
		}
		hosts = append(hosts, name+"="+strings.Trim(ip, "[]"))
	}
	for _, l := range limits {
		ulimits = append(ulimits, (&units.Ulimit{Name: l.Name, Hard: l.Hard, Soft: l.Soft}).String())
	}
	if len(hosts) > 0 {
		a["add-hosts"] = strings.Join(hosts, ",")
	}
	if len(ulimits) > 0 {
		a["ulimit"] = strings.Join(ulimits, ",")
	}
	return nil
}

// jsonOf decodes a query parameter that is a JSON document.
func (r *request) jsonOf(key string, to any) error {
	s := r.text(key)
	if s == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(s), to); err != nil {
		return errdefs.New(errdefs.InvalidArgument, "invalid value for %s: %w", key, err)
	}
	return nil
}

// buildAuths reads the credentials for all registries that a build may need.
func (r *request) buildAuths(req *api.BuildRequest) error {
	s := strings.TrimRight(r.Header.Get("X-Registry-Config"), "=")
	if s == "" {
		return nil
	}
	if len(s) > maxAuth {
		return errdefs.New(errdefs.InvalidArgument, "invalid X-Registry-Config header: %d bytes", len(s))
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.NewReplacer("+", "-", "/", "_").Replace(s))
	if err == nil {
		err = json.Unmarshal(b, &req.Auths)
	}
	if err != nil {
		return errdefs.New(errdefs.InvalidArgument, "invalid X-Registry-Config header: not the JSON document of credentials by registry")
	}
	if req.Auths == nil {
		req.Auths = map[string]registry.AuthConfig{}
	}
	return nil
}

// cancelBuild ends a build that a client has given an id.
func (s *Server) cancelBuild(w http.ResponseWriter, r *request) error {
	id := r.text("id")
	if id == "" {
		return errdefs.New(errdefs.InvalidArgument, "build ID not provided")
	}
	if err := s.backend.BuildCancel(id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
