//go:build root

package network

import (
	"context"
	"testing"

	"github.com/tare-engine/tare/api"
)

// TestLinksOpenPorts between containers that do not reach each other, one way and no
// others, until one of them goes.
func TestLinksOpenPorts(t *testing.T) {
	newNeighbour(t)
	s := openService(t, Config{NoICC: true})
	parent, child, other := attach(t, s), attach(t, s), attach(t, s)
	for _, e := range []*Endpoint{parent, child} {
		serve(t, e.NetNS, "tcp", "0.0.0.0:80")
		serve(t, e.NetNS, "tcp", "0.0.0.0:81")
		serve(t, e.NetNS, "udp", "0.0.0.0:80")
	}
	addr := child.IP.Addr().String()
	link := func(ports ...Port) {
		t.Helper()
		must(t, s.SetLinks(parent.ContainerID, map[string][]Port{child.ContainerID: ports, "nosuch": ports}))
	}
	wantNoAnswer(t, "without a link", parent.NetNS, "tcp", addr+":80")
	link(Port{Proto: "tcp", Container: 80}, Port{Proto: "udp", Container: 80})
	wantAnswer(t, "linked", parent.NetNS, "tcp", addr+":80", parent.IP.Addr().String())
	wantAnswer(t, "linked", parent.NetNS, "udp", addr+":80", parent.IP.Addr().String())
	for port, want := range map[string]string{"80/tcp": api.VerdictPasses, "80/udp": api.VerdictPasses, "81/tcp": api.VerdictBlocked} {
		x, err := s.Explain(api.NetworkExplainOptions{From: parent.ContainerID, To: child.ContainerID, Port: port}, func(string) int { return 0 })
		if err != nil || x.Verdict != want {
			t.Errorf("%s: %+v, %v", port, x, err)
		}
	}
	wantNoAnswer(t, "another port", parent.NetNS, "tcp", addr+":81")
	wantNoAnswer(t, "another container", other.NetNS, "tcp", addr+":80")
	wantNoAnswer(t, "the other way", child.NetNS, "tcp", parent.IP.Addr().String()+":80")
	link(Port{Proto: "tcp", Container: 81})
	wantAnswer(t, "other ports", parent.NetNS, "tcp", addr+":81", parent.IP.Addr().String())
	wantNoAnswer(t, "other ports", parent.NetNS, "tcp", addr+":80")
	link()
	wantNoAnswer(t, "no link any more", parent.NetNS, "tcp", addr+":81")
	link(Port{Proto: "tcp", Container: 81})
	must(t, s.Release(context.Background(), child.ContainerID))
	wantNoAnswer(t, "released", parent.NetNS, "tcp", addr+":81")
	if len(s.linkWays[parent.ContainerID]) > 0 {
		t.Errorf("left: %v", s.linkWays)
	}
}

// TestLinksNeedNoRules where containers reach each other.
func TestLinksNeedNoRules(t *testing.T) {
	s := openService(t, Config{})
	a, b := attach(t, s), attach(t, s)
	must(t, s.SetLinks(a.ContainerID, map[string][]Port{b.ContainerID: {{Proto: "tcp", Container: 80}}}))
	if len(s.linkWays) > 0 {
		t.Errorf("%v", s.linkWays)
	}
}
