package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/build"
	"github.com/tare-engine/tare/internal/container"
	"github.com/tare-engine/tare/internal/container/spec"
	"github.com/tare-engine/tare/internal/content"
	"github.com/tare-engine/tare/internal/engine"
	"github.com/tare-engine/tare/internal/event"
	"github.com/tare-engine/tare/internal/image"
	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/layer"
	"github.com/tare-engine/tare/internal/layer/devicemapper"
	"github.com/tare-engine/tare/internal/linux/apparmor"
	"github.com/tare-engine/tare/internal/linux/host"
	"github.com/tare-engine/tare/internal/linux/systemd"
	"github.com/tare-engine/tare/internal/network"
	"github.com/tare-engine/tare/internal/plugin"
	"github.com/tare-engine/tare/internal/registry"
	"github.com/tare-engine/tare/internal/store"
	"github.com/tare-engine/tare/internal/volume"
	"github.com/tare-engine/tare/internal/volume/local"
	"github.com/tare-engine/tare/internal/volume/mapped"
	volumeplugin "github.com/tare-engine/tare/internal/volume/plugin"
)

// Limits of a container's log unless its LogConfig names some.
const (
	logMaxSize = 20 << 20
	logMaxFile = 5
)

// reserveSize is what removing takes on a full disk, and changes of records.
const reserveSize = 1 << 20

// parts is the engine with what it is made of, in the order of making.
type parts struct {
	reserve    *store.Reserve
	layers     *layer.Service
	images     *image.Service
	registries *registry.Client
	networks   *network.Service
	volumes    *volume.Service
	containers *container.Service
	builds     *build.Service
	events     *event.Log
	engine     *engine.Engine
	units      systemd.Units
}

// identity is engine.json: what tells this engine's kernel objects from those
// of others.
type identity struct {
	Version int
	ID      string // 8 hexadecimal digits
}

// assemble makes all parts and boots them, on a full disk too.
func assemble(ctx context.Context, cfg *Config) (p *parts, err error) {
	id, err := openIdentity(cfg.DataRoot)
	if err != nil {
		return nil, err
	}
	reserve := store.OpenReserve(filepath.Join(cfg.DataRoot, "reserve"), reserveSize)
	err = reserve.Use(func() (err error) {
		p, err = assembleParts(ctx, cfg, id, reserve)
		return err
	})
	if err != nil {
		reserve.Close()
		return nil, err
	}
	return p, nil
}

// assembleParts leaves nothing behind after an error.
func assembleParts(ctx context.Context, cfg *Config, id string, reserve *store.Reserve) (_ *parts, err error) {
	p := &parts{reserve: reserve}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if err := p.findSystemd(cfg); err != nil {
		return nil, err
	}
	driver, err := openDriver(cfg.StorageDriver, cfg.DataRoot, cfg.StorageOpts)
	if err != nil {
		return nil, err
	}
	if p.layers, err = layer.Open(layer.Config{Root: cfg.DataRoot, Driver: driver, Lent: build.LentDir(build.CacheDir(cfg.DataRoot, driver.Name())), Private: []string{cfg.ExecRoot}}); err != nil {
		return nil, err
	}
	blobs, err := content.Open(filepath.Join(cfg.DataRoot, "content"))
	if err != nil {
		return nil, err
	}
	if p.images, err = image.Open(ctx, cfg.DataRoot, blobs, p.layers, int(cfg.Registries.Downloads)); err != nil {
		return nil, err
	}
	if p.registries, err = cfg.Registries.client(); err != nil {
		return nil, err
	}
	p.events = event.Open(cfg.ExecRoot)
	events := p.events
	networks := networkConfig(cfg, id)
	networks.Changed = engine.NetworkEvents(events)
	if p.networks, err = network.Open(networks); err != nil {
		return nil, err
	}
	if p.volumes, err = volume.Open(volume.Config{
		Dir: volumesDir(cfg), Store: store.NewReserved(reserve), Events: events, Drivers: volumeDrivers(cfg, id),
		Plugins: volumeplugin.New(plugin.Docker()), Private: []string{cfg.ExecRoot},
	}); err != nil {
		return nil, err
	}
	if p.containers, err = newContainers(ctx, cfg, id, p, events); err != nil {
		return nil, err
	}
	if err := p.containers.Boot(ctx); err != nil {
		return nil, err
	}
	builds := buildConfig(cfg, id, driver.Name())
	if err := build.Sweep(builds); err != nil {
		slog.Warn("what builds have left could not all be removed", "err", err)
	}
	builds.Layers, builds.Images, builds.Content, builds.Networks, builds.Registries = p.layers, p.images, blobs, p.networks, p.registries
	builds.Events = events
	p.builds = build.New(builds)
	p.engine = engine.New(engine.Config{
		ID: id, DataRoot: cfg.DataRoot, MountDir: imageMounts(cfg), Version: version, Commit: commit, BuildTime: built, Live: cfg.live(),
		Debug: cfg.Debug, MaxAPI: api.MaxVersion.String(), MinAPI: api.MinVersion.String(), Reserve: p.reserve,
		ImageCap: int64(cfg.ImageCap),
	}, p.containers, p.images, p.layers, p.networks, p.volumes, p.registries, p.builds, events)
	return p, nil
}

