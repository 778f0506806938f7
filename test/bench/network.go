package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/tare-engine/tare/test/fixture"
)

// The ports of the server that runs in containers, and how long each is asked. What comes
// from the host by different ways comes from one address: each way has a port of its own,
// or connections would meet those of another way that are not forgotten yet.
const (
	bulkPort, connectPort       = "9000", "9001"
	loopbackPort, loopback6Port = "9002", "9003"
	asked                       = 2 * time.Second
)

// traffic is what a row measures.
type traffic struct{ megabytes, connections float64 } // a second

// netRow is one way of packets: its client is a command that ends in an address.
type netRow struct {
	name   string
	client []string
	to     string // address of the server
	bulk   string // its ports, as the client sees them
	conn   string
	best   traffic
}

// network compares the ways of packets to a container with a plain veth pair between
// two namespaces: what goes by them in a second, and how many connections.
func (b *bench) network() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// Its files are this run's: the mount namespace is.
	if err := errors.Join(os.MkdirAll("/run/netns", 0755), command("mount", "-t", "tmpfs", "tare-bench", "/run/netns")); err != nil {
		return err
	}
	defer func() { _ = command("umount", "/run/netns") }()
	var rows []*netRow
	for _, set := range []func(string) (*stage, error){netFloor, netByHand} {
		s, err := set(self)
		if err != nil {
			return err
		}
		defer s.end()
		rows = append(rows, s.rows...)
	}
	for i, e := range b.engines() {
		own, err := e.netRows(self, i)
		if err != nil {
			return err
		}
		rows = append(rows, own...)
	}
	rounds := max(1, b.o.rounds)
	for range rounds {
		for _, r := range rows {
			if err := r.measure(); err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
		}
	}
	printTraffic(rows, rounds)
	var errs []error
	for _, e := range b.engines() {
		errs = append(errs, e.docker("rm", "-f", "net-server", "net-client"), e.docker("network", "rm", "net-bench"))
	}
	return errors.Join(errs...)
}

// printTraffic prints rows, of which the first is the floor.
func printTraffic(rows []*netRow, rounds int) {
	fmt.Printf("| TCP for %s, best of %d | MB/s | of the floor | connections/s | of the floor |\n|---|---|---|---|---|\n", asked, rounds)
	floor := rows[0].best
	for _, r := range rows {
		fmt.Printf("| %s | %.0f | %.2f | %.0f | %.2f |\n", r.name, r.best.megabytes, r.best.megabytes/floor.megabytes,
			r.best.connections, r.best.connections/floor.connections)
	}
	fmt.Println()
}

// stage is namespaces with a server in one of them, and the rows that ask it.
type stage struct {
	namespaces []string
	server     *exec.Cmd // nil: not started
	rows       []*netRow
}

// set makes the namespaces, has ip do what commands say, and starts the server in one of them.
func (s *stage) set(self, server string, commands ...string) error {
	for _, ns := range s.namespaces {
		if err := command("ip", "netns", "add", ns); err != nil {
			return err
		}
	}
	for _, c := range commands {
		if err := command("ip", strings.Fields(c)...); err != nil {
			return fmt.Errorf("%s: %w", c, err)
		}
	}
	c := exec.Command("ip", "netns", "exec", server, self)
	c.Env = append(os.Environ(), netMode+"=server")
	if err := c.Start(); err != nil {
		return err
	}
	s.server = c
	return nil
}

// end takes away what is there of a stage.
func (s *stage) end() {
	if s.server != nil {
		s.server.Process.Kill()
		s.server.Wait()
	}
	for _, ns := range s.namespaces {
		_ = command("ip", "netns", "del", ns)
	}
}

// clientIn is the command of a client in a namespace.
func clientIn(ns, self string) []string {
	return []string{"ip", "netns", "exec", ns, "env", netMode + "=client", self}
}

// netOutside is a namespace beside the engines', as another machine is.
const netOutside = "bench-out"

