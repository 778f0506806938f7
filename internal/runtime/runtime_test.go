package runtime

import (
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/mount"
)

// small is the least spec that passes the checks.
func small() *specs.Spec {
	return &specs.Spec{
		Process: &specs.Process{Args: []string{"true"}, Cwd: "/"},
		Linux:   &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: "mount"}, {Type: "ipc"}, {Type: "uts"}}},
	}
}

func TestWhatIsNotDoneIsAnError(t *testing.T) {
	for field, change := range map[string]func(*specs.Spec){
		"hooks":                        func(s *specs.Spec) { s.Hooks = &specs.Hooks{} },
		"platform":                     func(s *specs.Spec) { s.Windows = &specs.Windows{} },
		"linux.uidMappings":            func(s *specs.Spec) { s.Linux.UIDMappings = make([]specs.LinuxIDMapping, 1) },
		"linux.intelRdt":               func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{} },
		"linux.netDevices":             func(s *specs.Spec) { s.Linux.NetDevices = map[string]specs.LinuxNetDevice{"x": {}} },
		"linux.seccomp.listenerPath":   func(s *specs.Spec) { s.Linux.Seccomp = &specs.LinuxSeccomp{ListenerPath: "/x"} },
		"process.args":                 func(s *specs.Spec) { s.Process.Args = nil },
		"process.cwd":                  func(s *specs.Spec) { s.Process.Cwd = "relative" },
		"process.selinuxLabel":         func(s *specs.Spec) { s.Process.SelinuxLabel = "x" },
		"NUL":                          func(s *specs.Spec) { s.Process.Env = []string{"a=\x00"} },
		"sysctl \"kernel.core_pattern": func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"kernel.core_pattern": "|/x"} },
	} {
		s := small()
		change(s)
		err := check(Config{Spec: s})
		if k := errdefs.KindOf(err); err == nil || !strings.Contains(err.Error(), field) || k != errdefs.InvalidArgument && k != errdefs.NotImplemented {
			t.Errorf("%s: %v", field, err)
		}
	}
	if err := check(Config{Spec: small()}); err != nil {
		t.Error(err)
	}
}

func TestSysctlNeedsItsNamespace(t *testing.T) {
	for _, c := range []struct {
		key, value string
		ok         bool
	}{
		{"kernel.shmmax", "1", true}, {"kernel/shmmax", "1", true}, {"fs.mqueue.msg_max", "1", true}, {"kernel.hostname", "x", true},
		{"net.ipv4.ip_forward", "1", false}, // no network namespace
		{"kernel.shmmaxx", "1", false}, {"kernel.panic", "1", false}, {"vm.swappiness", "1", false},
		{"fs.mqueue../../kernel/core_pattern", "x", false}, {"fs.mqueue.a\nb", "1", false}, {"kernel.shmmax", "1\n2", false}, {"/kernel/shmmax", "1", false},
	} {
		s := small()
		s.Linux.Sysctl = map[string]string{c.key: c.value}
		if err := check(Config{Spec: s}); (err == nil) != c.ok {
			t.Errorf("%q=%q: %v", c.key, c.value, err)
		}
	}
}

func TestMountOptions(t *testing.T) {
	for _, c := range []struct {
		typ, opts string
		want      mountOptions
	}{
		{"bind", "rbind,ro,nosuid", mountOptions{bind: true, recursive: true, attr: mount.Change{Set: mount.ReadOnly | mount.NoSuid}}},
		{"none", "bind,ro,rw", mountOptions{bind: true, attr: mount.Change{Clear: mount.ReadOnly}}},
		{"bind", "rbind,rro", mountOptions{bind: true, recursive: true, recAttr: mount.Change{Set: mount.ReadOnly, Recursive: true}}},
		{"tmpfs", "noatime,strictatime", mountOptions{attr: mount.Change{Set: mount.StrictAtime, Clear: mount.AtimeMask}}},
	} {
		got, err := parseOptions(specs.Mount{Destination: "/x", Type: c.typ, Options: strings.Split(c.opts, ",")})
		if err != nil || got.bind != c.want.bind || got.recursive != c.want.recursive || got.attr != c.want.attr || got.recAttr != c.want.recAttr {
			t.Errorf("%s %s: %+v, want %+v; %v", c.typ, c.opts, got, c.want, err)
		}
	}
	got, err := parseOptions(specs.Mount{Destination: "/x", Type: "tmpfs", Options: []string{"size=1m", "rslave", "private", "mode=700", "defaults", ""}})
	if err != nil || strings.Join(got.data, ",") != "size=1m,mode=700" || len(got.propagation) != 2 || got.propagation[0].Propagation != mount.Slave || !got.propagation[0].Recursive {
		t.Errorf("%+v %v", got, err)
	}
	for _, m := range []specs.Mount{
		{Destination: "/x", Type: "tmpfs", Options: []string{"tmpcopyup"}},
		{Destination: "/x", Type: "tmpfs", UIDMappings: make([]specs.LinuxIDMapping, 1)},
	} {
		if _, err := parseOptions(m); errdefs.KindOf(err) == errdefs.Internal {
			t.Errorf("%+v: %v", m, err)
		}
	}
}

func TestPlacesThatWouldUndoTheIsolation(t *testing.T) {
	for _, p := range []mountPoint{
		{Mount: specs.Mount{Destination: "/"}, dest: "/"},
		{Mount: specs.Mount{Destination: "/x/.."}, dest: "/"},
		{Mount: specs.Mount{Destination: "/proc", Type: "bind"}, dest: "/proc"},
		{Mount: specs.Mount{Destination: "/link", Type: "bind"}, dest: "/proc"},
		{Mount: specs.Mount{Destination: "/proc/self/x", Type: "tmpfs"}, dest: "/proc/self/x"},
		{Mount: specs.Mount{Destination: "/proc", Type: "proc"}, dest: "/elsewhere"},
		{Mount: specs.Mount{Destination: "/dev", Type: "tmpfs"}, dest: "/etc"},
		{Mount: specs.Mount{Destination: "/sys", Type: "sysfs"}, dest: "/a"},
		{Mount: specs.Mount{Destination: "/link", Type: "tmpfs"}, dest: "/dev"},
	} {
		if err := checkPlace(&p); err == nil {
			t.Errorf("%s at %s passes", p.Destination, p.dest)
		}
	}
	ok := mountPoint{Mount: specs.Mount{Destination: "/proc/cpuinfo", Type: "bind"}, dest: "/proc/cpuinfo"}
	if err := checkPlace(&ok); err != nil {
		t.Error(err)
	}
}

func TestDeviceNumbers(t *testing.T) {
	for _, c := range []struct {
		major, minor int64
		want         uint64
	}{{1, 3, 0x103}, {254, 0, 0xfe00}, {10, 229, 0xae5}, {259, 300, 0x11032c}, {8, 1048575, 0xfff008ff}} {
		if got := makedev(c.major, c.minor); got != c.want {
			t.Errorf("%d:%d is %#x, want %#x", c.major, c.minor, got, c.want)
		}
	}
	if err := checkDevices([]specs.LinuxDevice{{Path: "/dev/../x", Type: "c"}}); err == nil {
		t.Error("unclean path passes")
	}
	if err := checkDevices([]specs.LinuxDevice{{Path: "/dev/x", Type: "z"}}); err == nil {
		t.Error("unknown type passes")
	}
}
