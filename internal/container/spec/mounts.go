package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// mountPoint is a mount that the user asked for, from -v, --mount or --tmpfs.
type mountPoint struct {
	typ         mount.Type
	source      string // host path of a bind
	target      string // clean and absolute
	mode        string // of -v, as inspect shows it
	readOnly    bool
	propagation mount.Propagation
	mayLack     bool // the propagation is ours: where the host's mount has no peers, it is none
	bind        mount.BindOptions
	options     []string // of a tmpfs
	makeSource  bool     // a missing source is made, as -v does
	volume      WantedVolume
	owner       *api.BindOwner // of a bind; nil: its files belong to whom the host says
}

// initTarget is where the reaper of --init appears.
const initTarget = "/sbin/docker-init"

// MountRules are what mounts follow beside what is said of each of them.
type MountRules struct {
	DataRoot string // the engine's
	Shallow  bool   // a read-only -v leaves the mounts below it writable, as for clients before 1.44
	// Settled are the mounts that were settled when the container was made, which stand
	// for all requests of volumes. Nil: none are yet.
	Settled []Mount
}

// mountPoints reads all mounts of a HostConfig and checks them.
func mountPoints(h *container.HostConfig, rules MountRules) ([]mountPoint, error) {
	var list []mountPoint
	for _, spec := range h.Binds {
		m, err := parseBind(spec)
		if err != nil {
			return nil, err
		}
		if m.typ == mount.TypeVolume {
			m.volume.Driver = h.VolumeDriver
		} else {
			m.bind.ReadOnlyNonRecursive = rules.Shallow
		}
		list = append(list, m)
	}
	for _, spec := range h.Mounts {
		m, err := mountPointOf(spec)
		if err != nil {
			return nil, errdefs.New(errdefs.InvalidArgument, "invalid mount config for type %q: %w", spec.Type, err)
		}
		list = append(list, m)
	}
	for _, target := range sortedKeysOf(h.Tmpfs) {
		m, err := parseTmpfs(target, h.Tmpfs[target])
		if err != nil {
			return nil, errdefs.As(errdefs.InvalidArgument, err)
		}
		list = append(list, m)
	}
	if len(rules.Settled) > 0 {
		list = settled(list, rules.Settled)
	}
	for i := range list {
		if err := list[i].choosePropagation(rules.DataRoot); err != nil {
			return nil, err
		}
	}
	return list, checkTargets(list)
}

// choosePropagation fills in what is not said. Who has the engine's directory,
// with /:/host as a rule, sees the host's later mounts, as with Docker, and must
// not keep those that are taken away.
func (m *mountPoint) choosePropagation(dataRoot string) error {
	near := m.typ == mount.TypeBind && dataRoot != "" && (isBelow(m.source, dataRoot) || isBelow(dataRoot, m.source))
	switch p := m.propagation; {
	case m.typ != mount.TypeBind:
	case p == "" && near:
		m.propagation, m.mayLack = mount.PropagationRSlave, true
	case p == "":
		m.propagation = mount.PropagationRPrivate
	case near && p != mount.PropagationRSlave && p != mount.PropagationRShared:
		return errdefs.New(errdefs.InvalidArgument,
			`invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root, daemon root: %q, bind mount source: %q, propagation: %q`, dataRoot, m.source, p)
	}
	return nil
}

