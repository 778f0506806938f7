package seccomp

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"pgregory.net/rapid"
)

var dockerCaps = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

func ret(t *testing.T, p *specs.LinuxSeccomp, c call) uint32 {
	t.Helper()
	prog, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	r, _, err := run(prog, c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func defaultProfile(t testing.TB, caps ...string) *specs.LinuxSeccomp {
	t.Helper()
	p, err := Default(append(caps, dockerCaps...))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDefaultProfileRefusesKernelSurface(t *testing.T) {
	p := defaultProfile(t)
	refused := []string{
		"io_uring_setup", "userfaultfd", "bpf", "perf_event_open", "keyctl", "add_key", "request_key", "open_by_handle_at",
		"mount", "umount2", "fsopen", "open_tree", "move_mount", "mount_setattr", "unshare", "setns", "kexec_load",
		"init_module", "reboot", "swapon", "pivot_root", "acct", "iopl",
	}
	for _, a := range []*abi{x8664, x86, x32} {
		for _, n := range refused {
			nr, ok := a.table[n]
			if !ok {
				continue
			}
			if r := ret(t, p, call{nr: uint32(nr) | a.bit, arch: a.audit}); r != retErrno|eperm {
				t.Errorf("%s %s: %#x", a.name, n, r)
			}
		}
		for _, n := range []string{"read", "openat", "execve", "futex", "pidfd_open", "close_range", "mseal", "rt_sigaction", "ioctl"} {
			if r := ret(t, p, call{nr: uint32(a.table[n]) | a.bit, arch: a.audit}); r != retAllow {
				t.Errorf("%s %s: %#x", a.name, n, r)
			}
		}
		if r := ret(t, p, call{nr: uint32(a.table["clone3"]) | a.bit, arch: a.audit}); r != retErrno|enosys {
			t.Errorf("%s clone3: %#x", a.name, r)
		}
	}
}

func TestDefaultProfileChecksArguments(t *testing.T) {
	const (
		newUser = 0x10000000
		thread  = 0x3d0f00
		afInet  = 2
		afAlg   = 38
	)
	admin := defaultProfile(t, "CAP_SYS_ADMIN")
	for _, c := range []struct {
		name    string
		p       *specs.LinuxSeccomp
		arg     uint64
		allowed bool
	}{
		{"clone", defaultProfile(t), thread, true},
		{"clone", defaultProfile(t), newUser, false},
		{"clone", admin, newUser, true},
		{"personality", defaultProfile(t), 0x20008, true},
		{"personality", defaultProfile(t), math.MaxUint32, true},
		{"personality", defaultProfile(t), math.MaxUint64, false},
		{"personality", defaultProfile(t), 0x0040000, false},
		{"socket", defaultProfile(t), afInet, true},
		{"socket", defaultProfile(t), afAlg, false},
		{"socket", defaultProfile(t), 1<<32 | afInet, false},
		{"mount", admin, 0, true},
	} {
		r := ret(t, c.p, call{nr: uint32(x8664.table[c.name]), arch: x8664.audit, args: [6]uint64{c.arg}})
		if (r == retAllow) != c.allowed {
			t.Errorf("%s(%#x): %#x", c.name, c.arg, r)
		}
	}
}

func TestDefaultProfileIsShortAndQuick(t *testing.T) {
	prog, err := Compile(defaultProfile(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d instructions", len(prog)/8)
	if n := len(prog) / 8; n > 1600 {
		t.Errorf("%d instructions", n)
	}
	for nr := range uint32(500) {
		if _, steps, err := run(prog, call{nr: nr, arch: x8664.audit}); err != nil || steps > 60 {
			t.Errorf("number %d: %d steps, %v", nr, steps, err)
		}
	}
}

func TestForeignConventionsEndTheThread(t *testing.T) {
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchX86_64}}
	for _, c := range []call{{nr: 0, arch: x86.audit}, {nr: x32Bit, arch: x8664.audit}, {nr: 0, arch: aarch64.audit}} {
		if r := ret(t, p, c); r != retKillThread {
			t.Errorf("%+v: %#x", c, r)
		}
	}
	if r := ret(t, p, call{nr: math.MaxUint32, arch: x8664.audit}); r != retAllow {
		t.Errorf("cancelled call: %#x", r)
	}
}

func TestUnknownNewCallsFallBack(t *testing.T) {
	one := uint(1)
	for _, c := range []struct {
		def   specs.LinuxSeccompAction
		errno *uint
		want  uint32
	}{
		{specs.ActErrno, nil, retErrno | enosys},
		{specs.ActErrno, &one, retErrno | eperm},
		{specs.ActAllow, nil, retAllow},
		{specs.ActLog, nil, retLog},
		{specs.ActKillProcess, nil, retErrno | enosys},
	} {
		p := &specs.LinuxSeccomp{DefaultAction: c.def, DefaultErrnoRet: c.errno, Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read", "statx"}, Action: specs.ActAllow},
		}}
		if r := ret(t, p, call{nr: 2000, arch: x8664.audit}); r != c.want {
			t.Errorf("%s: %#x", c.def, r)
		}
	}
}

func TestSocketcallFollowsSocketRules(t *testing.T) {
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86}, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"connect"}, Action: specs.ActAllow},
		{Names: []string{"socket"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Value: 1, Op: specs.OpEqualTo}}},
	}}
	mux := uint32(x86.table["socketcall"])
	if r := ret(t, p, call{nr: mux, arch: x86.audit, args: [6]uint64{3}}); r != retAllow {
		t.Errorf("connect: %#x", r)
	}
	if r := ret(t, p, call{nr: mux, arch: x86.audit, args: [6]uint64{1}}); r == retAllow {
		t.Errorf("socket: %#x", r)
	}
}