// buildConfig is the part that the facts of an engine decide.
func buildConfig(cfg *Config, id, driver string) build.Config {
	return build.Config{
		Root: build.CacheDir(cfg.DataRoot, driver), ExecRoot: filepath.Join(cfg.ExecRoot, "build"), Runtime: besideUs("tare-runtime"),
		Cgroup: cgroupParent(cfg, id) + "-build", CDIDirs: cfg.CDIDirs, DNS: cfg.DNS,
		Bounds: cfg.Builder.bounds(), Denied: cfg.Builder.Denied,
	}
}

func newContainers(ctx context.Context, cfg *Config, id string, p *parts, events *event.Log) (*container.Service, error) {
	runtimes, err := cfg.runtimes()
	if err != nil {
		return nil, err
	}
	ids, err := hostIDs(ctx, cfg, p.layers)
	if err != nil {
		return nil, err
	}
	boot, err := host.BootID()
	if err != nil {
		return nil, err
	}
	way := keeperWay{
		execRoot: cfg.ExecRoot, engineID: id,
		containers: filepath.Join(cfg.DataRoot, "containers"), spool: filepath.Join(cfg.DataRoot, "spool"),
		renewal: &keeper.Renewal{Program: besideUs("tare-keeper")},
	}
	return container.New(container.Config{
		DataRoot: cfg.DataRoot, ExecRoot: cfg.ExecRoot, Cgroup: cgroupParent(cfg, id), BootID: boot,
		Defaults: container.Defaults{
			LogMaxSize: logMaxSize, LogMaxFile: logMaxFile, AppArmor: defaultAppArmor(), Remap: ids.remap,
			InitPath: cmp.Or(cfg.Containers.InitPath, besideUs("tare-init")), Runtimes: runtimes, CDIDirs: cfg.CDIDirs, Systemd: cfg.systemdGroups(),
		},
		IDRange: ids.pool, Units: &p.units,
	}, p.layers, p.networks, p.volumes, events, store.NewReserved(p.reserve), way.dial), nil
}

// findSystemd connects with systemd if it is to make the control groups.
func (p *parts) findSystemd(cfg *Config) error {
	if !cfg.systemdGroups() {
		return nil
	}
	if err := p.units.Check(); err != nil {
		return fmt.Errorf("%s=systemd: %w: leave the option away to have the engine make the cgroups", cgroupDriver, err)
	}
	return nil
}

// end gives everything back when the engine stops.
func (p *parts) end() {
	p.close()
	p.reserve.Close()
}

// close gives the parts back, the newest first. Containers go on.
func (p *parts) close() {
	if p.builds != nil {
		if err := p.builds.Close(); err != nil {
			slog.Warn("close the build cache", "err", err)
		}
	}
	if p.containers != nil {
		p.containers.Close()
	}
	p.units.Close()
	if p.events != nil {
		if err := p.events.Close(); err != nil {
			slog.Warn("close the events", "err", err)
		}
	}
	if p.volumes != nil {
		p.volumes.Close()
	}
	var err error
	if p.networks != nil {
		err = p.networks.Close()
	}
	if p.registries != nil {
		p.registries.Close()
	}
	if p.images != nil {
		err = errors.Join(err, p.images.Close())
	}
	if p.layers != nil {
		err = errors.Join(err, p.layers.Close())
	}
	if err != nil {
		slog.Warn("close", "err", err)
	}
}

// defaultAppArmor loads the profile of containers that name none. Like dockerd
// the engine goes on without where that cannot be: no AppArmor in the kernel,
// or no parser on the host.
func defaultAppArmor() *apparmor.Default {
	if !apparmor.Enabled() {
		return nil
	}
	d := new(apparmor.Default)
	if err := d.Load(); err != nil {
		slog.Warn("containers run without an AppArmor profile; install apparmor_parser (Debian: apparmor)", "err", err)
		return nil
	}
	return d
}

// isDefault reports whether this is the one engine of the host whose kernel
// objects have plain names.
func isDefault(cfg *Config) bool {
	d := defaultConfig()
	return cfg.DataRoot == d.DataRoot && cfg.ExecRoot == d.ExecRoot
}

func cgroupParent(cfg *Config, id string) string {
	if isDefault(cfg) {
		id = ""
	}
	return spec.EngineParent(id)
}

