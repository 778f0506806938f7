package spec

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/errdefs"
)

var update = flag.Bool("update", false, "write golden files")

// rootWith returns a root with the files, by path.
func rootWith(t testing.TB, files map[string]string) *os.File {
	t.Helper()
	dir := t.TempDir()
	for p, text := range files {
		p = filepath.Join(dir, p)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

const (
	testPasswd = "root:x:0:0:root:/root:/bin/sh\n# comment\napp:x:1000:1001::/home/app:/bin/sh\n1000:x:0:0::/:/bin/sh\nbroken\nneg:x:-1:5::/:\n"
	testGroup  = "root:x:0:\nwheel:x:10:root,app\napps:x:1001:\ndocker:x:999:app\n1001:x:0:\n"
)

func input(t testing.TB, change func(*Input)) Input {
	t.Helper()
	in := Input{
		ID: strings.Repeat("0123456789abcdef", 4), CgroupPath: "tare/ID",
		Config:     &container.Config{Hostname: "0123456789ab", Cmd: []string{"sh", "-c", "true"}},
		HostConfig: &container.HostConfig{},
		Root:       rootWith(t, map[string]string{"etc/passwd": testPasswd, "etc/group": testGroup}),
		Hosts:      "/run/tare/hosts", Hostname: "/run/tare/hostname", ResolvConf: "/run/tare/resolv.conf",
		InitPath: "/usr/libexec/tare-init",
	}
	if change != nil {
		change(&in)
	}
	applyDefaults(in.HostConfig)
	return in
}

func makeSpecOf(t testing.TB, change func(*Input)) *specs.Spec {
	t.Helper()
	s, err := Of(input(t, change))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// golden compares a spec with testdata/NAME.json, without what depends on the
// host: devices of /dev, thermal counters, and the seccomp profile, which its
// own package tests.
func golden(t *testing.T, name string, s *specs.Spec) {
	t.Helper()
	if s.Linux.Seccomp != nil {
		s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: s.Linux.Seccomp.DefaultAction}
	}
	s.Linux.Devices = nil
	s.Linux.MaskedPaths = slices.DeleteFunc(s.Linux.MaskedPaths, func(p string) bool { return strings.Contains(p, "thermal") })
	if c := s.Process.Capabilities; len(c.Bounding) > 14 {
		*c = specs.LinuxCapabilities{Bounding: []string{"ALL"}}
	}
	got, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	p := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)+"\n"); d != "" {
		t.Error(d)
	}
}

func TestSpecOfDefaultContainer(t *testing.T) {
	golden(t, "default", makeSpecOf(t, nil))
}

func TestSpecOfPrivilegedContainer(t *testing.T) {
	s := makeSpecOf(t, func(in *Input) { in.HostConfig.Privileged = true })
	if !slices.ContainsFunc(s.Linux.Devices, func(d specs.LinuxDevice) bool { return d.Path == "/dev/full" }) {
		t.Errorf("devices: %v", s.Linux.Devices)
	}
	golden(t, "privileged", s)
}

func find(s *specs.Spec, target string) *specs.Mount {
	for i := range s.Mounts {
		if s.Mounts[i].Destination == target {
			return &s.Mounts[i]
		}
	}
	return nil
}

func namespace(s *specs.Spec, typ specs.LinuxNamespaceType) string {
	for _, n := range s.Linux.Namespaces {
		if n.Type == typ {
			return "own" + n.Path
		}
	}
	return "host"
}