func TestCompileNamesWhatIsWrong(t *testing.T) {
	big := uint(5000)
	rule := func(s specs.LinuxSyscall) *specs.LinuxSeccomp {
		s.Names = []string{"read"}
		return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{s}}
	}
	arg := func(a specs.LinuxSeccompArg) *specs.LinuxSeccomp {
		return rule(specs.LinuxSyscall{Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{a}})
	}
	many := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}
	for v := range uint64(3000) {
		many.Syscalls = append(many.Syscalls, specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActErrno,
			Args: []specs.LinuxSeccompArg{{Value: v, Op: specs.OpMaskedEqual}}})
	}
	for want, p := range map[string]*specs.LinuxSeccomp{
		"no seccomp profile":                           nil,
		`unknown seccomp action "SCMP_ACT_MAYBE"`:      {DefaultAction: "SCMP_ACT_MAYBE"},
		`unknown seccomp action ""`:                    rule(specs.LinuxSyscall{}),
		`unknown seccomp architecture "SCMP_ARCH_Z80"`: {DefaultAction: specs.ActAllow, Architectures: []specs.Arch{"SCMP_ARCH_Z80"}},
		"errno 5000 is out of range":                   rule(specs.LinuxSyscall{Action: specs.ActErrno, ErrnoRet: &big}),
		"argument index 6":                             arg(specs.LinuxSeccompArg{Index: 6, Op: specs.OpEqualTo}),
		`unknown operator "SCMP_CMP_XX"`:               arg(specs.LinuxSeccompArg{Op: "SCMP_CMP_XX"}),
		"the kernel takes 4096":                        many,
	} {
		if _, err := Compile(p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// sampleCalls covers the numbers and argument values that a profile names,
// their neighbours, and random ones.
func sampleCalls(p *specs.LinuxSeccomp, r *rand.Rand) []call {
	values := []uint64{0, 1, math.MaxUint32, math.MaxUint32 + 1, math.MaxUint64}
	for _, s := range p.Syscalls {
		for _, a := range s.Args {
			values = append(values, a.Value, a.Value+1, a.Value-1, a.Value^1<<32, a.ValueTwo, a.ValueTwo|^a.Value)
		}
	}
	var calls []call
	add := func(arch, nr uint32) {
		c := call{nr: nr, arch: arch}
		for i := range c.args {
			c.args[i] = values[r.IntN(len(values))]
		}
		calls = append(calls, c)
	}
	for _, a := range []*abi{x8664, x86, x32} {
		for _, s := range p.Syscalls {
			for _, n := range s.Names {
				if nr, ok := a.table[n]; ok {
					for d := range uint32(3) {
						add(a.audit, (uint32(nr)|a.bit)+d-1)
						add(a.audit, uint32(nr)|a.bit)
					}
				}
			}
		}
		for range 40 {
			add(a.audit, r.Uint32N(600)|a.bit)
		}
		for op := range uint64(26) {
			add(a.audit, uint32(a.table["socketcall"]))
			calls[len(calls)-1].args[0] = op
		}
		add(a.audit, math.MaxUint32)
		add(a.audit, r.Uint32())
	}
	return calls
}

func compare(t testing.TB, p *specs.LinuxSeccomp, r *rand.Rand) {
	t.Helper()
	prog, err := Compile(p)
	if err != nil {
		return
	}
	for _, c := range sampleCalls(p, r) {
		got, _, err := run(prog, c)
		if err != nil {
			t.Fatal(err)
		}
		if want := evaluate(p, c); got != want {
			text, _ := json.Marshal(p)
			t.Fatalf("%+v: filter %#x, profile %#x\n%s", c, got, want, text)
		}
	}
}

func TestDefaultFilterEqualsItsProfile(t *testing.T) {
	for _, p := range []*specs.LinuxSeccomp{defaultProfile(t), defaultProfile(t, "CAP_SYS_ADMIN", "CAP_BPF", "CAP_SYS_TIME")} {
		for seed := range uint64(5) {
			compare(t, p, rand.New(rand.NewPCG(seed, 1)))
		}
	}
}

func TestFilterEqualsItsProfile(t *testing.T) {
	names := []string{"read", "write", "open", "ioctl", "socket", "connect", "clone", "execve", "semop", "personality", "statx", "nosuch", "rseq"}
	actions := []specs.LinuxSeccompAction{specs.ActAllow, specs.ActErrno, specs.ActKill, specs.ActKillProcess, specs.ActTrap, specs.ActTrace, specs.ActLog}
	ops := []specs.LinuxSeccompOperator{specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual}
	value := rapid.OneOf(rapid.Uint64Range(0, 4), rapid.Uint64(), rapid.Just(uint64(1)<<32), rapid.Uint64Range(1<<32-2, 1<<32+2))
	errno := rapid.OneOf(rapid.Just[*uint](nil), rapid.Ptr(rapid.UintRange(0, 200), false))
	arg := rapid.Custom(func(t *rapid.T) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: rapid.UintRange(0, 2).Draw(t, "index"), Op: rapid.SampledFrom(ops).Draw(t, "op"),
			Value: value.Draw(t, "value"), ValueTwo: value.Draw(t, "two")}
	})
	rule := rapid.Custom(func(t *rapid.T) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: rapid.SliceOfN(rapid.SampledFrom(names), 1, 4).Draw(t, "names"),
			Action: rapid.SampledFrom(actions).Draw(t, "action"), ErrnoRet: errno.Draw(t, "errno"),
			Args: rapid.SliceOfN(arg, 0, 4).Draw(t, "args")}
	})
	rapid.Check(t, func(rt *rapid.T) {
		p := &specs.LinuxSeccomp{DefaultAction: rapid.SampledFrom(actions).Draw(rt, "default"), DefaultErrnoRet: errno.Draw(rt, "errno"),
			Architectures: rapid.SliceOf(rapid.SampledFrom([]specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32, specs.ArchARM})).Draw(rt, "archs"),
			Syscalls:      rapid.SliceOfN(rule, 0, 12).Draw(rt, "rules")}
		compare(t, p, rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1)))
	})
}