// netFloor is a veth pair between two namespaces, with a server in one. It makes
// netOutside too.
func netFloor(self string) (*stage, error) {
	const a, z = "bench-a", "bench-z"
	s := &stage{namespaces: []string{a, z, netOutside}, rows: []*netRow{
		{name: "floor: a veth pair", client: clientIn(z, self), to: "10.44.0.1", bulk: bulkPort, conn: connectPort},
	}}
	err := s.set(self, a,
		"-n "+a+" link add e0 type veth peer name e0 netns "+z,
		"-n "+a+" addr add 10.44.0.1/24 dev e0", "-n "+z+" addr add 10.44.0.2/24 dev e0",
		"-n "+a+" link set e0 up", "-n "+z+" link set e0 up",
		"link add out0 type veth peer name e0 netns "+netOutside, "addr add 192.0.2.1/24 dev out0", "link set out0 up",
		"-n "+netOutside+" addr add 192.0.2.2/24 dev e0", "-n "+netOutside+" link set e0 up")
	if err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// netByHand is the least that a published port needs of the kernel: a bridge, forwarding
// and one rule of destination NAT, in namespaces that stand for a host, a container and
// another machine.
func netByHand(self string) (*stage, error) {
	const host, inside, outside = "bench-h", "bench-c", "bench-o"
	const bulk, conn = "19900", "19901"
	const nft, translated = "netns exec " + host + " nft add ",
		" tcp dport { " + bulk + " , " + conn + " } dnat to 10.46.0.2 : tcp dport map { " + bulk + " : " + bulkPort + " , " + conn + " : " + connectPort + " }"
	s := &stage{namespaces: []string{host, inside, outside}, rows: []*netRow{
		{name: "floor: by hand, host's loopback to published port", client: clientIn(host, self), to: "127.0.0.1", bulk: bulk, conn: conn},
		{name: "floor: by hand, another machine to published port", client: clientIn(outside, self), to: "198.51.100.1", bulk: bulk, conn: conn},
	}}
	err := s.set(self, inside,
		"-n "+host+" link set lo up",
		"-n "+host+" link add b0 type bridge", "-n "+host+" addr add 10.46.0.1/24 dev b0", "-n "+host+" link set b0 up",
		"-n "+host+" link add c0 type veth peer name e0 netns "+inside, "-n "+host+" link set c0 master b0", "-n "+host+" link set c0 up",
		"-n "+inside+" addr add 10.46.0.2/24 dev e0", "-n "+inside+" link set e0 up", "-n "+inside+" route add default via 10.46.0.1",
		"-n "+host+" link add o0 type veth peer name e0 netns "+outside, "-n "+host+" addr add 198.51.100.1/24 dev o0", "-n "+host+" link set o0 up",
		"-n "+outside+" addr add 198.51.100.2/24 dev e0", "-n "+outside+" link set e0 up",
		"netns exec "+host+" sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.b0.route_localnet=1",
		nft+"table ip n",
		nft+"chain ip n in { type nat hook prerouting priority -100 ; }",
		nft+"chain ip n out { type nat hook output priority -100 ; }",
		nft+"chain ip n post { type nat hook postrouting priority 100 ; }",
		nft+"rule ip n in"+translated,
		nft+"rule ip n out ip daddr 127.0.0.1"+translated,
		nft+"rule ip n post ip saddr 127.0.0.1 oifname b0 masquerade")
	if err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// netRows starts a server in a container of an engine, whose ports are published, and
// returns the ways to it.
func (e *engine) netRows(self string, n int) ([]*netRow, error) {
	published := func(port string) string { return fmt.Sprint(10*(n+1)) + port[1:] } // 9001 as 10001
	bulk, conn := published(bulkPort), published(connectPort)
	mount := []string{"-v", self + ":/netbench:ro", "--network", "net-bench"}
	server := append([]string{"run", "-d", "--name", "net-server", "-e", netMode + "=server"}, mount...)
	for _, port := range []string{bulkPort, connectPort, loopbackPort, loopback6Port} {
		server = append(server, "-p", published(port)+":"+port)
	}
	client := append([]string{"run", "-d", "--name", "net-client"}, mount...)
	err := errors.Join(
		e.docker("network", "create", "--subnet", fmt.Sprintf("10.45.%d.0/24", n), "net-bench"),
		e.docker(append(server, fixture.Image, "/netbench")...),
		e.docker(append(client, fixture.Image, "sleep", "3600")...))
	if err != nil {
		return nil, err
	}
	ip, err := e.output("inspect", "-f", `{{(index .NetworkSettings.Networks "net-bench").IPAddress}}`, "net-server")
	if err != nil {
		return nil, err
	}
	ip = strings.TrimSpace(ip)
	here := []string{"env", netMode + "=client", self}
	return []*netRow{
		{name: e.name + ": container to container", client: []string{"docker", "-H", "unix://" + e.socket, "exec", "-e", netMode + "=client", "net-client", "/netbench"},
			to: ip, bulk: bulkPort, conn: connectPort},
		{name: e.name + ": host to container", client: here, to: ip, bulk: bulkPort, conn: connectPort},
		{name: e.name + ": host's loopback to published port", client: here, to: "127.0.0.1", bulk: bulk, conn: published(loopbackPort)},
		{name: e.name + ": host's [::1] to published port", client: here, to: "::1", bulk: bulk, conn: published(loopback6Port)},
		{name: e.name + ": another machine to published port", client: append([]string{"ip", "netns", "exec", netOutside}, here...),
			to: "192.0.2.1", bulk: bulk, conn: conn},
	}, nil
}

// measure runs the client once, and keeps what is best.
func (r *netRow) measure() error {
	args := append(r.client[1:], net.JoinHostPort(r.to, r.bulk), net.JoinHostPort(r.to, r.conn))
	out, err := exec.Command(r.client[0], args...).Output()
	if err != nil {
		if x, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, x.Stderr)
		}
		return err
	}
	var got traffic
	if _, err := fmt.Sscan(string(out), &got.megabytes, &got.connections); err != nil {
		return err
	}
	r.best.megabytes = max(r.best.megabytes, got.megabytes)
	r.best.connections = max(r.best.connections, got.connections)
	return nil
}

