package build

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/diff/apply"
	ctdmetadata "github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/diff/walking"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/cache/metadata"
	"github.com/moby/buildkit/cache/remotecache"
	inlinecache "github.com/moby/buildkit/cache/remotecache/inline"
	localcache "github.com/moby/buildkit/cache/remotecache/local"
	registrycache "github.com/moby/buildkit/cache/remotecache/registry"
	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/executor/oci"
	"github.com/moby/buildkit/executor/resources"
	"github.com/moby/buildkit/executor/runcexecutor"
	"github.com/moby/buildkit/frontend"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/gateway"
	"github.com/moby/buildkit/frontend/gateway/forwarder"
	"github.com/moby/buildkit/session"
	containerdsnapshot "github.com/moby/buildkit/snapshot/containerd"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/bboltcachestorage"
	"github.com/moby/buildkit/solver/llbsolver/cdidevices"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/db/boltutil"
	"github.com/moby/buildkit/util/leaseutil"
	bknetwork "github.com/moby/buildkit/util/network"
	"github.com/moby/buildkit/version"
	"github.com/moby/buildkit/worker"
	"github.com/moby/buildkit/worker/base"
	"github.com/moby/buildkit/worker/label"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"tags.cncf.io/container-device-interface/pkg/cdi"

	"github.com/tare-engine/tare/internal/build/gitbox"
	"github.com/tare-engine/tare/internal/build/snapshot"
	"github.com/tare-engine/tare/internal/undo"
)

// namespace is BuildKit's in containerd's metadata.
const namespace = "buildkit"

// builder is BuildKit, opened.
type builder struct {
	cfg        Config
	sessions   *session.Manager
	controller *control.Controller
	worker     *builderWorker
	grpc       *grpc.Server
	conns      *connections
	snapshots  *snapshot.Snapshotter
	steps      *steps
	once       *once
	limiter    *limiter
	ended      context.CancelFunc
}

// bolts are options of the databases of a cache: nobody waits for the disk.
func bolts() *bolt.Options {
	return &bolt.Options{FreelistType: bolt.FreelistMapType, NoFreelistSync: true, NoSync: true}
}

func open(ctx context.Context, cfg Config) (_ *builder, err error) {
	var u undo.Stack
	defer u.Run(&err)
	defer func() {
		if p := recover(); p != nil { // bbolt's way to say that a database is damaged
			err = fmt.Errorf("%v", p)
		}
	}()
	temporary := filepath.Join(cfg.ExecRoot, "tmp")
	for _, dir := range []string{cfg.Root, temporary} {
		if err := os.MkdirAll(dir, 0700); err != nil {
			return nil, err
		}
	}
	if err := use(cfg.Root); err != nil {
		return nil, err
	}
	// BuildKit mounts at temporary places: Sweep is to find them.
	mount.SetTempMountLocation(temporary)
	version.Version = buildkitVersion()
	os.Setenv("TMPDIR", temporary)
	if err := confineGit(gitbox.Dirs{Bin: filepath.Join(cfg.ExecRoot, "bin"), Cache: cfg.Root, Tmp: temporary}, cfg.Runtime); err != nil {
		return nil, err
	}
	b := &builder{cfg: cfg}
	if b.sessions, err = session.NewManager(); err != nil {
		return nil, err
	}
	o, err := b.workerOptions(ctx, &u)
	if err != nil {
		return nil, err
	}
	made, err := base.NewWorker(ctx, o)
	if err != nil {
		return nil, err
	}
	made.SourceManager.Register(imageSource{made.ImageSource})
	b.worker = &builderWorker{made, b.cfg.Events, b.once}
	b.limiter = newLimiter(b.worker, o.GCPolicy)
	if err := b.control(&u); err != nil {
		return nil, err
	}
	b.serve()
	return b, nil
}

// confineGit has BuildKit find a git without privileges: it looks for it in the PATH.
func confineGit(d gitbox.Dirs, runtime string) error {
	path := filepath.SplitList(os.Getenv("PATH"))
	if !slices.Contains(path, d.Bin) {
		os.Setenv("PATH", strings.Join(append([]string{d.Bin}, path...), string(filepath.ListSeparator)))
	}
	return gitbox.Install(d, runtime)
}