func networkConfig(cfg *Config, id string) network.Config {
	n := network.Config{EngineID: id, Default: isDefault(cfg), Dir: filepath.Join(cfg.DataRoot, "networks"), BIP: cfg.BIP, Log: slog.Default()}
	if cfg.Bridge != defaultConfig().Bridge || isDefault(cfg) {
		n.Link = cfg.Bridge
	}
	n.IPv6, n.IPv6Auto, n.Subnet6 = cfg.IPv6 == "true", cfg.IPv6 == "auto", cfg.FixedCIDR6
	n.NoMasquerade = cfg.NoMasquerade
	n.MTU, n.NoICC, n.HostIP, n.HostGateway = int(cfg.MTU), !cfg.ICC, cfg.PublishIP, hostGateway(cfg)
	n.Integrate, n.NoRelay, n.Pools, n.Options = cfg.Integrate, !cfg.UserlandProxy, cfg.Pools, cfg.NetworkOpts
	n.DNS, n.DNSSearch, n.DNSOptions, n.HostNames = cfg.DNS, cfg.DNSSearch, cfg.DNSOptions, cfg.HostNames
	return n
}

// hostGateway is the zero address if none was given.
func hostGateway(cfg *Config) (a netip.Addr) {
	if len(cfg.HostGateways) > 0 {
		a, _ = netip.ParseAddr(cfg.HostGateways[0]) // it has been checked
	}
	return a
}

// besideUs is the path of a program of ours that lies where tared lies, "" if
// it does not.
func besideUs(name string) string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// openIdentity reads engine.json, or makes it.
func openIdentity(root string) (string, error) {
	path := filepath.Join(root, "engine.json")
	var id identity
	err := store.Get(path, &id)
	switch {
	case err == nil && len(id.ID) == 8:
		return id.ID, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%w: without it the engine does not know its own links and rules", err)
	}
	var b [4]byte
	rand.Read(b[:])
	id = identity{Version: 1, ID: hex.EncodeToString(b[:])}
	return id.ID, store.New().Put(path, id)
}

// lockRoots takes the data root and the exec root for this engine alone, until
// the file is closed or the process ends.
func lockRoots(cfg *Config) (*os.File, error) {
	for _, dir := range []string{cfg.DataRoot, cfg.ExecRoot} {
		if err := os.MkdirAll(dir, 0710); err != nil {
			return nil, err
		}
		if err := os.Chmod(dir, 0710); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(filepath.Join(cfg.DataRoot, "lock"), os.O_CREATE|os.O_RDWR, 0600)
	if err != nil {
		return nil, err
	}
	// A child that an engine was about to start when it was killed has the lock,
	// until it has executed its program.
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if time.Since(begun) > lockWait {
			f.Close()
			return nil, fmt.Errorf("data root %s: another tared is using it", cfg.DataRoot)
		}
	}
}

const lockWait = 2 * time.Second

// uninstall removes what a stopped engine has left in the kernel.
func uninstall(cfg *Config) error {
	id, err := openIdentity(cfg.DataRoot)
	if err != nil {
		return err
	}
	p := &parts{}
	if p.networks, err = network.Open(networkConfig(cfg, id)); err != nil {
		return err
	}
	defer p.close()
	return errors.Join(p.networks.Destroy(), build.Sweep(buildConfig(cfg, id, "")), image.UnmountAll(imageMounts(cfg)),
		container.UnmountParts(cfg.ExecRoot), volume.UnmountAll(volumesDir(cfg)), mappedVolumes(cfg, id).Sweep(nil),
		devicemapper.Uninstall(cfg.DataRoot), container.RemoveGroups(cgroupParent(cfg, id)))
}

// imageMounts is where images are mounted whose user named no place.
func imageMounts(cfg *Config) string { return filepath.Join(cfg.ExecRoot, "images") }

// volumeDrivers are the drivers of volumes, the first of which is that of volumes that name
// none.
func volumeDrivers(cfg *Config, id string) []volume.Driver {
	return []volume.Driver{local.Driver{}, mappedVolumes(cfg, id)}
}

func mappedVolumes(cfg *Config, id string) *mapped.Driver {
	return mapped.New(mapped.Config{Dir: volumesDir(cfg), Engine: id, Store: store.New()})
}

func volumesDir(cfg *Config) string { return filepath.Join(cfg.DataRoot, "volumes") }

// reload returns what takes the settings of a configuration into use that may change while
// the engine runs.
func (p *parts) reload(cfg *Config) (take func(), err error) {
	runtimes, err := cfg.runtimes()
	if err != nil {
		return nil, err
	}
	registries, err := cfg.Registries.client()
	if err != nil {
		return nil, err
	}
	return func() {
		p.containers.Defaults().Runtimes.Replace(runtimes)
		p.registries.Replace(registries)
		p.images.SetDownloads(int(cfg.Registries.Downloads))
		p.engine.SetLive(cfg.live())
	}, nil
}