func FuzzSeccompJSON(f *testing.F) {
	f.Add(`{}`)
	f.Add(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[null]}`)
	f.Add(`{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],"syscalls":[{"name":"read","action":"SCMP_ACT_ALLOW","args":[]}]}`)
	f.Add(`{"defaultAction":"SCMP_ACT_ALLOW","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X32"]}],"syscalls":[{"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":97,"args":[{"index":0,"value":40,"op":"SCMP_CMP_EQ"},{"index":1,"value":1,"valueTwo":1,"op":"SCMP_CMP_MASKED_EQ"}],"includes":{"minKernel":"4.8"},"excludes":{"caps":["CAP_KILL"]}}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text, dockerCaps)
		if err != nil || p == nil {
			return
		}
		compare(t, p, rand.New(rand.NewPCG(1, 2)))
	})
}

func TestParseNamesWhatIsWrong(t *testing.T) {
	for want, text := range map[string]string{
		"Decoding seccomp profile failed":         `{"syscalls":[null]}`,
		"Decoding seccomp profile failed: invali": `x`,
		"both 'name' and 'names'":                 `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"read","names":["write"],"action":"SCMP_ACT_ALLOW"}]}`,
		"both 'architectures' and 'archMap'":      `{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86"}],"syscalls":[]}`,
	} {
		if _, err := Parse(text, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if p, err := Parse(`{}`, nil); p != nil || err != nil {
		t.Errorf("empty profile: %v, %v", p, err)
	}
}

func BenchmarkCompile(b *testing.B) {
	p := defaultProfile(b)
	b.Run("cached", func(b *testing.B) {
		for b.Loop() {
			if _, err := Compile(p); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("fresh", func(b *testing.B) {
		for b.Loop() {
			if _, err := compile(p); err != nil {
				b.Fatal(err)
			}
		}
	})
}
