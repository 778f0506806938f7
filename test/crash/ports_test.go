//go:build root && failpoint

package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/linux/netns"
)

// TestPortsAreNobodyElses kills the engine: while it is away no other program
// can take a published port, and the next engine forwards it.
func TestPortsAreNobodyElses(t *testing.T) {
	b := newBox(t)
	b.up()
	b.down()
	base := b.snapshot() // without cells
	b.up()
	run := func(name string) {
		b.must("run", "-d", "--name", name, "-p", "8080:80", "-p", "9000-9299:9000-9299/udp", "--rootfs", b.rootfs(), "sh", "-c", "echo here >/page; exec busybox httpd -f -p 80 -h /")
	}
	run("web")
	b.wantPort()
	b.kill()
	b.wantPort()
	b.wantTaken(true)
	b.up()
	b.wantPort()
	b.wantTaken(true)
	b.killKeeper()
	b.soon(func() bool { return b.try("exec", "web", "true") == nil }) // there is a new one
	b.kill()
	b.wantTaken(true)
	b.up()
	if strings.Contains(b.story(), "could not keep a network or published port as it was") {
		t.Error("a port was lost\n", b.story())
	}
	b.must("rm", "-f", "web")
	b.wantTaken(false)
	run("again") // at once
	b.must("rm", "-f", "again")
	b.down()
	b.settled(base)
}

// network opens the box's network namespace.
func (b *box) network() *os.File {
	b.t.Helper()
	ns, err := os.Open("/run/netns/" + b.netns)
	if err != nil {
		b.t.Fatal(err)
	}
	return ns
}

// wantPort fetches a page from the published port.
func (b *box) wantPort() {
	b.t.Helper()
	ns := b.network()
	defer ns.Close()
	var page []byte
	fetch := func() error {
		ctx, cancel := context.WithTimeout(b.t.Context(), time.Second)
		defer cancel()
		c, err := netns.DialTCP(ctx, ns, netip.MustParseAddrPort("127.0.0.1:8080"))
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET /page HTTP/1.0\r\n\r\n"); err != nil {
			return err
		}
		page, err = io.ReadAll(c)
		return err
	}
	var err error
	b.soon(func() bool { // the program may not listen yet
		err = fetch()
		return err == nil && strings.HasSuffix(string(page), "\r\nhere\n")
	})
	if !strings.HasSuffix(string(page), "\r\nhere\n") {
		b.t.Errorf("the page: %q, %v\n%s", page, err, b.tail())
	}
}

// wantTaken tries to have the published ports.
func (b *box) wantTaken(taken bool) {
	b.t.Helper()
	ns := b.network()
	defer ns.Close()
	try := func(addr string, listen func() (io.Closer, error)) {
		l, err := listen()
		if err == nil {
			l.Close()
		}
		if got := errors.Is(err, syscall.EADDRINUSE); got != taken || !taken && err != nil {
			b.t.Errorf("%s: %v, taken: %v", addr, err, taken)
		}
	}
	err := netns.Do(ns, func() error {
		try("tcp", func() (io.Closer, error) { return net.Listen("tcp4", ":8080") })
		for port := 9000; port < 9300; port++ {
			try(fmt.Sprint("udp ", port), func() (io.Closer, error) { return net.ListenUDP("udp4", &net.UDPAddr{Port: port}) })
		}
		return nil
	})
	if err != nil {
		b.t.Error(err)
	}
}
