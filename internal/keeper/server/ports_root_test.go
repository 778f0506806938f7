//go:build root

package server

import (
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/linux/hostport"
)

// hostPorts reserves n ports, which the kernel chooses.
func hostPorts(t *testing.T, n int) (ports []*os.File, addrs []netip.AddrPort) {
	t.Helper()
	for range n {
		l, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		addr := l.LocalAddr().(*net.UDPAddr).AddrPort()
		l.Close()
		f, err := hostport.Reserve("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		ports, addrs = append(ports, f), append(addrs, addr)
	}
	return ports, addrs
}

// taken counts the ports that this program cannot have.
func taken(t *testing.T, addrs []netip.AddrPort) (n int) {
	t.Helper()
	for _, a := range addrs {
		l, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(a))
		if err != nil {
			n++
			continue
		}
		l.Close()
	}
	return n
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// wantHeld fetches the ports as a new engine does, and closes them.
func (r *engineRig) wantHeld(want int) {
	r.t.Helper()
	held, err := keeper.HeldPorts(r.t.Context(), r.root)
	if err != nil || len(held) != want {
		r.t.Errorf("%d ports held, want %d; %v", len(held), want, err)
	}
	closeAll(held)
}

// TestPortsOutliveTheEngine has more ports than one packet takes.
func TestPortsOutliveTheEngine(t *testing.T) {
	r := newEngineRig(t)
	const many = 600
	ports, addrs := hostPorts(t, many)
	s := container("c1", "exec sleep 100")
	s.Ports = ports
	p := r.run(s)
	p.Files.Close()
	closeAll(ports)
	r.wantHeld(many)
	for range 2 { // over an upgrade; what was fetched from it makes no difference
		if n := taken(t, addrs); n != many {
			t.Errorf("%d of %d ports are reserved", n, many)
		}
		if err := r.Upgrade(t.Context(), os.Args[0]); err != nil {
			t.Fatal(err)
		}
	}
	held, err := keeper.HeldPorts(t.Context(), r.root)
	if err != nil {
		t.Fatal(err)
	}
	if proto, addr, err := hostport.Of(held[0]); err != nil || proto != "udp" || !addr.IsValid() {
		t.Error(proto, addr, err)
	}
	closeAll(held)
	running, _, err := r.List(t.Context())
	if err != nil || len(running) != 1 || running[0].Ports != many {
		t.Errorf("%+v %v", running, err)
	}
	for _, p := range running {
		p.Files.Close()
	}
	kill(t, p.Pid, syscall.SIGKILL)
	r.exit("c1")
	if n := taken(t, addrs); n != 0 {
		t.Errorf("%d ports are reserved when the exit is told", n)
	}
}

func TestHoldReplacesPorts(t *testing.T) {
	r := newEngineRig(t)
	ports, addrs := hostPorts(t, 2)
	s := container("c1", "exec sleep 100")
	s.Ports = ports[:1]
	r.run(s).Files.Close()
	if err := r.Hold(t.Context(), "c1", ports[1:]); err != nil {
		t.Fatal(err)
	}
	closeAll(ports)
	if taken(t, addrs[:1]) != 0 || taken(t, addrs[1:]) != 1 {
		t.Error("the second port takes the first one's place")
	}
	if err := r.Hold(t.Context(), "c2", nil); err == nil {
		t.Error("ports are held for a process that is not there")
	}
	r.wantHeld(1)
}

func TestPortsOfAFailedStartAreFree(t *testing.T) {
	r := newEngineRig(t)
	ports, addrs := hostPorts(t, 3)
	s := container("c1", "")
	s.Ports = ports
	s.Stdio.Log = nil
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	s.CgroupFD, s.FDs = 0, []*os.File{null} // no control group
	if _, err := r.Start(t.Context(), s); err == nil {
		t.Fatal("started")
	}
	closeAll(ports)
	if n := taken(t, addrs); n != 0 {
		t.Errorf("%d ports are reserved", n)
	}
}

// TestNewKeeperIsGivenThePorts kills the keeper: its duplicates go, the
// engine's stay.
func TestNewKeeperIsGivenThePorts(t *testing.T) {
	r := newEngineRig(t)
	ports, addrs := hostPorts(t, 2)
	s := container("c1", "exec sleep 100")
	s.Ports = ports
	p := r.run(s)
	defer p.Files.Close()
	kill(t, r.KeeperPid(), syscall.SIGKILL)
	<-r.ev.lost
	r.Conn.Close()
	r.spawn()
	r.dial()
	if err := r.Adopt(t.Context(), *p, s.Stdio); err != nil {
		t.Fatal(err)
	}
	if err := r.Hold(t.Context(), "c1", ports); err != nil {
		t.Fatal(err)
	}
	closeAll(ports)
	if n := taken(t, addrs); n != 2 {
		t.Errorf("%d ports are reserved", n)
	}
	kill(t, p.Pid, syscall.SIGKILL)
	r.exit("c1")
	if n := taken(t, addrs); n != 0 {
		t.Errorf("%d ports are reserved behind the exit", n)
	}
}
