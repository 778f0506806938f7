package seccomp

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestFilterEqualsRuncs compares with the filter that runc 1.1.5 and libseccomp
// 2.5.4 made of the same profile, read from a running process by
// PTRACE_SECCOMP_GET_FILTER. The engine above them drops the profile's
// defaultErrnoRet, and that libseccomp knows calls up to number 450.
func TestFilterEqualsRuncs(t *testing.T) {
	text, err := os.ReadFile("testdata/profile.json")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.ReadFile("testdata/runc-1.1.5.bpf")
	if err != nil {
		t.Fatal(err)
	}
	p := &specs.LinuxSeccomp{}
	if err := json.Unmarshal(text, p); err != nil {
		t.Fatal(err)
	}
	p.DefaultErrnoRet = nil
	ours, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d instructions, runc %d", len(ours)/8, len(theirs)/8)
	calls := sampleCalls(p, rand.New(rand.NewPCG(1, 2)))
	for _, a := range []*abi{x8664, x86, x32} {
		for nr := range uint32(451) {
			calls = append(calls, call{nr: nr | a.bit, arch: a.audit, args: [6]uint64{uint64(nr) % 64}})
		}
	}
	compared := 0
	for _, c := range calls {
		if unlike(c) {
			continue
		}
		compared++
		got, _, err := run(ours, c)
		if err != nil {
			t.Fatal(err)
		}
		if want, _, err := run(theirs, c); err != nil || got != want {
			t.Errorf("%+v: ours %#x, runc's %#x, %v", c, got, want, err)
		}
	}
	if compared < 2000 {
		t.Errorf("only %d calls compared", compared)
	}
}

// unlike leaves out what is known to differ: calls newer than that libseccomp;
// numbers that x32 does not have (the kernel refuses them); and upper halves of
// x32's arguments, which libseccomp does not look at.
func unlike(c call) bool {
	if c.nr == math.MaxUint32 {
		return true
	}
	isX32 := c.arch == x8664.audit && c.nr >= x32Bit
	nr := c.nr &^ x32Bit
	if nr > 450 && (!isX32 || nr < 512) || nr == uint32(x8664.table["uretprobe"]) && c.arch == x8664.audit {
		return true
	}
	if !isX32 {
		return false
	}
	for _, n := range []string{"epoll_ctl_old", "epoll_wait_old", "get_thread_area", "set_thread_area"} {
		if nr == uint32(x8664.table[n]) {
			return true
		}
	}
	return slices.ContainsFunc(c.args[:], func(v uint64) bool { return v > math.MaxUint32 })
}
