package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/api"
	own "github.com/tare-engine/tare/internal/container"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/layer"
)

// ContainerList returns containers as `ps` shows them, the newest first.
func (e *Engine) ContainerList(ctx context.Context, o api.ListOptions) ([]container.Summary, error) {
	match, all, err := e.containerFilter(ctx, o.Filters)
	if err != nil {
		return nil, err
	}
	all = all || o.All || o.Limit > 0
	list := []container.Summary{}
	var counted age
	links := e.containers.LinkNames()
	for _, v := range e.containers.List() {
		if o.Limit > 0 && len(list) == o.Limit {
			break
		}
		if !all && !v.Up() || !match(v) {
			continue
		}
		s := e.summary(ctx, v)
		for _, name := range links[v.ID] {
			s.Names = append(s.Names, "/"+name)
		}
		slices.Sort(s.Names)
		if o.Size {
			var at time.Time
			s.SizeRw, s.SizeRootFs, at, err = e.recentSizes(ctx, v)
			if errdefs.Is(err, errdefs.NotFound) || errors.Is(err, fs.ErrNotExist) {
				if e.leaves(v.ID) {
					continue
				}
				err = nil // its layer is of another storage driver
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if err != nil { // what a container has made of its files is no matter of the others
				slog.Warn("size of a container", "container", v.ID, "err", fmt.Sprintf("%.300v", err))
				s.SizeRw, s.SizeRootFs = unknownSize, unknownSize
			} else {
				counted.add(at)
			}
		}
		list = append(list, s)
	}
	counted.tell(o.Counted)
	return list, nil
}

// unknownSize is what Docker's clients are told of a size that cannot be counted.
const unknownSize = -1

// leaves reports whether a container is being removed, or is gone.
func (e *Engine) leaves(id string) bool {
	v, err := e.containers.View(id)
	return err != nil || v.Status == own.Removing
}

func (e *Engine) summary(ctx context.Context, v *own.View) container.Summary {
	s := container.Summary{
		ID: v.ID, Names: []string{"/" + v.Name}, Image: e.imageName(v), ImageID: v.Image,
		Command: command(v), Created: v.Created.Unix(), Ports: portSummaries(v), Labels: v.Config.Labels,
		State: container.ContainerState(v.Status), Status: statusText(v, time.Now()),
		NetworkSettings: &container.NetworkSettingsSummary{Networks: endpoints(v)}, Mounts: e.containers.Mounts(v), ImageManifestDescriptor: imageManifest(v),
	}
	if s.Labels == nil {
		s.Labels = map[string]string{}
	}
	s.Health = e.healthSummary(v)
	s.HostConfig.NetworkMode = string(v.HostConfig.NetworkMode)
	s.HostConfig.Annotations = v.HostConfig.Annotations
	return s
}

// healthSummary is a container's health in a list; none if it is not probed.
func (e *Engine) healthSummary(v *own.View) *container.HealthSummary {
	h := &container.HealthSummary{Status: container.NoHealthcheck}
	if now := e.containers.Health(v.ID); now != nil {
		h.Status, h.FailingStreak = now.Status, now.FailingStreak
	}
	return h
}

// imageName is what `ps` shows in the column IMAGE: the reference that the
// container was made with while it still means that image, else the ID.
func (e *Engine) imageName(v *own.View) string {
	if v.Image == "" {
		return v.Config.Image
	}
	if slices.Contains(e.images.Meant(v.Config.Image), image.ID(v.Image)) {
		return v.Config.Image
	}
	return v.Image
}

// command is the program with its arguments as one line.
func command(v *own.View) string {
	words := []string{v.Path}
	for _, a := range v.Args {
		if strings.Contains(a, " ") {
			a = "'" + a + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// statusText is the column STATUS of `ps`.
func statusText(v *own.View, now time.Time) string {
	switch v.Status {
	case own.Running:
		text := "Up " + units.HumanDuration(now.Sub(v.Started))
		switch v.Health {
		case "":
		case container.Starting:
			text += " (health: starting)"
		default:
			text += " (" + string(v.Health) + ")"
		}
		return text
	case own.Paused:
		return "Up " + units.HumanDuration(now.Sub(v.Started)) + " (Paused)"
	case own.Exited:
		return fmt.Sprintf("Exited (%d) %s ago", v.Last.ExitCode, units.HumanDuration(now.Sub(v.Last.FinishedAt)))
	case own.Restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", v.Last.ExitCode, units.HumanDuration(now.Sub(v.Last.FinishedAt)))
	case own.Removing:
		return "Removal In Progress"
	case own.Dead:
		return "Dead"
	}
	return "Created"
}

// portSummaries lists the published ports, then the exposed ones.
func portSummaries(v *own.View) []container.PortSummary {
	list := []container.PortSummary{}
	for port, bindings := range ports(v) {
		if len(bindings) == 0 {
			list = append(list, container.PortSummary{PrivatePort: port.Num(), Type: string(port.Proto())})
		}
		for _, b := range bindings {
			n, _ := strconv.ParseUint(b.HostPort, 10, 16) // none where the container is reached at its own address
			list = append(list, container.PortSummary{IP: b.HostIP, PrivatePort: port.Num(), PublicPort: uint16(n), Type: string(port.Proto())})
		}
	}
	slices.SortFunc(list, func(a, b container.PortSummary) int {
		if a.PrivatePort != b.PrivatePort {
			return int(a.PrivatePort) - int(b.PrivatePort)
		}
		if c := strings.Compare(a.Type, b.Type); c != 0 {
			return c
		}
		return a.IP.Compare(b.IP)
	})
	return list
}

// containerFilter turns filters into a condition. all is true if they ask for
// states in which a container does not run.
func (e *Engine) containerFilter(ctx context.Context, f api.Filters) (match func(*own.View) bool, all bool, err error) {
	if err := validate(f, api.ContainerFilters); err != nil {
		return nil, false, err
	}
	var conds []func(*own.View) bool
	add := func(c func(*own.View) bool) { conds = append(conds, c) }
	if all, err = statusConditions(f, add); err != nil {
		return nil, false, err
	}
	if err := e.ageConditions(f, add); err != nil {
		return nil, false, err
	}
	if err := e.propertyConditions(ctx, f, add); err != nil {
		return nil, false, err
	}
	return func(v *own.View) bool {
		for _, c := range conds {
			if !c(v) {
				return false
			}
		}
		return true
	}, all, nil
}

func validate(f api.Filters, accepted []string) error {
	return errdefs.As(errdefs.InvalidArgument, f.Validate(accepted))
}

func statusConditions(f api.Filters, add func(func(*own.View) bool)) (all bool, err error) {
	valid := []string{"created", "running", "paused", "restarting", "removing", "exited", "dead"}
	for _, s := range f.Get("status") {
		if !slices.Contains(valid, s) {
			return false, errdefs.New(errdefs.InvalidArgument, "invalid filter 'status=%s'", s)
		}
		all = true
	}
	if f.Has("status") {
		add(func(v *own.View) bool { return f.Exact("status", string(v.Status)) })
	}
	codes := map[int]bool{}
	for _, s := range f.Get("exited") {
		n, err := strconv.Atoi(s)
		if err != nil {
			return false, errdefs.New(errdefs.InvalidArgument, "invalid filter 'exited=%s'", s)
		}
		codes[n] = true
	}
	if len(codes) > 0 {
		all = true
		add(func(v *own.View) bool { return v.Status == own.Exited && codes[v.Last.ExitCode] })
	}
	for _, s := range f.Get("health") {
		if !slices.Contains([]string{"none", "starting", "healthy", "unhealthy"}, s) {
			return false, errdefs.New(errdefs.InvalidArgument, "invalid filter 'health=%s'", s)
		}
	}
	if f.Has("health") {
		add(func(v *own.View) bool { return f.Exact("health", string(cmp.Or(v.Health, container.NoHealthcheck))) })
	}
	return all, nil
}

// ageConditions are before and since: relative to another container.
func (e *Engine) ageConditions(f api.Filters, add func(func(*own.View) bool)) error {
	for _, ref := range f.Get("before") {
		other, err := e.containers.View(ref)
		if err != nil {
			return err
		}
		add(func(v *own.View) bool { return v.Created.Before(other.Created) })
	}
	for _, ref := range f.Get("since") {
		other, err := e.containers.View(ref)
		if err != nil {
			return err
		}
		add(func(v *own.View) bool { return v.Created.After(other.Created) })
	}
	return nil
}

func (e *Engine) propertyConditions(ctx context.Context, f api.Filters, add func(func(*own.View) bool)) error {
	if f.Has("id") {
		add(func(v *own.View) bool { return f.Prefix("id", v.ID) })
	}
	if f.Has("name") {
		add(func(v *own.View) bool { return f.Match("name", "/"+v.Name) || f.Match("name", v.Name) })
	}
	if f.Has("label") {
		add(func(v *own.View) bool { return f.KV("label", v.Config.Labels) })
	}
	if f.Has("annotation") {
		add(func(v *own.View) bool { return f.KV("annotation", v.HostConfig.Annotations) })
	}
	if f.Has("ancestor") {
		ids := e.ancestors(f.Get("ancestor"))
		add(func(v *own.View) bool { return v.Image != "" && ids[v.Image] })
	}
	if f.Has("network") {
		add(func(v *own.View) bool { return onNetwork(f, v) })
	}
	if f.Has("volume") {
		add(func(v *own.View) bool { return e.hasMount(f, v) })
	}
	if f.Has("isolation") {
		add(func(v *own.View) bool { return f.Exact("isolation", string(v.HostConfig.Isolation)) })
	}
	if task, err := f.Bool("is-task", false); err != nil {
		return errdefs.As(errdefs.InvalidArgument, err)
	} else if task { // there is no swarm here
		add(func(*own.View) bool { return false })
	}
	return e.portConditions(f, add)
}

// ancestors returns the IDs of the images that the values name.
func (e *Engine) ancestors(refs []string) map[string]bool {
	ids := map[string]bool{}
	for _, ref := range refs {
		for _, id := range e.images.Meant(ref) {
			ids[id.String()] = true
		}
	}
	return ids
}

func onNetwork(f api.Filters, v *own.View) bool {
	for name, ep := range endpoints(v) {
		if f.Exact("network", name) || ep != nil && ep.NetworkID != "" && f.Prefix("network", ep.NetworkID) {
			return true
		}
	}
	return false
}

func (e *Engine) hasMount(f api.Filters, v *own.View) bool {
	for _, m := range e.containers.Mounts(v) {
		if f.Exact("volume", m.Name) && m.Name != "" || f.Exact("volume", m.Destination) || f.Exact("volume", m.Source) && m.Source != "" {
			return true
		}
	}
	return false
}

// portConditions adds that one of a container's ports is published at a port of the host,
// or that it is exposed: either will do if both are asked for, as with Docker.
func (e *Engine) portConditions(f api.Filters, add func(func(*own.View) bool)) error {
	if !f.Has("publish") && !f.Has("expose") {
		return nil
	}
	published, err := portFilter("publish", f.Get("publish"))
	if err != nil {
		return err
	}
	exposed, err := portFilter("expose", f.Get("expose"))
	if err != nil {
		return err
	}
	add(func(v *own.View) bool {
		for port, bindings := range ports(v) {
			proto := string(port.Proto())
			at := func(b network.PortBinding) bool {
				n, err := strconv.ParseUint(b.HostPort, 10, 16)
				return err == nil && published(uint16(n), proto)
			}
			if exposed(port.Num(), proto) || slices.ContainsFunc(bindings, at) {
				return true
			}
		}
		return false
	})
	return nil
}

// portFilter understands 80, 80/udp and 8000-8080/tcp.
func portFilter(key string, values []string) (func(uint16, string) bool, error) {
	type ports struct {
		from, to uint64
		proto    string
	}
	var list []ports
	for _, s := range values {
		spec, proto, _ := strings.Cut(s, "/")
		if proto == "" {
			proto = "tcp"
		}
		from, to, isRange := strings.Cut(spec, "-")
		if !isRange {
			to = from
		}
		a, err := strconv.ParseUint(from, 10, 16)
		b, err2 := strconv.ParseUint(to, 10, 16)
		if err != nil || err2 != nil || a > b {
			return nil, errdefs.New(errdefs.InvalidArgument, "invalid filter '%s=%s'", key, s)
		}
		list = append(list, ports{a, b, proto})
	}
	return func(port uint16, proto string) bool {
		for _, p := range list {
			if uint64(port) >= p.from && uint64(port) <= p.to && p.proto == proto {
				return true
			}
		}
		return false
	}, nil
}

// age is of which time the oldest of several sizes is.
type age struct{ oldest time.Time }

func (a *age) add(at time.Time) {
	if !at.IsZero() && (a.oldest.IsZero() || at.Before(a.oldest)) {
		a.oldest = at
	}
}

// tell tells of sizes that are not of now.
func (a *age) tell(counted api.Counted) {
	if counted != nil && !a.oldest.IsZero() && time.Since(a.oldest) >= time.Second {
		counted(a.oldest)
	}
}

// sizes returns the bytes of the read-write layer, and of the whole root.
func (e *Engine) sizes(ctx context.Context, v *own.View) (rw, root int64, err error) {
	if v.Rootfs != "" {
		return 0, 0, nil
	}
	u, err := e.layers.Usage(ctx, v.ID)
	if err != nil {
		return 0, 0, err
	}
	rw, root = e.withImage(ctx, v, u)
	return rw, root, nil
}

// recentSizes is sizes, of the time that it says.
func (e *Engine) recentSizes(ctx context.Context, v *own.View) (rw, root int64, at time.Time, err error) {
	if v.Rootfs != "" {
		return 0, 0, at, nil
	}
	u, at, err := e.layers.Recent(ctx, v.ID)
	if err != nil {
		return 0, 0, at, err
	}
	rw, root = e.withImage(ctx, v, u)
	return rw, root, at, nil
}

func (e *Engine) withImage(ctx context.Context, v *own.View, u layer.Usage) (rw, root int64) {
	var base int64
	if img, err := e.images.Resolve(ctx, v.Image); err == nil {
		base = img.Size
	}
	return u.Bytes, base + u.Bytes
}
