package runtime

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/errdefs"
)

// check refuses what the plan would leave out silently, by the field's name.
func check(c Config) error {
	s := c.Spec
	switch {
	case s == nil || s.Process == nil || s.Linux == nil:
		return invalid("process and linux must be set")
	case s.Solaris != nil || s.Windows != nil || s.VM != nil || s.ZOS != nil || s.FreeBSD != nil:
		return unsupported("a platform other than linux")
	}
	if s.Hooks != nil && c.Gate == nil {
		return unsupported("hooks")
	}
	if hasNamespace(s, specs.UserNamespace) && (c.Gate == nil || !slices.Contains(c.SyncPoints, SyncBorn)) {
		return unsupported("linux.namespaces: user")
	}
	if err := checkIDs(s); err != nil {
		return err
	}
	if err := checkHelped(c); err != nil {
		return err
	}
	if err := checkLinux(s.Linux); err != nil {
		return err
	}
	if err := checkSysctl(s); err != nil {
		return err
	}
	return checkProcess(s.Process)
}

func checkLinux(l *specs.Linux) error {
	if err := checkDevices(l.Devices); err != nil {
		return err
	}
	if l.MountLabel != "" && selinux() {
		return unsupported("linux.mountLabel")
	}
	return nil
}

// selinux reports whether the kernel has SELinux, and so labels.
func selinux() bool {
	_, err := os.Stat("/sys/fs/selinux/enforce")
	return err == nil
}

// Ignored tells what of a spec has no effect, as with runc, in words for a
// warning: labels of mounts where no label means anything, and options that a
// bind does not have (mount(2) takes no data for one).
func Ignored(s *specs.Spec) (texts []string) {
	if s.Linux != nil && s.Linux.MountLabel != "" && !selinux() {
		texts = append(texts, "linux.mountLabel is ignored: no SELinux on this host")
	}
	for _, m := range s.Mounts {
		if o, err := parseOptions(m); err == nil && o.bind && len(o.data) > 0 {
			texts = append(texts, fmt.Sprintf("mounts: %s: a bind has no such options, they are ignored: %q", m.Destination, o.data))
		}
	}
	return texts
}

// checkHelped refuses what a plan leaves to its starter, if the plan has no sync
// point for it.
func checkHelped(c Config) error {
	l := c.Spec.Linux
	syncs := func(s SyncPoint) bool { return c.Gate != nil && slices.Contains(c.SyncPoints, s) }
	for field, missing := range map[string]bool{
		"netDevices":           len(l.NetDevices) > 0 && !syncs(SyncBorn),
		"intelRdt":             l.IntelRdt != nil && !syncs(SyncBorn),
		"seccomp.listenerPath": l.Seccomp != nil && l.Seccomp.ListenerPath != "" && !syncs(SyncFilter),
	} {
		if missing {
			return unsupported("linux." + field)
		}
	}
	return nil
}

// noID means "as it is" to setresuid(2): a process would stay root.
const noID = math.MaxUint32

func checkProcess(p *specs.Process) error {
	switch {
	case len(p.Args) == 0:
		return invalid("process.args must not be empty")
	case !strings.HasPrefix(p.Cwd, "/"):
		return invalid("process.cwd %q is not an absolute path", p.Cwd)
	case p.SelinuxLabel != "" && !selinux():
		return invalid("selinux label is specified in config, but selinux is disabled or not supported (process.selinuxLabel)")
	case p.SelinuxLabel != "":
		return unsupported("process.selinuxLabel")
	case p.CommandLine != "" || p.User.Username != "":
		return unsupported("process.commandLine and process.user.username")
	case p.User.UID == noID || p.User.GID == noID || slices.Contains(p.User.AdditionalGids, noID):
		return invalid("process.user: %d is not an id", uint32(noID))
	}
	for _, list := range [][]string{p.Args, p.Env, {p.Cwd}} {
		for _, v := range list {
			if strings.IndexByte(v, 0) >= 0 {
				return invalid("process: %q contains a NUL byte", v)
			}
		}
	}
	return nil
}

// namespaced are the beginnings of sysctl names that belong to a namespace;
// all others would change the host.
var namespaced = map[specs.LinuxNamespaceType][]string{
	specs.IPCNamespace:     {"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced", "fs.mqueue."},
	specs.NetworkNamespace: {"net."},
	specs.UTSNamespace:     {"kernel.domainname", "kernel.hostname"},
}

// checkSysctl lets a sysctl pass only if the container has the namespace that
// it belongs to for itself.
func checkSysctl(s *specs.Spec) error {
	for key, value := range s.Linux.Sysctl {
		typ, ok := namespaceOf(key)
		if !ok || strings.Contains(key, "..") || strings.ContainsAny(key, "\n\x00") || strings.HasPrefix(key, "/") {
			return invalid("sysctl %q is not in a separate kernel namespace", key)
		}
		if strings.ContainsAny(value, "\n\x00") {
			return invalid("sysctl %q: value %q contains a line break", key, value)
		}
		if !hasNamespace(s, typ) {
			return invalid("sysctl %q is not allowed in the host's %s namespace", key, typ)
		}
	}
	return nil
}

func namespaceOf(key string) (specs.LinuxNamespaceType, bool) {
	key = strings.ReplaceAll(key, "/", ".")
	for typ, names := range namespaced {
		for _, n := range names {
			if key == n || strings.HasSuffix(n, ".") && strings.HasPrefix(key, n) {
				return typ, true
			}
		}
	}
	return "", false
}

func hasNamespace(s *specs.Spec, typ specs.LinuxNamespaceType) bool {
	for _, n := range s.Linux.Namespaces {
		if n.Type == typ {
			return true
		}
	}
	return false
}

func invalid(format string, args ...any) error {
	return errdefs.New(errdefs.InvalidArgument, format, args...)
}

func unsupported(field string) error {
	return errdefs.New(errdefs.NotImplemented, "the spec's %s is not supported", field)
}
