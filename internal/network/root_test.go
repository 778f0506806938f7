//go:build root

package network

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/linux/sysctl"
	"github.com/tare-engine/tare/internal/network/networktest"
)

func TestMain(m *testing.M) { networktest.Main(m) }

// What these tests use most, by short names.
var (
	must         = networktest.Must
	newNeighbour = networktest.NewNeighbour
	serve        = networktest.Serve
	ask          = networktest.Ask
	askFor       = networktest.AskFor
	wantAnswer   = networktest.WantAnswer
	wantNoAnswer = networktest.WantNoAnswer
	shell        = networktest.Shell
	nft          = networktest.NFT
	allRules     = networktest.AllRules
	eventually   = networktest.Eventually
)

// openService opens a service on a directory and adopts nothing.
func openService(t testing.TB, cfg Config) *Service {
	t.Helper()
	if cfg.EngineID == "" {
		cfg.EngineID, cfg.Default = "e1", true
	}
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	s, err := Open(cfg)
	must(t, err)
	r, err := s.Adopt(context.Background(), nil, nil)
	must(t, err)
	if len(r.Lost) > 0 {
		t.Fatal(r.Lost)
	}
	t.Cleanup(func() {
		for id := range s.endpoints {
			if err := s.Release(context.Background(), id); err != nil {
				t.Error(err)
			}
		}
		if err := errors.Join(s.Destroy(), s.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// filterBridges has the host's rules of a program (iptables, ip6tables) see what stays on
// bridges, or not, until the test ends; false: this kernel has none of that (br_netfilter).
func filterBridges(t *testing.T, program string, on bool) bool {
	t.Helper()
	name := "net/bridge/bridge-nf-call-" + program
	was, err := sysctl.Read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	must(t, err)
	must(t, sysctl.Write(name, map[bool]string{true: "1", false: "0"}[on]))
	t.Cleanup(func() { must(t, sysctl.Write(name, was)) })
	return true
}

func attach(t testing.TB, s *Service) *Endpoint {
	t.Helper()
	e, err := s.Attach(context.Background(), Request{ContainerID: ident.New(), Name: "c"})
	must(t, err)
	return e
}

func TestContainerReachesOutside(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	a, b := attach(t, s), attach(t, s)
	if a.IP.String() != "172.17.0.2/16" || a.MAC.String() != "02:42:ac:11:00:02" || a.Gateway.String() != "172.17.0.1" {
		t.Fatalf("%+v", a.Record)
	}
	serve(t, world, "tcp", "192.0.2.2:80")
	wantAnswer(t, "container to world", a.NetNS, "tcp", "192.0.2.2:80", "192.0.2.1")
	serve(t, b.NetNS, "tcp", "172.17.0.3:80")
	wantAnswer(t, "container to container", a.NetNS, "tcp", "172.17.0.3:80", "172.17.0.2")
	wantAnswer(t, "host to container", nil, "tcp", "172.17.0.3:80", "172.17.0.1")
	must(t, netns.Do(a.NetNS, func() error {
		for name, want := range map[string]string{"eth0/disable_ipv6": "1", "eth0/accept_ra": "0", "lo/disable_ipv6": "0"} {
			if v, err := sysctl.Read("net/ipv6/conf/" + name); v != want || err != nil {
				t.Errorf("%s = %s, %v; want %s", name, v, err, want)
			}
		}
		return nil
	}))
}
