//go:build root

package network

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/netns"
)

// ipprotoSCTP is IPPROTO_SCTP.
const ipprotoSCTP = 132

// sctpSocket makes a socket of one association, as with TCP, that waits at most so long.
func sctpSocket(patience time.Duration) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, ipprotoSCTP)
	if err != nil {
		return -1, err
	}
	limit := syscall.NsecToTimeval(int64(patience))
	for _, option := range []int{syscall.SO_RCVTIMEO, syscall.SO_SNDTIMEO} {
		if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, option, &limit); err != nil {
			return -1, errors.Join(err, syscall.Close(fd))
		}
	}
	return fd, nil
}

// serveSCTP says its name to everybody who comes to port 80 of a namespace, and his
// address.
func serveSCTP(t *testing.T, ns *os.File) {
	t.Helper()
	var fd int
	must(t, netns.Do(ns, func() (err error) {
		if fd, err = sctpSocket(time.Hour); err != nil {
			return err
		}
		return errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Port: 80}), syscall.Listen(fd, 5))
	}))
	t.Cleanup(func() { syscall.Shutdown(fd, syscall.SHUT_RDWR); syscall.Close(fd) })
	go func() {
		for {
			c, from, err := syscall.Accept(fd)
			if err != nil {
				return
			}
			if from, ok := from.(*syscall.SockaddrInet4); ok {
				_, _ = syscall.Write(c, []byte(netip.AddrFrom4(from.Addr).String()))
			}
			syscall.Close(c)
		}
	}()
}

// askSCTP returns the address that a server has seen.
func askSCTP(ns *os.File, patience time.Duration, addr string, port int) (seen string, err error) {
	f := func() error {
		fd, err := sctpSocket(patience)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		if err := syscall.Connect(fd, &syscall.SockaddrInet4{Addr: netip.MustParseAddr(addr).As4(), Port: port}); err != nil {
			return err
		}
		buf := make([]byte, 100)
		n, err := syscall.Read(fd, buf)
		seen = string(buf[:max(n, 0)])
		return err
	}
	if ns == nil {
		err := f()
		return seen, err
	}
	err = netns.Do(ns, f)
	return seen, err
}

// TestPublishedSCTP is reached like TCP; a kernel without it is named before anything is
// published.
func TestPublishedSCTP(t *testing.T) {
	world := newNeighbour(t)
	s := openService(t, Config{})
	a, b := attach(t, s), attach(t, s)
	port := Port{Proto: "sctp", Container: 80, Host: 9000}
	fd, err := sctpSocket(time.Second)
	if err != nil {
		_, err := s.Publish(context.Background(), a.ContainerID, []Port{{Proto: "tcp", Container: 80, Host: 9000}, port})
		if !errdefs.Is(err, errdefs.NotImplemented) || !strings.HasSuffix(err.Error(), "failed to bind host port 0.0.0.0:9000/sctp: protocol not supported: this kernel has no SCTP") {
			t.Error(err)
		}
		if len(a.Ports) > 0 || len(s.HeldSockets(a.ContainerID)) > 0 {
			t.Errorf("left: %+v", a.Ports)
		}
		return
	}
	syscall.Close(fd)
	serveSCTP(t, a.NetNS)
	if got := publish(t, s, a, port); len(got) != 1 || got[0].HostIP != netip.IPv4Unspecified() {
		t.Errorf("%+v", got)
	}
	if _, err := s.Publish(context.Background(), b.ContainerID, []Port{port}); err == nil || !strings.Contains(err.Error(), "port is already allocated") {
		t.Error(err)
	}
	for _, c := range []struct {
		what   string
		ns     *os.File
		addr   string
		client string
	}{
		{"outside", world, "192.0.2.1", "192.0.2.2"}, {"host's own address", nil, "192.0.2.1", "192.0.2.1"},
		{"loopback", nil, "127.0.0.1", "172.17.0.1"}, {"sibling", b.NetNS, "192.0.2.1", "172.17.0.1"},
	} {
		seen, err := askSCTP(c.ns, 20*time.Second, c.addr, 9000)
		if err != nil || seen != c.client {
			t.Errorf("%s: server saw %q, %v; want %s", c.what, seen, err, c.client)
		}
	}
	if _, err := askSCTP(world, 300*time.Millisecond, "192.0.2.1", 9001); err == nil {
		t.Error("a port that is not published is reached")
	}
	must(t, s.Release(context.Background(), a.ContainerID))
	if _, err := askSCTP(nil, 300*time.Millisecond, "127.0.0.1", 9000); err == nil {
		t.Error("a port that was given back is reached")
	}
	publish(t, s, b, port)
}