// workerOptions opens content, snapshots and records.
func (b *builder) workerOptions(ctx context.Context, u *undo.Stack) (o base.WorkerOpt, err error) {
	in := func(name string) string { return filepath.Join(b.cfg.Root, name) }
	if b.snapshots, err = snapshot.Open(ctx, b.cfg.Root, b.cfg.Layers); err != nil {
		return o, err
	}
	u.Add(b.snapshots.Close)
	blobs, err := local.NewStore(in("content"))
	if err != nil {
		return o, err
	}
	db, err := boltutil.Open(in("names.db"), 0600, bolts())
	if err != nil {
		return o, err
	}
	u.Add(db.Close)
	mdb := ctdmetadata.NewDB(db, blobs, map[string]snapshots.Snapshotter{snapshot.Name: b.snapshots})
	if err := mdb.Init(ctx); err != nil {
		return o, err
	}
	records, err := metadata.NewStore(in("records.db"))
	if err != nil {
		return o, err
	}
	u.Add(records.Close)
	store := containerdsnapshot.NewContentStore(mdb.ContentStore(), namespace)
	leases := leaseutil.WithNamespace(ctdmetadata.NewLeaseManager(mdb), namespace)
	known := &knownLayers{
		Snapshotter: containerdsnapshot.NewSnapshotter(snapshot.Name, mdb.Snapshotter(snapshot.Name), namespace, nil),
		layers:      b.cfg.Layers,
	}
	b.once = &once{known: known, snapshots: b.snapshots, layers: b.cfg.Layers, mounts: b.cfg.ExecRoot}
	monitor, err := resources.NewMonitor()
	if err != nil {
		return o, err
	}
	u.Add(monitor.Close)
	networks := map[pb.NetMode]bknetwork.Provider{
		pb.NetMode_UNSET: confined{&bridged{b.cfg.Networks}},
		pb.NetMode_HOST:  confined{bknetwork.NewHostProvider()},
		pb.NetMode_NONE:  confined{bknetwork.NewNoneProvider()},
	}
	devices, err := b.devices()
	if err != nil {
		return o, err
	}
	exec, err := b.executor(networks, monitor, devices)
	if err != nil {
		return o, err
	}
	b.steps = &steps{Executor: exec}
	id, err := base.ID(b.cfg.Root)
	if err != nil {
		return o, err
	}
	return base.WorkerOpt{
		ID: id, Root: b.cfg.Root, Labels: map[string]string{label.Executor: "oci", label.Snapshotter: snapshot.Name},
		Platforms: []ocispec.Platform{platforms.Normalize(platforms.DefaultSpec())}, GCPolicy: b.cfg.Bounds.policy(b.cfg.Root),
		BuildkitVersion:  bkclient.BuildkitVersion{Package: "github.com/moby/buildkit", Version: buildkitVersion()},
		NetworkProviders: networks, Executor: b.steps, Snapshotter: known, ContentStore: store,
		Applier: apply.NewFileSystemApplier(store), Differ: walking.NewWalkingDiff(store),
		ImageStore:    &imageStore{images: b.cfg.Images, content: b.cfg.Content, store: store, leases: leases, blobs: in("content")},
		RegistryHosts: b.cfg.Registries.Hosts, LeaseManager: leases, GarbageCollect: mdb.GarbageCollect,
		ParallelismSem: semaphore.NewWeighted(int64(2 * goruntime.GOMAXPROCS(0))), MetadataStore: records, ContentMetadata: db,
		MountPoolRoot: filepath.Join(b.cfg.ExecRoot, "mounts"), ResourceMonitor: monitor, CDIManager: devices,
	}, nil
}