// netMode is set for this program where it is the server or client of a row.
const netMode = "TARE_BENCH_NET"

// netMain is the server or the client.
func netMain(mode string, args []string) error {
	switch mode {
	case "server":
		return netServe()
	case "names":
		return namesMain(args)
	}
	if len(args) != 2 {
		return errors.New("the client wants two addresses")
	}
	megabytes, err := sendFor(args[0])
	if err != nil {
		return err
	}
	connections, err := connectFor(args[1])
	if err != nil {
		return err
	}
	_, err = fmt.Println(megabytes, connections)
	return err
}

// netServe swallows what comes to one port, and says one byte to each who comes to the
// others.
func netServe() error {
	bulk, err := net.Listen("tcp", ":"+bulkPort)
	if err != nil {
		return err
	}
	greeted := make(chan error)
	for _, port := range []string{connectPort, loopbackPort, loopback6Port} {
		l, err := net.Listen("tcp", ":"+port)
		if err != nil {
			return err
		}
		go func() { greeted <- greet(l) }()
	}
	go func() {
		for {
			c, err := bulk.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 256<<10)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
				}
			}()
		}
	}()
	return <-greeted
}

func greet(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		_, _ = c.Write([]byte{1})
		c.Close()
	}
}

// dial connects; a server that has just been started is waited for.
func dial(addr string) (c net.Conn, err error) {
	for range 50 {
		if c, err = net.DialTimeout("tcp", addr, 2*time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return c, err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, err
}

func sendFor(addr string) (megabytes float64, err error) {
	c, err := dial(addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	buf := make([]byte, 256<<10)
	begin, sent := time.Now(), 0
	for time.Since(begin) < asked {
		n, err := c.Write(buf)
		if err != nil {
			return 0, err
		}
		sent += n
	}
	return float64(sent) / 1e6 / time.Since(begin).Seconds(), nil
}

func connectFor(addr string) (perSecond float64, err error) {
	begin, n := time.Now(), 0
	for time.Since(begin) < asked {
		c, err := dial(addr)
		if err != nil {
			return 0, err
		}
		if _, err := io.ReadAll(c); err != nil {
			return 0, err
		}
		c.Close()
		n++
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}
