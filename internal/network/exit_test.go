package network

import (
	"net/netip"
	"testing"

	"github.com/tare-engine/tare/internal/network/vlan"
)

// TestLayer3LeadsOutByBothFamilies: a network whose endpoints lead out without a gateway goes
// before one that leads out by one family only.
func TestLayer3LeadsOutByBothFamilies(t *testing.T) {
	s := &Service{table: newTable()}
	four := &Endpoint{network: &Network{}, NetworkName: "a", Gateway: netip.MustParseAddr("10.0.0.1")}
	both := &Endpoint{network: &Network{parent: vlan.New(vlan.Options{Kind: vlan.Ipvlan, Mode: "l3"}, nil)}, NetworkName: "b"}
	both.IP, both.IP6 = netip.MustParsePrefix("192.0.2.2/24"), netip.MustParsePrefix("2001:db8::2/64")
	s.endpoints["c"] = []*Endpoint{four, both}
	for f, e := range s.bestExits("c") {
		if e != both {
			t.Errorf("the way out by IPv%d is network %s", f, e.NetworkName)
		}
	}
	if best := s.bestExits("c"); len(best) != len(families) {
		t.Errorf("%v", best)
	}
}