// TestSpecParts changes one thing of the input and looks at one part of the
// spec.
func TestSpecParts(t *testing.T) {
	dir := t.TempDir()
	truth := true
	umask := uint32(0o27)
	for name, c := range map[string]struct {
		change func(*Input)
		part   func(*specs.Spec) any
		want   any
	}{
		"pid host":      {func(in *Input) { in.HostConfig.PidMode = "host" }, func(s *specs.Spec) any { return namespace(s, specs.PIDNamespace) }, "host"},
		"pid container": {func(in *Input) { in.HostConfig.PidMode = "container:x"; in.PIDOf = 7 }, func(s *specs.Spec) any { return namespace(s, specs.PIDNamespace) }, "own/proc/7/ns/pid"},
		"ipc container": {func(in *Input) { in.HostConfig.IpcMode = "container:x"; in.IPCOf = 7; in.ShmDir = "/shm" }, func(s *specs.Spec) any { return find(s, "/dev/shm").Source + namespace(s, specs.IPCNamespace) }, "/shmown/proc/7/ns/ipc"},
		"ipc host": {func(in *Input) { in.HostConfig.IpcMode = "host" }, func(s *specs.Spec) any {
			return find(s, "/dev/shm").Source + find(s, "/dev/mqueue").Type + namespace(s, specs.IPCNamespace)
		}, "/dev/shmmqueuehost"},
		"ipc none": {func(in *Input) { in.HostConfig.IpcMode = "none" }, func(s *specs.Spec) any { return find(s, "/dev/shm") == nil && find(s, "/dev/mqueue") == nil }, true},
		"network host": {func(in *Input) { in.HostConfig.NetworkMode = "host" }, func(s *specs.Spec) any {
			return namespace(s, specs.NetworkNamespace) + s.Linux.Sysctl["net.ipv4.ping_group_range"]
		}, "host"},
		"uts host":      {func(in *Input) { in.HostConfig.UTSMode = "host" }, func(s *specs.Spec) any { return s.Hostname + namespace(s, specs.UTSNamespace) }, "host"},
		"cgroupns host": {func(in *Input) { in.HostConfig.CgroupnsMode = "host" }, func(s *specs.Spec) any { return namespace(s, specs.CgroupNamespace) }, "host"},
		"drop all": {func(in *Input) {
			in.HostConfig.CapDrop = []string{"all"}
			in.HostConfig.CapAdd = []string{"net_admin"}
		}, func(s *specs.Spec) any { return strings.Join(s.Process.Capabilities.Effective, " ") }, "CAP_NET_ADMIN"},
		"add all": {func(in *Input) {
			in.HostConfig.CapAdd = []string{"ALL"}
			in.HostConfig.CapDrop = []string{"CAP_KILL"}
		}, func(s *specs.Spec) any {
			return slices.Contains(s.Process.Capabilities.Bounding, "CAP_SYS_ADMIN") && !slices.Contains(s.Process.Capabilities.Bounding, "CAP_KILL")
		}, true},
		"user caps": {func(in *Input) { in.Config.User = "app" }, func(s *specs.Spec) any {
			return len(s.Process.Capabilities.Bounding)*100 + len(s.Process.Capabilities.Effective)
		}, 1400},
		"home":     {func(in *Input) { in.Config.User = "app" }, func(s *specs.Spec) any { return slices.Contains(s.Process.Env, "HOME=/home/app") }, true},
		"own home": {func(in *Input) { in.Config.Env = []string{"HOME=/x"} }, func(s *specs.Spec) any { return s.Process.Env[2:] }, []string{"HOME=/x"}},
		"env": {func(in *Input) {
			in.Config.Tty = true
			in.Config.Env = []string{"A=1", "PATH=/bin", "A=2", "TERM", "B"}
		}, func(s *specs.Spec) any { return s.Process.Env },
			[]string{"PATH=/bin", "HOSTNAME=0123456789ab", "A=2", "HOME=/root"}},
		"entrypoint":     {func(in *Input) { in.Config.Entrypoint = []string{"/e"} }, func(s *specs.Spec) any { return s.Process.Args }, []string{"/e", "sh", "-c", "true"}},
		"init":           {func(in *Input) { in.HostConfig.Init = &truth }, func(s *specs.Spec) any { return append(s.Process.Args, find(s, "/sbin/docker-init").Source) }, []string{"/sbin/docker-init", "--", "sh", "-c", "true", "/usr/libexec/tare-init"}},
		"init, pid host": {func(in *Input) { in.HostConfig.Init = &truth; in.HostConfig.PidMode = "host" }, func(s *specs.Spec) any { return s.Process.Args[0] }, "sh"},
		"seccomp off":    {func(in *Input) { in.HostConfig.SecurityOpt = []string{"seccomp=unconfined"} }, func(s *specs.Spec) any { return s.Linux.Seccomp == nil }, true},
		"seccomp builtin": {func(in *Input) {
			in.HostConfig.Privileged = true
			in.HostConfig.SecurityOpt = []string{"seccomp=builtin"}
		}, func(s *specs.Spec) any { return s.Linux.Seccomp != nil }, true},
		"seccomp file": {func(in *Input) {
			in.HostConfig.SecurityOpt = []string{`seccomp={"defaultAction":"SCMP_ACT_ALLOW"}`}
		}, func(s *specs.Spec) any { return string(s.Linux.Seccomp.DefaultAction) }, "SCMP_ACT_ALLOW"},
		"no new privileges":       {func(in *Input) { in.HostConfig.SecurityOpt = []string{"no-new-privileges"} }, func(s *specs.Spec) any { return s.Process.NoNewPrivileges }, true},
		"writable cgroups, short": {func(in *Input) { in.HostConfig.SecurityOpt = []string{"writable-cgroups"} }, func(s *specs.Spec) any { return slices.Contains(find(s, "/sys/fs/cgroup").Options, "ro") }, false},
		"writable cgroups":        {func(in *Input) { in.HostConfig.SecurityOpt = []string{"writable-cgroups=true"} }, func(s *specs.Spec) any { return slices.Contains(find(s, "/sys/fs/cgroup").Options, "ro") }, false},
		"systempaths":             {func(in *Input) { in.HostConfig.MaskedPaths = []string{}; in.HostConfig.ReadonlyPaths = []string{} }, func(s *specs.Spec) any { return len(s.Linux.MaskedPaths) + len(s.Linux.ReadonlyPaths) }, 0},
		"apparmor":                {func(in *Input) { in.AppArmor = "tare-default" }, func(s *specs.Spec) any { return s.Process.ApparmorProfile }, "tare-default"},
		"apparmor off": {func(in *Input) {
			in.AppArmor = "tare-default"
			in.HostConfig.SecurityOpt = []string{"apparmor=unconfined"}
		}, func(s *specs.Spec) any { return s.Process.ApparmorProfile }, ""},
		"read-only": {func(in *Input) { in.HostConfig.ReadonlyRootfs = true }, func(s *specs.Spec) any {
			return s.Root.Readonly && slices.Contains(find(s, "/etc/hosts").Options, "ro")
		}, true},
		"tmpfs": {func(in *Input) { in.HostConfig.Tmpfs = map[string]string{"/t": "size=1m,exec,mode=1777"} }, func(s *specs.Spec) any { return find(s, "/t").Options },
			[]string{"nosuid", "nodev", "size=1m", "exec", "mode=1777"}},
		"shm size": {func(in *Input) { in.HostConfig.ShmSize = 1 << 20 }, func(s *specs.Spec) any { return find(s, "/dev/shm").Options[4] }, "size=1048576"},
		"bind":     {func(in *Input) { in.HostConfig.Binds = []string{dir + ":/x"} }, func(s *specs.Spec) any { return find(s, "/x").Options }, []string{"rbind", "rprivate"}},
		"bind ro":  {func(in *Input) { in.HostConfig.Binds = []string{dir + ":/x/:ro,z"} }, func(s *specs.Spec) any { return find(s, "/x").Options }, []string{"rbind", "ro", "rro", "rprivate"}},
		"mount": {func(in *Input) {
			in.HostConfig.Mounts = []mount.Mount{{Type: "bind", Source: dir, Target: "/x", ReadOnly: true, BindOptions: &mount.BindOptions{NonRecursive: true}}}
		}, func(s *specs.Spec) any { return find(s, "/x").Options }, []string{"bind", "ro", "rprivate"}},
		"missing source of -v": {func(in *Input) { in.HostConfig.Binds = []string{dir + "/new/sub:/x"} }, func(s *specs.Spec) any { st, err := os.Stat(dir + "/new/sub"); return err == nil && st.IsDir() }, true},
		"own /dev":             {func(in *Input) { in.HostConfig.Binds = []string{dir + ":/dev"} }, func(s *specs.Spec) any { return find(s, "/dev/shm") == nil && find(s, "/dev").Type == "bind" }, true},
		"own hosts":            {func(in *Input) { in.HostConfig.Binds = []string{dir + ":/etc/hosts"} }, func(s *specs.Spec) any { return find(s, "/etc/hosts").Source }, dir},
		"mount unmasks":        {func(in *Input) { in.HostConfig.Binds = []string{dir + ":/sys/kernel/debug"} }, func(s *specs.Spec) any { return slices.Contains(s.Linux.MaskedPaths, "/sys/kernel/debug") }, false},
		"parents first":        {func(in *Input) { in.HostConfig.Binds = []string{dir + ":/a/b/c", dir + ":/a"} }, func(s *specs.Spec) any { return s.Mounts[len(s.Mounts)-1].Destination }, "/a/b/c"},
		"device": {func(in *Input) {
			in.HostConfig.Devices = []container.DeviceMapping{{PathOnHost: "/dev/zero", PathInContainer: "/dev/z", CgroupPermissions: "r"}}
		}, func(s *specs.Spec) any {
			r := s.Linux.Resources.Devices[len(s.Linux.Resources.Devices)-1]
			return s.Linux.Devices[0].Path + r.Type + r.Access
		}, "/dev/zcr"},
		"device rule": {func(in *Input) { in.HostConfig.DeviceCgroupRules = []string{"c 10:* rw"} }, func(s *specs.Spec) any {
			r := s.Linux.Resources.Devices[len(s.Linux.Resources.Devices)-1]
			return *r.Major == 10 && r.Minor == nil && r.Access == "rw" && r.Allow
		}, true},
		"ulimit": {func(in *Input) { in.HostConfig.Ulimits = []*container.Ulimit{{Name: "nofile", Soft: 10, Hard: -1}} }, func(s *specs.Spec) any { return s.Process.Rlimits[0] }, specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Soft: 10, Hard: 1<<64 - 1}},
		"cpus":   {func(in *Input) { in.HostConfig.NanoCPUs = 1.5e9 }, func(s *specs.Spec) any { return *s.Linux.Resources.CPU.Quota }, int64(150000)},
		"real time": {func(in *Input) { in.HostConfig.CPURealtimePeriod, in.HostConfig.CPURealtimeRuntime = 900, 800 }, func(s *specs.Spec) any {
			return [2]int64{int64(*s.Linux.Resources.CPU.RealtimePeriod), *s.Linux.Resources.CPU.RealtimeRuntime}
		}, [2]int64{900, 800}},
		"memory":     {func(in *Input) { in.HostConfig.Memory = 64 << 20 }, func(s *specs.Spec) any { return *s.Linux.Resources.Memory.Swap }, int64(128 << 20)},
		"pids":       {nil, func(s *specs.Spec) any { return *s.Linux.Resources.Pids.Limit }, int64(4096)},
		"pids all":   {func(in *Input) { in.HostConfig.PidsLimit = new(int64) }, func(s *specs.Spec) any { return *s.Linux.Resources.Pids.Limit }, int64(-1)},
		"oom":        {func(in *Input) { in.HostConfig.OomScoreAdj = -5 }, func(s *specs.Spec) any { return *s.Process.OOMScoreAdj }, -5},
		"umask":      {func(in *Input) { in.HostConfig.Umask = &umask }, func(s *specs.Spec) any { return *s.Process.User.Umask }, uint32(0o27)},
		"sysctl":     {func(in *Input) { in.HostConfig.Sysctls = map[string]string{"net.core.somaxconn": "9"} }, func(s *specs.Spec) any { return s.Linux.Sysctl["net.core.somaxconn"] }, "9"},
		"console":    {func(in *Input) { in.Config.Tty = true; in.HostConfig.ConsoleSize = [2]uint{24, 80} }, func(s *specs.Spec) any { return *s.Process.ConsoleSize }, specs.Box{Height: 24, Width: 80}},
		"annotation": {func(in *Input) { in.HostConfig.Annotations = map[string]string{"a": "b"} }, func(s *specs.Spec) any { return s.Annotations["a"] }, "b"},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.want, c.part(makeSpecOf(t, c.change))); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestSpecOfRefusesInitWithoutOne(t *testing.T) {
	truth := true
	_, err := Of(input(t, func(in *Input) { in.HostConfig.Init, in.InitPath = &truth, "" }))
	if !errdefs.Is(err, errdefs.NotImplemented) {
		t.Error(err)
	}
}

func TestSpecOfRefusesStoppedPartners(t *testing.T) {
	for _, change := range []func(*Input){
		func(in *Input) { in.HostConfig.PidMode = "container:x" },
		func(in *Input) { in.HostConfig.IpcMode = "container:x" },
	} {
		if _, err := Of(input(t, change)); !errdefs.Is(err, errdefs.Conflict) {
			t.Error(err)
		}
	}
}
