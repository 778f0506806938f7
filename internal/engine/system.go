package engine

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"
	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/api"
	own "github.com/tare-engine/tare/internal/container"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/cgroup"
	"github.com/tare-engine/tare/internal/linux/host"
	"github.com/tare-engine/tare/internal/linux/sysctl"
)

// Version says what this engine is.
func (e *Engine) Version(context.Context) (system.VersionResponse, error) {
	kernel := host.KernelRelease()
	details := map[string]string{
		"ApiVersion": e.cfg.MaxAPI, "MinAPIVersion": e.cfg.MinAPI, "Arch": runtime.GOARCH, "BuildTime": e.cfg.BuildTime,
		"Experimental": "false", "GitCommit": e.cfg.Commit, "GoVersion": runtime.Version(), "KernelVersion": kernel, "Os": runtime.GOOS,
	}
	return system.VersionResponse{
		Platform: system.PlatformInfo{Name: "Tare Engine"}, Version: e.cfg.Version,
		APIVersion: e.cfg.MaxAPI, MinAPIVersion: e.cfg.MinAPI, Os: runtime.GOOS, Arch: runtime.GOARCH,
		GitCommit: e.cfg.Commit, GoVersion: runtime.Version(), KernelVersion: kernel, BuildTime: e.cfg.BuildTime,
		Components: []system.ComponentVersion{{Name: "Engine", Version: e.cfg.Version, Details: details}},
	}, nil
}

// runtimes are those that containers may ask for.
func (e *Engine) runtimes() map[string]system.RuntimeWithStatus {
	all := map[string]system.RuntimeWithStatus{}
	for _, r := range e.containers.Defaults().Runtimes.All() {
		all[r.Name] = system.RuntimeWithStatus{Runtime: system.Runtime{Path: r.Path, Args: r.Args}}
	}
	return all
}

// Info says how this engine is set up and what it holds.
func (e *Engine) Info(ctx context.Context) (system.Info, error) {
	name, _ := os.Hostname()
	images, err := e.images.List(ctx)
	if err != nil {
		return system.Info{}, err
	}
	can, err := cgroup.HostFeatures()
	if err != nil {
		return system.Info{}, err
	}
	warnings, err := e.networks.Warnings()
	if err != nil {
		return system.Info{}, err
	}
	forwarding, err := sysctl.Read("net/ipv4/ip_forward")
	if err != nil {
		return system.Info{}, err
	}
	defaults, live := e.containers.Defaults(), e.live.Load()
	info := system.Info{
		ID: e.cfg.ID, Images: len(images), Driver: e.layers.Driver(), DriverStatus: append([][2]string{}, e.layers.Status()...),
		MemoryLimit: can.Memory, SwapLimit: can.Swap, CPUCfsPeriod: can.CPUQuota, CPUCfsQuota: can.CPUQuota, CPUShares: can.CPUShares, CPUSet: can.Cpuset, PidsLimit: can.Pids,
		OomKillDisable: can.OOMDisable, IPv4Forwarding: forwarding != "0", Debug: e.cfg.Debug, NFd: host.OpenFiles(), NGoroutines: runtime.NumGoroutine(),
		SystemTime: time.Now().Format(time.RFC3339Nano), LoggingDriver: live.Containers.Log.Type, CgroupDriver: e.cgroupDriver(), CgroupVersion: fmt.Sprint(can.Version),
		KernelVersion: host.KernelRelease(), OperatingSystem: operatingSystem(), OSVersion: osRelease("VERSION_ID"), OSType: runtime.GOOS, Architecture: architecture(),
		RegistryConfig: live.Registries, NCPU: runtime.NumCPU(), MemTotal: host.Memory(), DockerRootDir: e.cfg.DataRoot, Name: name,
		Labels: append([]string{}, live.Labels...), ServerVersion: e.cfg.Version, DefaultRuntime: defaults.Runtimes.Default(), InitBinary: initBinary(defaults.InitPath),
		Runtimes:        e.runtimes(),
		SecurityOptions: securityOptions(defaults, live), Swarm: swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive},
		LiveRestoreEnabled: true, FirewallBackend: &system.FirewallInfo{Driver: "nftables"}, CDISpecDirs: defaults.CDIDirs,
		Plugins: system.PluginsInfo{
			Volume: e.volumes.Drivers(), Authorization: live.Authorization, Network: []string{"bridge", "host", "ipvlan", "macvlan", "null"}, Log: spec.LogDrivers(),
		},
		Warnings: append(warnings, e.layers.Warnings()...),
	}
	for _, p := range e.networks.Pools() {
		info.DefaultAddressPools = append(info.DefaultAddressPools, system.NetworkAddressPool{Base: p.Base, Size: p.Size})
	}
	countContainers(&info, e.containers.List())
	info.DriverStatus = append(info.DriverStatus, [2]string{"Default log limits", fmt.Sprintf("max-size=%dm max-file=%d", defaults.LogMaxSize>>20, defaults.LogMaxFile)})
	return info, nil
}

// countContainers counts each container once, by Docker's three kinds.
func countContainers(info *system.Info, all []*own.View) {
	for _, v := range all {
		info.Containers++
		switch {
		case v.Status == own.Paused:
			info.ContainersPaused++
		case v.Up():
			info.ContainersRunning++
		default:
			info.ContainersStopped++
		}
	}
}

func (e *Engine) cgroupDriver() string {
	if e.containers.Defaults().Systemd {
		return "systemd"
	}
	return "cgroupfs"
}

