package hostport

import (
	"net"
	"net/netip"
	"os"
	"testing"
)

func TestListenersAreSeenWithTheirOwners(t *testing.T) {
	for _, c := range []struct{ network, at, asked string }{
		{"tcp4", "127.0.0.1:0", "127.0.0.1"}, {"tcp4", "0.0.0.0:0", "192.0.2.1"}, {"tcp", "[::]:0", "192.0.2.1"}, {"udp4", "127.0.0.1:0", "127.0.0.1"},
	} {
		var addr netip.AddrPort
		if c.network[:3] == "tcp" {
			l, err := net.Listen(c.network, c.at)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			addr = l.Addr().(*net.TCPAddr).AddrPort()
		} else {
			l, err := net.ListenPacket(c.network, c.at)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			addr = l.LocalAddr().(*net.UDPAddr).AddrPort()
		}
		list, err := Listeners(0, c.network[:3], addr.Port())
		if err != nil || len(list) != 1 || !list[0].Receives(netip.MustParseAddr(c.asked)) {
			t.Fatalf("%+v: %+v, %v", c, list, err)
		}
		if list[0].Addr.Addr().IsLoopback() == list[0].Receives(netip.MustParseAddr("192.0.2.9")) {
			t.Errorf("%+v", list)
		}
		if pid, name := Owner(list[0].Inode); pid != os.Getpid() || name == "" {
			t.Errorf("owner %d %q", pid, name)
		}
	}
	// A reservation is no listener.
	f, err := Reserve("tcp", netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, addr, err := Of(f)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := Listeners(0, "tcp", addr.Port()); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}
