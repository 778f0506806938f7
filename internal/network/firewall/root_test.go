//go:build root

package firewall

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/tare-engine/tare/internal/linux/ruleset"
	"github.com/tare-engine/tare/internal/network/networktest"
)

func TestMain(m *testing.M) { networktest.Main(m) }

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
		// Three or four chains of each, and the six that all share beside tare-user.
		if want := 3*1000 + 500 + 7; len(r.Chains) != want {
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
