package spec

import (
	"os"
	"path"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/idrange"
	"github.com/tare-engine/tare/internal/linux/caps"
	"github.com/tare-engine/tare/internal/linux/seccomp"
)

// Input is what a runtime spec is made of. Config and HostConfig have
// passed Validate and have their defaults.
type Input struct {
	ID         string
	Config     *container.Config
	HostConfig *container.HostConfig
	Mounts     MountRules
	Root       *os.File // of the container: users are looked up there

	// Hosts, Hostname and ResolvConf are host paths of the files bound into
	// /etc; empty ones are left out.
	Hosts, Hostname, ResolvConf string
	// Localtime is the host path of the file that becomes /etc/localtime; empty:
	// the image's is left alone.
	Localtime string

	// PIDOf and IPCOf are the first processes of the containers whose namespaces
	// this one joins (container:ID). A network namespace is handed to the runtime
	// as a descriptor.
	PIDOf, IPCOf int

	// UserOf is the process whose user namespace the container is in, with the
	// maps of IDs; 0: it has its own, if it has IDs.
	UserOf int
	// ShmDir is the host directory that becomes /dev/shm where it is shared
	// (--ipc shareable or container:ID).
	ShmDir string

	InitPath   string   // host path of the reaper for --init
	CgroupPath string   // see the function CgroupPath
	CDIDirs    []string // of descriptions of devices by name
	AppArmor   string   // profile of containers that name none; empty: none

	IDs *idrange.Map // of its user namespace; nil: it has the host's
}

// specBuilder fills a spec, part by part.
type specBuilder struct {
	in       Input
	security securityOptions
	mounts   []mountPoint // of the user
	systemd  bool         // is the first process
	hostname string
	home     string
	spec     *specs.Spec

	deviceBinds []specs.Mount // see bindDevice
}

// Of makes the OCI runtime spec of a container. It reads /etc/passwd and
// /etc/group of the root, looks at the host's device nodes, and makes missing
// sources of -v binds as Docker does; else it is a function of its input.
func Of(in Input) (*specs.Spec, error) {
	b, err := newSpecBuilder(in)
	if err != nil {
		return nil, err
	}
	for _, part := range []func() error{
		b.user, b.capabilities, b.process, b.namespaces, b.sysctls, b.paths, b.devices, b.resources, b.seccomp, b.allMounts, b.cdiDevices,
	} {
		if err := part(); err != nil {
			return nil, err
		}
	}
	return b.spec, nil
}

func newSpecBuilder(in Input) (*specBuilder, error) {
	security, err := parseSecurityOpts(in.HostConfig.SecurityOpt)
	if err != nil {
		return nil, err
	}
	mounts, err := mountPoints(in.HostConfig, in.Mounts)
	if err != nil {
		return nil, err
	}
	if err := assignOwners(mounts, in.HostConfig); err != nil {
		return nil, err
	}
	b := &specBuilder{in: in, security: security, mounts: mounts, hostname: in.Config.Hostname, systemd: IsSystemd(in.Config, in.HostConfig)}
	b.spec = &specs.Spec{
		Version: specs.Version,
		Root:    &specs.Root{Path: "rootfs", Readonly: in.HostConfig.ReadonlyRootfs},
		Process: &specs.Process{
			Terminal:        in.Config.Tty,
			NoNewPrivileges: security.noNewPrivileges,
			OOMScoreAdj:     &in.HostConfig.OomScoreAdj,
		},
		Linux:       &specs.Linux{CgroupsPath: "/" + in.CgroupPath},
		Annotations: in.HostConfig.Annotations,
	}
	if in.HostConfig.UTSMode.IsHost() {
		b.hostname, err = os.Hostname()
		return b, err
	}
	b.spec.Hostname, b.spec.Domainname = b.hostname, in.Config.Domainname
	return b, nil
}

func (b *specBuilder) user() error {
	u, err := lookupUser(b.in.Root, b.in.Config.User, b.in.HostConfig.GroupAdd)
	if err != nil {
		return err
	}
	b.home = u.Home
	b.spec.Process.User = u.User
	b.spec.Process.User.Umask = b.in.HostConfig.Umask
	return nil
}

func (b *specBuilder) capabilities() error {
	h := b.in.HostConfig
	list, err := capabilitiesOf(h.CapAdd, h.CapDrop, h.Privileged)
	if err != nil {
		return err
	}
	b.spec.Process.Capabilities = grant(list, b.spec.Process.User.UID)
	return nil
}

