//go:build root && failpoint

package crash

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/tare-engine/tare/internal/linux/netns"
)

// TestTrafficOutlivesEngines ends the engine again and again, by SIGKILL and as an
// administrator does, while connections stand and others are made by way of a published
// port and from container to container, and names are asked for. Nothing of it is lost.
// TARE_SOAK_TRAFFIC says how many engines; then a line of docs/soak.md is printed.
func TestTrafficOutlivesEngines(t *testing.T) {
	engines, counted := 3, false
	if n, err := strconv.Atoi(os.Getenv("TARE_SOAK_TRAFFIC")); err == nil {
		engines, counted = n, true
	}
	b := newBox(t)
	b.up()
	b.down()
	base := b.snapshot() // without cells
	b.up()
	b.must("network", "create", "--subnet", "10.99.0.0/24", "net")
	b.must("run", "-d", "--name", "server", "--network", "net", "-p", "8080:9000", "--rootfs", b.rootfs(), "sleep", "1000")
	b.must("run", "-d", "--name", "client", "--network", "net", "--rootfs", b.rootfs(), "sleep", "1000")
	server, client, host := b.inside("server"), b.inside("client"), b.network()
	defer host.Close()
	at := b.must("inspect", "-f", "{{.NetworkSettings.Networks.net.IPAddress}}", "server")
	listener := b.echo(server)
	flows := []*flow{
		newFlow("a connection to the published port", host, "127.0.0.1:8080", (*flow).stream),
		newFlow("connections to the published port", host, "127.0.0.1:8080", (*flow).connect),
		newFlow("a connection between containers", client, at+":9000", (*flow).stream),
		newFlow("connections between containers", client, at+":9000", (*flow).connect),
		newFlow("names", client, "127.0.0.11:53", (*flow).ask),
	}
	stop := make(chan struct{})
	var done sync.WaitGroup
	for _, f := range flows {
		done.Go(func() { f.run(stop) })
	}
	var slowest time.Duration
	for round := range engines {
		b.goesOn(flows)
		if round%2 == 0 {
			time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond) // the moment of the kill
			b.kill()
		} else {
			b.down()
		}
		began := time.Now()
		b.up()
		slowest = max(slowest, time.Since(began))
	}
	b.goesOn(flows)
	close(stop)
	done.Wait()
	bad := 0
	for _, f := range flows {
		t.Logf("%s: %d times", f.name, f.times.Load())
		if f.err != nil {
			bad++
			t.Errorf("%s, after %d times: %v\n%s", f.name, f.times.Load(), f.err, b.tail())
		}
	}
	if counted {
		fmt.Printf("SOAK | ends of tared under traffic, by SIGKILL and SIGTERM | %d | %d | %s |\n", engines, bad, slowest.Round(time.Millisecond))
	}
	for _, c := range []io.Closer{listener, server, client} { // which would keep the namespaces
		c.Close()
	}
	b.must("rm", "-f", "server", "client")
	b.must("network", "rm", "net")
	b.down()
	b.settled(base)
}

// inside opens the network namespace of a container that runs.
func (b *box) inside(name string) *os.File {
	b.t.Helper()
	pid, err := strconv.Atoi(b.must("inspect", "-f", "{{.State.Pid}}", name))
	if err != nil {
		b.t.Fatal(err)
	}
	ns, err := netns.OfProcess(pid)
	if err != nil {
		b.t.Fatal(err)
	}
	return ns
}

// echo says on port 9000 of a namespace what it is told, until that is closed.
func (b *box) echo(ns *os.File) net.Listener {
	b.t.Helper()
	var l net.Listener
	if err := netns.Do(ns, func() (err error) { l, err = net.Listen("tcp4", ":9000"); return }); err != nil {
		b.t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l
}

// goesOn waits until all flows have gone on for a while from now, or one has failed.
func (b *box) goesOn(flows []*flow) {
	b.t.Helper()
	const while = 50
	from := make([]int64, len(flows))
	for i, f := range flows {
		from[i] = f.times.Load()
	}
	for i, f := range flows {
		b.soon(func() bool { return f.failed.Load() || f.times.Load() >= from[i]+while })
		if !f.failed.Load() && f.times.Load() < from[i]+while {
			b.t.Errorf("%s: stands still\n%s", f.name, b.tail())
		}
	}
}

// flow is one kind of traffic.
type flow struct {
	name string
	ns   *os.File // where it comes from
	to   string
	once func(*flow) error
	conn net.Conn // of flows with one

	times  atomic.Int64
	failed atomic.Bool
	err    error // once it has failed
}

func newFlow(name string, ns *os.File, to string, once func(*flow) error) *flow {
	return &flow{name: name, ns: ns, to: to, once: once}
}

// run goes on until it is stopped or something fails.
func (f *flow) run(stop <-chan struct{}) {
	defer func() {
		if f.conn != nil {
			f.conn.Close()
		}
	}()
	for {
		select {
		case <-stop:
			return
		default:
		}
		if f.err = f.once(f); f.err != nil {
			f.failed.Store(true)
			return
		}
		f.times.Add(1)
		time.Sleep(time.Millisecond) // it is not the rate that counts
	}
}

// flowPatience is how long an answer may take: an engine is not there for a while.
const flowPatience = 20 * time.Second

func (f *flow) dial(network string) (c net.Conn, err error) {
	err = errors.Join(netns.Do(f.ns, func() (err error) { c, err = net.DialTimeout(network, f.to, flowPatience); return }))
	if err == nil {
		err = c.SetDeadline(time.Now().Add(flowPatience))
	}
	return c, err
}

// stream sends the next number on the one connection, and has it back.
func (f *flow) stream() (err error) {
	if f.conn == nil {
		if f.conn, err = f.dial("tcp"); err != nil {
			return err
		}
	}
	return errors.Join(f.conn.SetDeadline(time.Now().Add(flowPatience)), echoed(f.conn, uint64(f.times.Load())))
}

// connect does so on a connection of its own.
func (f *flow) connect() error {
	c, err := f.dial("tcp")
	if err != nil {
		return err
	}
	return errors.Join(echoed(c, uint64(f.times.Load())), c.Close())
}

func echoed(c net.Conn, n uint64) error {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	if _, err := c.Write(b[:]); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return err
	}
	if got := binary.BigEndian.Uint64(b[:]); got != n {
		return fmt.Errorf("%d came back as %d", n, got)
	}
	return nil
}

// ask asks once, from a port of its own, for the name of the other container.
func (f *flow) ask() error {
	c, err := f.dial("udp")
	if err != nil {
		return err
	}
	defer c.Close()
	r, _, err := (&dns.Client{Timeout: flowPatience}).ExchangeWithConn((&dns.Msg{}).SetQuestion("server.", dns.TypeA), &dns.Conn{Conn: c})
	if err == nil && len(r.Answer) != 1 {
		err = fmt.Errorf("answered %v", r)
	}
	return err
}