// executor runs steps in containers of the engine's runtime.
func (b *builder) executor(networks map[pb.NetMode]bknetwork.Provider, monitor *resources.Monitor, devices *cdidevices.Manager) (executor.Executor, error) {
	var dns *oci.DNSConfig
	if len(b.cfg.DNS) > 0 {
		dns = &oci.DNSConfig{Nameservers: b.cfg.DNS}
	}
	return runcexecutor.New(runcexecutor.Opt{
		Root: filepath.Join(b.cfg.ExecRoot, "executor"), CommandCandidates: []string{b.cfg.Runtime}, DefaultCgroupParent: b.cfg.Cgroup,
		ProcessMode: oci.ProcessSandbox, DNS: dns, ApparmorProfile: b.cfg.AppArmor, ResourceMonitor: monitor, CDIManager: devices,
	}, networks)
}

func (b *builder) devices() (*cdidevices.Manager, error) {
	c, err := cdi.NewCache(cdi.WithSpecDirs(b.cfg.CDIDirs...), cdi.WithAutoRefresh(false))
	if err != nil {
		return nil, err
	}
	return cdidevices.NewManager(c, nil), nil
}

// control makes BuildKit's solver with its frontends and caches.
func (b *builder) control(u *undo.Stack) error {
	workers := &worker.Controller{}
	if err := workers.Add(b.worker); err != nil {
		return err
	}
	gw, err := gateway.NewGatewayFrontend(workers.Infos(), nil)
	if err != nil {
		return err
	}
	cache, err := bboltcachestorage.NewStore(filepath.Join(b.cfg.Root, "cache.db"))
	if err != nil {
		return err
	}
	u.Add(cache.Close)
	history, err := boltutil.SafeOpen(filepath.Join(b.cfg.Root, "history.db"), 0600, bolts())
	if err != nil {
		return err
	}
	u.Add(history.Close)
	hosts, store := b.cfg.Registries.Hosts, b.worker.ContentStore()
	ended, cancel := context.WithCancel(context.Background())
	b.ended = cancel
	b.controller, err = control.NewController(control.Opt{
		SessionManager: b.sessions, WorkerController: workers,
		Frontends: map[string]frontend.Frontend{
			"dockerfile.v0": forwarder.NewGatewayForwarder(workers.Infos(), dockerfile.Build),
			"gateway.v0":    gw,
		},
		ResolveCacheExporterFuncs: map[string]remotecache.ResolveCacheExporterFunc{
			"registry": registrycache.ResolveCacheExporterFunc(b.sessions, hosts),
			"local":    localcache.ResolveCacheExporterFunc(b.sessions),
			"inline":   inlinecache.ResolveCacheExporterFunc(),
		},
		ResolveCacheImporterFuncs: map[string]remotecache.ResolveCacheImporterFunc{
			"registry": registrycache.ResolveCacheImporterFunc(b.sessions, store, hosts),
			"local":    localcache.ResolveCacheImporterFunc(b.sessions),
		},
		CacheManager: solver.NewCacheManager(context.Background(), "local", cache, worker.NewCacheResultStorage(workers)),
		CacheStore:   cache, Entitlements: b.cfg.entitlements(), HistoryDB: history, LeaseManager: b.worker.LeaseManager(), ContentStore: store,
		GarbageCollect: b.worker.GarbageCollect, GracefulStop: ended.Done(),
	})
	return err
}

// entitlements are what clients may allow a build beyond the ordinary; what runs
// without confinement is not among them (rule R15).
func (c Config) entitlements() []string {
	return slices.DeleteFunc([]string{"network.host", "device"}, func(e string) bool { return slices.Contains(c.Denied, e) })
}

// endTime is how long the steps of builds that are cut off may take to end.
const endTime = 5 * time.Second

// close ends everything that is under way, and takes away what steps have needed.
func (b *builder) close() error {
	b.ended()
	b.conns.Close()
	b.grpc.Stop() // and with their connections the builds
	if !b.steps.wait(endTime) {
		slog.Warn("steps of builds have not ended: they are killed")
	}
	b.once.close()
	b.limiter.close()
	errs := []error{Sweep(b.cfg), b.controller.Close()}
	_, err := b.snapshots.DropOwn(time.Now()) // nothing is mounted any more
	return errors.Join(append(errs, err, b.snapshots.Close(), disuse(b.cfg.Root))...)
}
