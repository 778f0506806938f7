package network

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/moby/moby/api/types/network"
	"github.com/tare-engine/tare/internal/errdefs"
)

func TestWantedPorts(t *testing.T) {
	port := network.MustParsePort
	got, err := WantedPorts(network.PortMap{
		port("81/udp"): {{}},
		port("80/tcp"): {{HostPort: "8080"}, {HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: "9000-9002"}, {HostPort: "8080"}},
		port("82/tcp"): nil,
		port("83/tcp"): {{HostPort: "7-7"}},
	}, network.PortSet{port("80/tcp"): {}, port("90/tcp"): {}}, true)
	if err != nil {
		t.Fatal(err)
	}
	want := "[{tcp 80 invalid IP 8080 0} {tcp 83 invalid IP 7 0} {tcp 80 127.0.0.1 9000 9002} {udp 81 invalid IP 0 0} {tcp 82 invalid IP 0 0} {tcp 90 invalid IP 0 0}]"
	if s := fmt.Sprint(got); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	for _, bad := range []string{"x", "-1", "70000", "5-4", "0-4", "1-2-3", "-"} {
		_, err := WantedPorts(network.PortMap{port("80/tcp"): {{HostPort: bad}}}, nil, false)
		if !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := WantedPorts(network.PortMap{port("0/tcp"): {{}}}, nil, false); err == nil {
		t.Error("port 0 accepted")
	}
}

func FuzzPortBinding(f *testing.F) {
	f.Add("80/tcp", "8080")
	f.Add("53/udp", "100-200")
	f.Fuzz(func(t *testing.T, container, host string) {
		c, err := network.ParsePort(container)
		if err != nil {
			return
		}
		got, err := WantedPorts(network.PortMap{c: {{HostPort: host}}}, nil, false)
		if err == nil && (len(got) != 1 || got[0].Container == 0 || got[0].HostEnd != 0 && got[0].HostEnd <= got[0].Host) {
			t.Errorf("%s %s: %+v", container, host, got)
		}
	})
}
