//go:build root

package netns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

func TestDialTCPReachesTheOtherNamespace(t *testing.T) {
	m := NewMaker(1)
	defer m.Close()
	ns, err := m.New(func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	up := exec.Command("nsenter", "--net=/proc/self/fd/3", "ip", "link", "set", "lo", "up")
	up.ExtraFiles = []*os.File{ns}
	if out, err := up.CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	var l net.Listener
	if err := Do(ns, func() (err error) { l, err = net.Listen("tcp4", "127.0.0.1:0"); return }); err != nil {
		t.Fatal(err)
	}
	to := netip.MustParseAddrPort(l.Addr().String())
	c, err := DialTCP(t.Context(), ns, to)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if peer.RemoteAddr().String() != c.LocalAddr().String() {
		t.Error(peer.RemoteAddr(), c.LocalAddr())
	}
	c.Close()
	peer.Close()

	l.Close()
	if _, err := DialTCP(t.Context(), ns, to); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error(err)
	}
	if _, err := DialTCP(t.Context(), ns, netip.MustParseAddrPort("192.0.2.1:80")); !errors.Is(err, syscall.ENETUNREACH) {
		t.Error(err)
	}
	ended, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	<-ended.Done()
	if _, err := DialTCP(ended, ns, to); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
