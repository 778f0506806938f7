package netlink

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func fullBatch() *Batch {
	var b Batch
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	b.AddVeth(Veth{Name: "a", Index: 5, MAC: mac, Master: 3, Group: 7, MTU: 1400, PeerName: "eth0", PeerIndex: 2, PeerMAC: mac, PeerNS: 9})
	b.AddBridge("br", mac, 1500, 1)
	b.SetAlias(5, "odd")
	b.AddAddr(5, Addr{Prefix: netip.MustParsePrefix("10.0.0.1/24")})
	b.AddRoute(Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.0.0.2"), Index: 5})
	b.AddNeighbour(5, netip.MustParseAddr("fd00::1"), mac)
	b.AddForwarding(5, mac)
	b.SetHairpin(5)
	return &b
}

func TestBatchIsASequenceOfAlignedMessages(t *testing.T) {
	b := fullBatch()
	n := 0
	if len(b.buf)%4 != 0 {
		t.Errorf("%d bytes", len(b.buf))
	}
	err := eachMessage(b.buf, func(m message) error {
		n++
		if int(m.seq) != n || m.flags&unix.NLM_F_ACK == 0 {
			t.Errorf("message %d: sequence number %d, flags %#x", n, m.seq, m.flags)
		}
		return nil
	})
	if err != nil || n != len(b.ops) || len(b.nests) != 0 {
		t.Errorf("%d messages of %d, %d open attributes, %v", n, len(b.ops), len(b.nests), err)
	}
}

func TestLinkIsParsedAsItWasWritten(t *testing.T) {
	b := fullBatch()
	eachMessage(b.buf, func(m message) error {
		if m.seq == 1 {
			l := parseLink(m.body)
			if l.Name != "a" || l.Index != 5 || l.Kind != "veth" || l.Master != 3 || l.Group != 7 || l.MTU != 1400 || !l.Up || l.MAC.String() != "02:00:00:00:00:01" {
				t.Errorf("%+v", l)
			}
		}
		return nil
	})
}

func TestBroadcast(t *testing.T) {
	for p, want := range map[string]string{"172.17.0.2/16": "172.17.255.255", "10.1.2.3/29": "10.1.2.7", "10.0.0.1/8": "10.255.255.255"} {
		if got, _ := netip.AddrFromSlice(broadcast(netip.MustParsePrefix(p))); got.String() != want {
			t.Errorf("%s: %s", p, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(fullBatch().buf)
	f.Fuzz(func(t *testing.T, p []byte) {
		eachMessage(p, func(m message) error {
			m.errno()
			if len(m.body) >= unix.SizeofIfInfomsg {
				parseLink(m.body)
			}
			if len(m.body) >= unix.SizeofRtMsg {
				parseRoute(m.body)
			}
			return nil
		})
	})
}