func sortedKeysOf[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// maxMounts bounds a container's mounts: each costs every start some time.
const maxMounts = 1000

// inProc are the only files of /proc that may be replaced: those that lxcfs
// provides, each about the container's own limits.
var inProc = []string{
	"/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps", "/proc/uptime", "/proc/loadavg",
	"/proc/slabinfo", "/proc/net/dev", "/proc/sys/kernel/ns_last_pid", "/proc/sys/crypto/fips_enabled",
}

func checkTargets(list []mountPoint) error {
	if len(list) > maxMounts {
		return errdefs.New(errdefs.InvalidArgument, "%d mounts: at most %d are possible", len(list), maxMounts)
	}
	seen := map[string]bool{}
	for _, m := range list {
		if seen[m.target] {
			return errdefs.New(errdefs.InvalidArgument, "Duplicate mount point: %s", m.target)
		}
		seen[m.target] = true
		if err := checkProc(m.target); err != nil {
			return err
		}
	}
	return nil
}

func checkProc(target string) error {
	if isBelow(target, "/proc") && !contains(inProc, target) {
		return errdefs.New(errdefs.InvalidArgument, "invalid mount target %q: cannot be mounted because it is inside /proc", shown(target))
	}
	return nil
}

// parseBind reads a value of -v: [SOURCE:]TARGET[:MODE].
func parseBind(spec string) (mountPoint, error) {
	invalid := func(err error) (mountPoint, error) {
		if err == nil {
			return mountPoint{}, errdefs.New(errdefs.InvalidArgument, "invalid volume specification: '%s'", spec)
		}
		return mountPoint{}, errdefs.New(errdefs.InvalidArgument, "invalid volume specification: '%s': %w", spec, err)
	}
	parts := strings.Split(spec, ":")
	if len(parts) > 3 || parts[0] == "" {
		return invalid(nil)
	}
	if len(parts) == 1 { // an anonymous volume
		parts = []string{"", parts[0]}
	}
	m := mountPoint{typ: mount.TypeVolume}
	if path.IsAbs(parts[0]) {
		m.typ, m.makeSource = mount.TypeBind, true
	}
	var mode bindMode
	switch len(parts) {
	case 2:
		if _, ok := parseMode(parts[1]); ok {
			return invalid(nil) // TARGET:MODE names no source
		}
	case 3:
		var ok bool
		if mode, ok = parseMode(parts[2]); !ok {
			return mountPoint{}, errdefs.New(errdefs.InvalidArgument, "invalid mode: %s", parts[2])
		}
		m.mode, m.readOnly, m.propagation = parts[2], mode.readOnly, mode.propagation
		if m.typ == mount.TypeBind && mode.relabel && isSystemDir(parts[0]) {
			return mountPoint{}, errdefs.New(errdefs.InvalidArgument, "SELinux relabeling of %s is not allowed", path.Clean(parts[0]))
		}
	}
	target, err := cleanTarget(parts[1])
	if err == nil && m.typ == mount.TypeVolume && m.propagation != "" {
		err = errors.New("field BindOptions must not be specified")
	}
	if err != nil {
		return invalid(fmt.Errorf("invalid mount config for type %q: %w", m.typ, err))
	}
	m.target = target
	if err := checkLength(parts[0]); err != nil {
		return invalid(err)
	}
	if m.typ == mount.TypeBind {
		m.source = path.Clean(parts[0])
		return m, nil
	}
	m.volume = WantedVolume{Mount: Mount{Type: m.typ, Target: target, Mode: m.mode, ReadOnly: m.readOnly, Name: parts[0], Anonymous: parts[0] == "", NoCopy: mode.noCopy}}
	return m, nil
}

// isSystemDir names what must never get a container's SELinux label.
func isSystemDir(p string) bool {
	return contains([]string{"/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/opt", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp", "/usr", "/var"}, path.Clean(p))
}

// bindMode is the last part of -v.
type bindMode struct {
	readOnly, relabel, noCopy bool
	propagation               mount.Propagation
}

// parseMode reads words such as ro,z,rslave: at most one of each kind.
func parseMode(s string) (bindMode, bool) {
	var m bindMode
	kinds := map[string]int{}
	for word := range strings.SplitSeq(s, ",") {
		kind := ""
		switch word {
		case "ro", "rw":
			kind, m.readOnly = "access", word == "ro"
		case "z", "Z":
			kind, m.relabel = "label", true
		case "nocopy":
			kind, m.noCopy = "copy", true
		case "consistent", "cached", "delegated", "default":
			kind = "consistency" // has a meaning on other systems only
		default:
			p := mount.Propagation(word)
			if !slices.Contains(mount.Propagations, p) {
				return m, false
			}
			kind, m.propagation = "propagation", p
		}
		if kinds[kind]++; kinds[kind] > 1 {
			return m, false
		}
	}
	return m, true
}

func cleanTarget(target string) (string, error) {
	switch {
	case target == "":
		return "", errors.New("field Target must not be empty")
	case !path.IsAbs(target):
		return "", fmt.Errorf("invalid mount path: '%s' mount path must be absolute", target)
	case path.Clean(target) == "/":
		return "", errors.New("invalid specification: destination can't be '/'")
	}
	if err := checkLength(target); err != nil {
		return "", err
	}
	return path.Clean(target), nil
}

// mountPointOf reads a value of --mount.
func mountPointOf(s mount.Mount) (mountPoint, error) {
	switch s.Type {
	case mount.TypeBind, mount.TypeTmpfs, mount.TypeVolume, mount.TypeImage:
	case mount.TypeCluster:
		return mountPoint{}, errdefs.New(errdefs.NotImplemented, "mounts of this type are not supported yet")
	default:
		return mountPoint{}, errors.New("mount type unknown")
	}
	target, err := cleanTarget(s.Target)
	if err != nil {
		return mountPoint{}, err
	}
	for name, set := range map[string]bool{
		"VolumeOptions": s.VolumeOptions != nil && s.Type != mount.TypeVolume, "ImageOptions": s.ImageOptions != nil && s.Type != mount.TypeImage, "ClusterOptions": s.ClusterOptions != nil,
		"BindOptions": s.BindOptions != nil && s.Type != mount.TypeBind, "TmpfsOptions": s.TmpfsOptions != nil && s.Type != mount.TypeTmpfs,
	} {
		if set {
			return mountPoint{}, fmt.Errorf("field %s must not be specified", name)
		}
	}
	switch s.Consistency {
	case "", mount.ConsistencyFull, mount.ConsistencyCached, mount.ConsistencyDelegated, mount.ConsistencyDefault:
	default:
		return mountPoint{}, fmt.Errorf("invalid Consistency: %q", s.Consistency)
	}
	m := mountPoint{typ: s.Type, target: target, readOnly: s.ReadOnly}
	switch s.Type {
	case mount.TypeTmpfs:
		return m, m.tmpfs(s)
	case mount.TypeVolume:
		return m, m.volumeOf(s)
	case mount.TypeImage:
		return m, m.imageOf(s)
	}
	return m, m.bindOf(s)
}

func (m *mountPoint) bindOf(s mount.Mount) error {
	switch {
	case s.Source == "":
		return errors.New("field Source must not be empty")
	case !path.IsAbs(s.Source):
		return fmt.Errorf("invalid mount path: '%s' mount path must be absolute", s.Source)
	}
	if err := checkLength(s.Source); err != nil {
		return err
	}
	m.source = path.Clean(s.Source)
	if s.BindOptions != nil {
		m.bind = *s.BindOptions
		m.makeSource = m.bind.CreateMountpoint
	}
	if p := m.bind.Propagation; p != "" {
		if !slices.Contains(mount.Propagations, p) {
			return fmt.Errorf("invalid propagation mode: %s", p)
		}
		m.propagation = p
	}
	switch {
	case m.bind.ReadOnlyNonRecursive && !s.ReadOnly:
		return errors.New("mount is ReadOnlyNonRecursive but not ReadOnly")
	case m.bind.ReadOnlyForceRecursive && !s.ReadOnly:
		return errors.New("mount is ReadOnlyForceRecursive but not ReadOnly")
	case m.bind.ReadOnlyNonRecursive && m.bind.ReadOnlyForceRecursive:
		return errors.New("ReadOnlyNonRecursive and ReadOnlyForceRecursive cannot be used together")
	case m.bind.ReadOnlyForceRecursive && m.propagation != "" && m.propagation != mount.PropagationRPrivate:
		return errors.New("ReadOnlyForceRecursive needs propagation rprivate")
	}
	return nil
}

// allMounts sets the mounts of the spec: the defaults without those that the
// user replaces, the engine's files, the user's mounts by depth of target.
func (b *specBuilder) allMounts() error {
	h := b.in.HostConfig
	users := make(map[string]bool, len(b.mounts))
	for _, m := range b.mounts {
		users[m.target] = true
	}
	var mounts []specs.Mount
	for _, m := range defaultMounts(strconv.FormatInt(h.ShmSize, 10), !h.IpcMode.IsNone()) {
		if users[m.Destination] || users["/dev"] && isBelow(m.Destination, "/dev") {
			continue
		}
		if m, ok := b.adaptMapped(b.adapt(m)); ok {
			mounts = append(mounts, m)
		}
	}
	for _, m := range b.files() {
		if !users[m.Destination] {
			mounts = append(mounts, m)
		}
	}
	mounts = append(mounts, b.systemdMounts(users)...)
	mounts = append(mounts, b.deviceBinds...)
	own, err := b.userMounts()
	b.spec.Mounts = append(mounts, own...)
	return err
}

// adapt changes a default mount where the configuration says so.
func (b *specBuilder) adapt(m specs.Mount) specs.Mount {
	h := b.in.HostConfig
	switch m.Destination {
	case "/dev/shm":
		if h.IpcMode.IsHost() {
			return bindMount("/dev/shm", m.Destination, "nosuid", "nodev", "noexec")
		}
		if b.in.ShmDir != "" {
			return bindMount(b.in.ShmDir, m.Destination, "nosuid", "nodev", "noexec")
		}
	case "/sys":
		if h.Privileged {
			m.Options = without(m.Options, "ro")
		}
	case "/sys/fs/cgroup":
		if b.writesCgroups() || b.systemd && !isDir(namedHierarchy) {
			m.Options = without(m.Options, "ro")
		}
	}
	return m
}

// writesCgroups reports whether the container may change all of its groups.
func (b *specBuilder) writesCgroups() bool {
	if w := b.security.writableCgroups; w != nil {
		return *w
	}
	return b.in.HostConfig.Privileged
}

func without(list []string, s string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(o string) bool { return o == s })
}

// bindMount is a bind of the engine's own.
func bindMount(source, target string, options ...string) specs.Mount {
	return specs.Mount{Destination: target, Type: "bind", Source: source, Options: append([]string{"rbind", "rprivate"}, options...)}
}

// files are the engine's files below /etc and the reaper.
func (b *specBuilder) files() []specs.Mount {
	var list []specs.Mount
	for _, f := range [][2]string{{b.in.ResolvConf, "/etc/resolv.conf"}, {b.in.Hostname, "/etc/hostname"}, {b.in.Hosts, "/etc/hosts"}} {
		if f[0] == "" {
			continue
		}
		m := bindMount(f[0], f[1], "nosuid", "nodev")
		if b.in.HostConfig.ReadonlyRootfs {
			m.Options = append(m.Options, "ro")
		}
		list = append(list, m)
	}
	list = append(list, b.zoneMounts()...)
	if b.hasInit() {
		list = append(list, bindMount(b.in.InitPath, initTarget, "ro", "nosuid", "nodev"))
	}
	return list
}

// byDepth are the user's mounts, parents before what lies in them.
func (b *specBuilder) byDepth() []mountPoint {
	list := slices.Clone(b.mounts)
	sort.SliceStable(list, func(i, j int) bool {
		return strings.Count(list[i].target, "/") < strings.Count(list[j].target, "/")
	})
	return list
}

func (b *specBuilder) userMounts() ([]specs.Mount, error) {
	var out []specs.Mount
	for _, m := range b.byDepth() {
		if m.typ == mount.TypeTmpfs {
			out = append(out, specs.Mount{Destination: m.target, Type: "tmpfs", Source: "tmpfs", Options: m.options})
			continue
		}
		if err := b.prepared(m); err != nil {
			return nil, err
		}
		if err := b.propagate(&m); err != nil {
			return nil, err
		}
		bind, err := b.ownedBind(m)
		if err != nil {
			return nil, err
		}
		out = append(out, bind)
	}
	return out, nil
}

// checkSource finds a source that is missing and will not be made.
func (m mountPoint) checkSource() error {
	if m.typ != mount.TypeBind || m.makeSource {
		return nil
	}
	if _, err := os.Stat(m.source); errors.Is(err, fs.ErrNotExist) {
		return errdefs.New(errdefs.InvalidArgument, "invalid mount config for type %q: bind source path does not exist: %s", mount.TypeBind, m.source)
	}
	return nil
}

// prepare makes a missing source of -v, a directory as Docker does.
func (m mountPoint) prepare(make func(dir string) error) error {
	if err := m.checkSource(); err != nil {
		return err
	}
	_, err := os.Stat(m.source)
	if errors.Is(err, fs.ErrNotExist) && m.makeSource {
		err = make(m.source)
	}
	if err != nil {
		return errdefs.New(errdefs.InvalidArgument, "error while creating mount source path '%s': %w", m.source, err)
	}
	return nil
}

// bindOptions: a read-only bind covers the mounts below it too, unless told
// otherwise.
func (m mountPoint) bindOptions() []string {
	options := []string{"rbind"}
	if m.bind.NonRecursive {
		options[0] = "bind"
	}
	if m.readOnly {
		options = append(options, "ro")
		if !m.bind.NonRecursive && !m.bind.ReadOnlyNonRecursive {
			options = append(options, "rro")
		}
	}
	if m.propagation == "" { // of a volume
		return options
	}
	return append(options, string(m.propagation))
}

// propagate lets the root pass on what a shared or slave mount needs, and
// checks that the source has a peer to share with.
func (b *specBuilder) propagate(m *mountPoint) error {
	root := &b.spec.Linux.RootfsPropagation
	if m.mayLack && checkPeer(m.source, "shared or slave", "shared:", "master:") != nil {
		m.propagation = mount.PropagationRPrivate
	}
	switch m.propagation {
	case mount.PropagationShared, mount.PropagationRShared:
		*root = "shared"
		return checkPeer(m.source, "shared", "shared:")
	case mount.PropagationSlave, mount.PropagationRSlave:
		if *root == "" {
			*root = "rslave"
		}
		return checkPeer(m.source, "shared or slave", "shared:", "master:")
	}
	return nil
}

// checkPeer finds the mount that the path lies on and asks for one of the
// properties of mountinfo.
func checkPeer(source, want string, properties ...string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(source))
	if err != nil {
		return err
	}
	var on *mountinfo.Info
	for _, m := range mounts {
		if on == nil || len(m.Mountpoint) >= len(on.Mountpoint) {
			on = m
		}
	}
	if on == nil {
		return fmt.Errorf("could not find the mount of %s", source)
	}
	for _, p := range properties {
		if strings.Contains(on.Optional, p) {
			return nil
		}
	}
	return errdefs.New(errdefs.InvalidArgument, "path %s is mounted on %s but it is not a %s mount", source, on.Mountpoint, want)
}
