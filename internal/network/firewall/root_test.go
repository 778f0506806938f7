//go:build root

package firewall

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/tare-engine/tare/internal/linux/ruleset"
)

// inside marks the copy of the test program that runs in a network namespace of its
// own.
const inside = "TARE_TEST_NETNS"

func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), inside+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := c.Run()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		os.Exit(e.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestThousandNetworksAreOneTransaction: as at the start of an engine, and after a
// flush.
func TestThousandNetworksAreOneTransaction(t *testing.T) {
	f, err := Open(Config{Table: "t", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var s State
	for i := range 1000 {
		a := netip.AddrFrom4([4]byte{10, byte(i / 256), byte(i), 0})
		s.Networks = append(s.Networks, Network{Name: fmt.Sprint("n", i), Link: fmt.Sprint("n", i), Subnets: []netip.Prefix{netip.PrefixFrom(a, 24)}, ICC: true, Masquerade: true, Internal: i%2 == 0})
		s.Bindings = append(s.Bindings, Binding{"tcp", netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(1000+i)), netip.AddrPortFrom(a, 80)})
	}
	for range 2 {
		if err := f.Apply(s); err != nil {
			t.Fatal(err)
		}
		r, err := ruleset.Read()
		if err != nil {
			t.Fatal(err)
		}
		// Two or three chains of each, and the six that all share beside tare-user.
		if want := 2*1000 + 500 + 7; len(r.Chains) != want {
			t.Errorf("%d chains, want %d", len(r.Chains), want)
		}
		if to := r.Set(ruleset.Table{Family: "inet", Name: "t"}, "to"); to == nil || len(to.Elements) != 1000 {
			t.Error("elements", to)
		}
	}
	if err := f.Destroy(); err != nil {
		t.Fatal(err)
	}
	r, err := ruleset.Read()
	if err != nil || len(r.Chains) != 0 {
		t.Errorf("%d chains, %v", len(r.Chains), err)
	}
}