func initBinary(path string) string {
	if path == "" {
		return ""
	}
	return filepath.Base(path)
}

func securityOptions(d *own.Defaults, live *Live) []string {
	options := []string{"name=seccomp,profile=" + cmp.Or(live.SeccompProfile, "builtin")}
	if !live.Containers.CgroupnsMode.IsHost() {
		options = append(options, "name=cgroupns")
	}
	if live.Containers.NoNewPrivileges {
		options = append(options, "name=no-new-privileges")
	}
	if d.Remap != nil {
		options = slices.Insert(options, 1, "name=userns")
	}
	if d.AppArmor != nil {
		options = append([]string{"name=apparmor"}, options...)
	}
	return options
}

func architecture() string {
	if runtime.GOARCH == "amd64" {
		return "x86_64"
	}
	return runtime.GOARCH
}

// operatingSystem is the host's name of itself; os-release(5).
func operatingSystem() string {
	if s := osRelease("PRETTY_NAME"); s != "" {
		return s
	}
	return "Linux"
}

func osRelease(key string) string {
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, key+"="); ok {
			return strings.Trim(strings.TrimSpace(v), `"'`)
		}
	}
	return ""
}

// Events gives emit the events that match, as they come.
func (e *Engine) Events(ctx context.Context, since, until time.Time, f api.Filters, emit func(events.Message) error) error {
	if err := validate(f, api.EventFilters); err != nil {
		return err
	}
	if !since.IsZero() && !until.IsZero() && until.Before(since) {
		return errdefs.New(errdefs.InvalidArgument, "`since` time (%d) cannot be after `until` time (%d)", since.Unix(), until.Unix())
	}
	return e.events.Follow(ctx, since, until, nil, func(m events.Message) error {
		if !eventMatches(f, &m) {
			return nil
		}
		return emit(m)
	})
}

func eventMatches(f api.Filters, m *events.Message) bool {
	action, _, _ := strings.Cut(string(m.Action), ":")
	if !f.Exact("event", string(m.Action)) && !f.Exact("event", action) {
		return false
	}
	if !f.Exact("type", string(m.Type)) || !f.Exact("scope", m.Scope) || !f.KV("label", m.Actor.Attributes) {
		return false
	}
	for _, typ := range []events.Type{events.ContainerEventType, events.ImageEventType, events.NetworkEventType, events.VolumeEventType, events.DaemonEventType, events.PluginEventType} {
		key := string(typ)
		if !f.Has(key) {
			continue
		}
		if m.Type != typ {
			return false
		}
		if !f.Prefix(key, m.Actor.ID) && !f.Exact(key, m.Actor.Attributes["name"]) && !imageNamed(f, key, m) {
			return false
		}
	}
	return true
}

// imageNamed reports whether an image filter names the event's image, with or
// without its tag.
func imageNamed(f api.Filters, key string, m *events.Message) bool {
	if key != "image" {
		return false
	}
	for _, name := range []string{m.Actor.ID, m.Actor.Attributes["name"]} {
		repo := name
		if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
			repo = name[:i]
		}
		if f.Exact(key, name) || f.Exact(key, repo) {
			return true
		}
	}
	return false
}

// DiskUsage counts what images and containers take on disk.
func (e *Engine) DiskUsage(ctx context.Context, o api.DiskUsageOptions) (system.DiskUsage, error) {
	all := !o.Containers && !o.Images && !o.Volumes && !o.BuildCache
	var du system.DiskUsage
	var counted age
	if all || o.Containers {
		cu, err := e.containerUsage(ctx, &counted)
		if err != nil {
			return du, err
		}
		du.ContainerUsage = cu
	}
	if all || o.Images {
		iu, err := e.imageUsage(ctx)
		if err != nil {
			return du, err
		}
		du.ImageUsage = iu
	}
	if all || o.Volumes {
		vu, err := e.volumeUsage(ctx, &counted)
		if err != nil {
			return du, err
		}
		du.VolumeUsage = vu
	}
	if all || o.BuildCache {
		bu, err := e.buildUsage(ctx)
		if err != nil {
			return du, err
		}
		du.BuildCacheUsage = bu
	}
	counted.tell(o.Counted)
	return du, nil
}

func (e *Engine) containerUsage(ctx context.Context, counted *age) (*container.DiskUsage, error) {
	list, err := e.ContainerList(ctx, api.ListOptions{All: true, Size: true, Counted: counted.add})
	if err != nil {
		return nil, err
	}
	du := &container.DiskUsage{TotalCount: int64(len(list)), Items: list}
	for _, c := range list {
		size := max(c.SizeRw, 0) // unknown
		du.TotalSize += size
		switch c.State {
		case container.StateRunning, container.StatePaused, container.StateRestarting:
			du.ActiveCount++
		default:
			du.Reclaimable += size
		}
	}
	return du, nil
}

func (e *Engine) imageUsage(ctx context.Context) (*image.DiskUsage, error) {
	list, err := e.ImageList(ctx, api.ImageListOptions{All: true, SharedSize: true})
	if err != nil {
		return nil, err
	}
	used := e.usedImages()
	u, err := e.images.Usage(ctx, func(id digest.Digest) bool { return len(used[id.String()]) > 0 })
	if err != nil {
		return nil, err
	}
	du := &image.DiskUsage{TotalCount: int64(len(list)), TotalSize: u.Total, Reclaimable: u.Total - u.Needed}
	for _, img := range list {
		if img.Containers > 0 {
			du.ActiveCount++
		}
		du.Items = append(du.Items, img.Summary)
	}
	return du, nil
}
