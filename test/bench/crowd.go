package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/test/fixture"
)

// crowdNames is the network that is made for the row with many containers.
const crowdNames = "bench-crowd"

// Of a crowd: how many clients start containers at once, how many containers a rate is
// measured of, and how many are asked whether they reach each other.
const (
	crowdClients = 4
	crowdRate    = 100
	crowdPairs   = 100
)

// crowd puts many containers on the default network and looks at what the next ones
// cost and whether they reach each other; crowdNames, on one that is made for it. Memory
// is right for the first of them in a run only: none has been used before.
func (b *bench) crowd() error { return b.crowdOn("bridge") }

func (b *bench) crowdNames() error { return b.crowdOn(crowdNames) }

// crowdOn is crowd on one network, which is made if it is not the default one.
func (b *bench) crowdOn(name string) (err error) {
	c, err := b.client()
	if err != nil {
		return err
	}
	ctx := context.Background()
	if name == crowdNames {
		ipam := &network.IPAM{Config: []network.IPAMConfig{{Subnet: netip.MustParsePrefix("10.64.0.0/16")}}}
		if _, err := c.NetworkCreate(ctx, network.CreateRequest{Name: name, IPAM: ipam}); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.NetworkRemove(ctx, name)) }()
	}
	k := &crowded{b: b, network: name}
	defer func() {
		took, rerr := k.removeAll()
		err = errors.Join(err, rerr)
		fmt.Printf("\nremoved %d containers, %.0f a second\n\n", len(k.ids), float64(len(k.ids))/took.Seconds())
	}()
	fmt.Printf("| containers on %s | starts/s | CPU of the engine, ms a start | engine, KB each | keeper, KB each | kernel, KB each | ps ms | pings that fail: pairs, gateway, host | names that are not answered | names/s |\n|---|---|---|---|---|---|---|---|---|---|\n", name)
	idle := crowdMemory()
	for _, n := range []int{100, 500, 1000, 1500, 2000, 3000} {
		if n > b.o.crowd {
			break
		}
		if err := k.row(n, idle); err != nil {
			return err
		}
	}
	return nil
}

// crowded is the containers of one network.
type crowded struct {
	b       *bench
	network string
	ids     []string
	members []member // of the same containers
}

// member is where a container is reached, and whose namespace it is reached from.
type member struct {
	name, ip, gateway string
	pid               int
}

// row prints one line of the table: the last of n containers are measured.
func (k *crowded) row(n int, idle memoryOf) error {
	if _, err := k.start(n - crowdRate); err != nil {
		return err
	}
	used := cpuTime(k.b.tare.cmd.Process.Pid)
	rate, err := k.start(n)
	if err != nil {
		return err
	}
	used = cpuTime(k.b.tare.cmd.Process.Pid) - used
	now := crowdMemory()
	ps, err := timed(func() error { return k.b.tareCLI("ps", "-q") })
	if err != nil {
		return err
	}
	pairs, gateways, hosts := k.pings()
	failed, perSecond := k.names()
	fmt.Printf("| %d | %.0f | %.1f | %d | %d | %d | %.1f | %d, %d, %d | %s | %s |\n", n, rate, ms(used)/crowdRate,
		(now.engine-idle.engine)/n, (now.keeper-idle.keeper)/n, (now.kernel-idle.kernel)/n, ms(ps), pairs, gateways, hosts, failed, perSecond)
	return nil
}

// start starts containers until there are n, and returns how many a second.
func (k *crowded) start(n int) (perSecond float64, err error) {
	more := n - len(k.ids)
	if more <= 0 {
		return 0, nil
	}
	from := len(k.ids)
	k.ids, k.members = append(k.ids, make([]string, more)...), append(k.members, make([]member, more)...)
	begin := time.Now()
	err = crowdOf(more, func(i int) error { return k.startOne(from + i) })
	took := time.Since(begin)
	if err != nil {
		return 0, err
	}
	return float64(more) / took.Seconds(), crowdOf(more, func(i int) error { return k.locate(from + i) })
}

func (k *crowded) startOne(i int) error {
	c, err := k.b.client()
	if err != nil {
		return err
	}
	ctx := context.Background()
	made, err := c.ContainerCreate(ctx, api.CreateOptions{Name: fmt.Sprintf("crowd-%d", i)}, container.CreateRequest{
		Config:     &container.Config{Image: fixture.Image, Cmd: []string{"sleep", "36000"}},
		HostConfig: &container.HostConfig{NetworkMode: container.NetworkMode(k.network)},
	})
	if err != nil {
		return err
	}
	k.ids[i] = made.ID
	return c.ContainerStart(ctx, made.ID)
}