// grant gives a process the capabilities. One that is not root has them in its
// bounding set only, as after an execve. The inheritable set stays empty: else
// files with inheritable capabilities would gain them.
func grant(list []string, uid uint32) *specs.LinuxCapabilities {
	if uid != 0 {
		return &specs.LinuxCapabilities{Bounding: list}
	}
	return &specs.LinuxCapabilities{Bounding: list, Effective: list, Permitted: list}
}

func (b *specBuilder) process() error {
	c, p := b.in.Config, b.spec.Process
	if h := b.in.HostConfig; h.Init != nil && *h.Init && b.in.InitPath == "" {
		return errdefs.New(errdefs.NotImplemented, "Init=true: this engine has no init program")
	}
	p.Args = append(append([]string{}, c.Entrypoint...), c.Cmd...)
	if b.hasInit() {
		p.Args = append([]string{initTarget, "--"}, p.Args...)
	}
	p.Cwd = path.Join("/", c.WorkingDir) // that of an old image may be relative
	p.Env = environment(b.hostname, b.home, c.Tty, append(b.systemdEnv(), c.Env...))
	if size := b.in.HostConfig.ConsoleSize; c.Tty && size[0] > 0 && size[1] > 0 {
		p.ConsoleSize = &specs.Box{Height: size[0], Width: size[1]}
	}
	for _, u := range b.in.HostConfig.Ulimits {
		p.Rlimits = append(p.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Hard: uint64(u.Hard), Soft: uint64(u.Soft)})
	}
	p.ApparmorProfile = appArmorOf(b.in.HostConfig, b.in.AppArmor)
	return nil
}

// hasInit reports whether our reaper becomes process 1: not where that is a
// process of somebody else.
func (b *specBuilder) hasInit() bool {
	h := b.in.HostConfig
	return h.Init != nil && *h.Init && h.PidMode.IsPrivate()
}

// defaultPath is where a program without a slash is looked for.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment is the container's: the engine's own few variables, replaced or
// (an entry without "=") removed by the user's, and HOME of the user.
func environment(hostname, home string, tty bool, user []string) []string {
	env := []string{defaultPath, "HOSTNAME=" + hostname}
	if tty {
		env = append(env, "TERM=xterm")
	}
	env = overlayEnv(env, user)
	for _, e := range env {
		if name, value, _ := strings.Cut(e, "="); name == "HOME" && value != "" {
			return env
		}
	}
	return overlayEnv(env, []string{"HOME=" + home})
}

// overlayEnv sets the variables of add in env. The last entry of a name counts
// and stays where the first was; one without "=" removes the variable.
func overlayEnv(env, add []string) []string {
	at := make(map[string]int, len(env)+len(add))
	var out []string
	set := func(e string) {
		name, _, hasValue := strings.Cut(e, "=")
		i, known := at[name]
		switch {
		case known:
			out[i] = e
		case hasValue:
			at[name] = len(out)
			out = append(out, e)
		}
	}
	for _, e := range env {
		set(e)
	}
	for _, e := range add {
		set(e)
	}
	kept := out[:0]
	for _, e := range out {
		if strings.Contains(e, "=") {
			kept = append(kept, e)
		}
	}
	return kept
}

func (b *specBuilder) seccomp() error {
	s := b.security
	profile, err := seccompOf(s.seccomp, b.in.HostConfig.Privileged, b.spec.Process.Capabilities.Bounding)
	if err != nil {
		return err
	}
	b.spec.Linux.Seccomp = profile
	return nil
}

// seccompOf returns the profile that an option asks for: nothing, "builtin",
// "unconfined" or a profile in JSON.
func seccompOf(option string, privileged bool, bounding []string) (*specs.LinuxSeccomp, error) {
	switch {
	case option == "unconfined" || option == "" && privileged:
		return nil, nil
	case option == "" || option == "builtin":
		return seccomp.Default(bounding)
	}
	p, err := seccomp.Parse(option, bounding)
	if err != nil || p == nil {
		return nil, err
	}
	_, err = seccomp.Compile(p)
	return p, err
}

// capabilitiesOf applies additions and removals to the default set.
func capabilitiesOf(add, drop []string, privileged bool) ([]string, error) {
	if privileged {
		return caps.Supported(), nil
	}
	add, err := normalizeCapabilities(add)
	if err != nil {
		return nil, err
	}
	drop, err = normalizeCapabilities(drop)
	if err != nil {
		return nil, err
	}
	base := defaultCapabilities()
	if contains(add, "ALL") {
		base = caps.Supported()
	}
	if contains(drop, "ALL") {
		if contains(add, "ALL") {
			return nil, nil
		}
		return unique(add), nil
	}
	var list []string
	for _, c := range append(base, add...) {
		if c != "ALL" && (!contains(drop, c) || contains(add, c)) {
			list = append(list, c)
		}
	}
	return unique(list), nil
}