func (k *crowded) locate(i int) error {
	c, err := k.b.client()
	if err != nil {
		return err
	}
	in, err := c.ContainerInspect(context.Background(), k.ids[i])
	if err != nil {
		return err
	}
	e := in.NetworkSettings.Networks[k.network]
	if e == nil || in.State == nil || in.State.Pid == 0 {
		return fmt.Errorf("container %s does not run on network %s", k.ids[i], k.network)
	}
	k.members[i] = member{fmt.Sprintf("crowd-%d", i), e.IPAddress.String(), e.Gateway.String(), in.State.Pid}
	return nil
}

func (k *crowded) removeAll() (time.Duration, error) {
	c, err := k.b.client()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	err = crowdOf(len(k.ids), func(i int) error {
		return c.ContainerRemove(context.Background(), k.ids[i], api.RemoveOptions{Force: true})
	})
	return time.Since(begin), err
}

// crowdOf does something n times, crowdClients at once.
func crowdOf(n int, do func(i int) error) error {
	errs := make([]error, crowdClients)
	var next atomic.Int64
	var wg sync.WaitGroup
	for w := range crowdClients {
		wg.Go(func() {
			for i := int(next.Add(1) - 1); i < n && errs[w] == nil; i = int(next.Add(1) - 1) {
				errs[w] = do(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// pings counts the pings that fail: of random pairs, to the gateway, from the host.
func (k *crowded) pings() (pairs, gateways, hosts int64) {
	var failed [3]atomic.Int64
	_ = crowdOf(crowdPairs, func(int) error {
		a, z := k.members[rand.IntN(len(k.members))], k.members[rand.IntN(len(k.members))]
		for i, args := range [][]string{
			append(inside(a), "ping", "-q", "-c", "1", "-W", "5", z.ip), append(inside(a), "ping", "-q", "-c", "1", "-W", "5", a.gateway),
			{"ping", "-q", "-c", "1", "-W", "5", z.ip},
		} {
			if command(args[0], args[1:]...) != nil {
				failed[i].Add(1)
			}
		}
		return nil
	})
	return failed[0].Load(), failed[1].Load(), failed[2].Load()
}

// inside is a command that runs the next one in the network of a container.
func inside(p member) []string { return []string{"nsenter", "-t", strconv.Itoa(p.pid), "-n"} }

// names asks for names of containers in others, and how many a second one is told.
func (k *crowded) names() (failed, perSecond string) {
	if k.network != crowdNames {
		return "", ""
	}
	self, err := os.Executable()
	if err != nil {
		return err.Error(), ""
	}
	ask := func(p member, args ...string) (string, error) {
		cmd := append(append(inside(p), "env", netMode+"=names", self), args...)
		return outputOf(cmd[0], cmd[1:]...)
	}
	var bad atomic.Int64
	_ = crowdOf(crowdPairs, func(int) error {
		z := k.members[rand.IntN(len(k.members))]
		if got, err := ask(k.members[rand.IntN(len(k.members))], z.name); err != nil || got != z.ip+"\n" {
			bad.Add(1)
		}
		return nil
	})
	perSecond, err = ask(k.members[0], k.members[len(k.members)-1].name, asked.String())
	if err != nil {
		perSecond = err.Error()
	}
	return strconv.FormatInt(bad.Load(), 10), perSecond[:max(0, len(perSecond)-1)]
}

// namesMain is the client of names: it prints the address of a name, or, given a
// duration, how often a second it is told.
func namesMain(args []string) error {
	if len(args) == 0 {
		return errors.New("the client wants a name")
	}
	q := (&dns.Msg{}).SetQuestion(dns.Fqdn(args[0]), dns.TypeA)
	c, err := dns.Dial("udp", "127.0.0.11:53")
	if err != nil {
		return err
	}
	defer c.Close()
	client := dns.Client{Timeout: 5 * time.Second}
	r, _, err := client.ExchangeWithConn(q, c)
	if err != nil {
		return err
	}
	if len(args) == 1 {
		for _, rr := range r.Answer {
			if a, ok := rr.(*dns.A); ok {
				fmt.Println(a.A)
			}
		}
		return nil
	}
	during, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	n, begin := 0, time.Now()
	for time.Since(begin) < during {
		if _, _, err := client.ExchangeWithConn(q, c); err != nil {
			return err
		}
		n++
	}
	_, err = fmt.Printf("%.0f\n", float64(n)/during.Seconds())
	return err
}

// memoryOf is who has how much memory, in KB: resident, of the kernel what it keeps for
// its objects.
type memoryOf struct{ engine, keeper, kernel int }

func crowdMemory() (m memoryOf) {
	runtime.GC()
	m.kernel = kernelMemory()
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		switch comm, rss := processOf(d); comm {
		case "tared":
			m.engine += rss
		case "tare-keeper":
			m.keeper += rss
		}
	}
	return m
}
