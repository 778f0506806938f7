//go:build root

package network

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/network"

	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/linux/netlink"
	"github.com/tare-engine/tare/internal/network/firewall"
)

// BenchmarkAttach measures what a cold start waits for: namespace, link pair,
// address, routes. Nearly all of it is the kernel's work: about 0.5 ms for the
// namespace, as much for the pair with its bridge port, 0.4 ms for the rest,
// of which two parameters of IPv6 are 0.1 ms. It waits between two until the
// kernel has removed the last one, which would hold the next up.
func BenchmarkAttach(b *testing.B) {
	s := openService(b, Config{})
	var all []time.Duration
	for b.Loop() {
		start := time.Now()
		e, err := s.Attach(context.Background(), Request{ContainerID: ident.New()})
		all = append(all, time.Since(start))
		must(b, err)
		b.StopTimer()
		must(b, s.Release(context.Background(), e.ContainerID))
		settle(s)
		b.StartTimer()
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "median-µs")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
}

// BenchmarkAttachNamed measures what a start on a network with names waits for: cold,
// with a name server made in the new namespace, and with an endpoint that was made
// ahead. The floor is the kernel's part of a cold one: a namespace and a pair of links.
func BenchmarkAttachNamed(b *testing.B) {
	ctx := context.Background()
	for _, way := range []string{"floor", "cold", "ahead"} {
		b.Run(way, func(b *testing.B) {
			s := openService(b, Config{})
			named(b, s, "one", "10.1.0.0/16")
			r := newReservers(s)
			var all []time.Duration
			for b.Loop() {
				b.StopTimer()
				req := Request{ContainerID: ident.New(), Network: "one", Name: "web", Aliases: []string{"www"}}
				var e *Endpoint
				var err error
				if way == "ahead" {
					e = r.reserve(b, "one")
					req.ContainerID = e.ContainerID
				}
				b.StartTimer()
				start := time.Now()
				took := func() { all = append(all, time.Since(start)) }
				switch way {
				case "floor":
					floorOfAttach(b, s, took)
				case "cold":
					e, err = s.Attach(ctx, req)
					must(b, err)
					must(b, s.ServeNames(e.ContainerID, nil, e.NetNS))
					took()
				case "ahead":
					_, err = s.Bind(req)
					must(b, err)
					must(b, s.ServeNames(e.ContainerID, nil, e.NetNS))
					took()
				}
				b.StopTimer()
				if e != nil {
					r.bound(e)
					must(b, s.Release(ctx, e.ContainerID))
				}
				settle(s)
				b.StartTimer()
			}
			slices.Sort(all)
			b.ReportMetric(float64(all[len(all)/2].Microseconds()), "median-µs")
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
		})
	}
}

// floorOfAttach makes a namespace and a pair of links with one end in it, and gives
// them up when it has told that they are there.
func floorOfAttach(b *testing.B, s *Service, made func()) {
	ns, err := s.maker.New(func() error { return nil })
	must(b, err)
	defer ns.Close()
	var batch, gone netlink.Batch
	index := int(s.index.Add(1) & (1<<30 - 1))
	batch.AddVeth(netlink.Veth{Name: "floor", Index: index, PeerName: "eth0", PeerIndex: 2, PeerNS: int(ns.Fd())})
	must(b, s.host.Do(&batch))
	made()
	b.StopTimer()
	gone.DelLink(index)
	must(b, s.host.Do(&gone))
	b.StartTimer()
}

// settle waits until nothing leaves any more.
func settle(s *Service) {
	for waiting := true; waiting; time.Sleep(10 * time.Millisecond) {
		s.leaving.mu.Lock()
		waiting = len(s.leaving.wait) > 0
		s.leaving.mu.Unlock()
	}
}

// BenchmarkCycle is attach and release, several at once, as fast as the kernel
// makes and removes.
func BenchmarkCycle(b *testing.B) {
	s := openService(b, Config{})
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			e, err := s.Attach(context.Background(), Request{ContainerID: ident.New()})
			if err != nil {
				b.Error(err)
				return
			}
			if err := s.Release(context.Background(), e.ContainerID); err != nil {
				b.Error(err)
			}
		}
	})
	settle(s)
}

func BenchmarkPublish(b *testing.B) {
	s := openService(b, Config{})
	e := attach(b, s)
	for b.Loop() {
		_, err := s.Publish(context.Background(), e.ContainerID, []Port{{Proto: "tcp", Container: 80}})
		must(b, err)
		b.StopTimer()
		must(b, s.unpublish(e))
		b.StartTimer()
	}
}

// BenchmarkCreateNetwork makes the first network and the 300th, and removes it.
// Most of it is the kernel's work for the bridge and the disk's for the record: the
// floor is the packet filter's part as nft makes it.
func BenchmarkCreateNetwork(b *testing.B) {
	for _, have := range []int{0, 299} {
		b.Run(fmt.Sprintf("beside=%d", have), func(b *testing.B) {
			s := openService(b, Config{})
			for i := range have {
				_, err := s.Create(network.CreateRequest{Name: fmt.Sprint("n", i)})
				must(b, err)
			}
			var made, gone, rules []time.Duration
			for b.Loop() {
				start := time.Now()
				_, err := s.Create(network.CreateRequest{Name: "one"})
				must(b, err)
				b.StopTimer()
				made = append(made, time.Since(start))
				start = time.Now()
				_, err = s.Remove("one")
				must(b, err)
				gone = append(gone, time.Since(start))
				start = time.Now()
				n := firewall.Network{Name: "x", Link: "x", Subnets: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, ICC: true, Masquerade: true}
				must(b, s.wall.AddNetwork(n))
				rules = append(rules, time.Since(start))
				must(b, s.wall.RemoveNetwork("x"))
				b.StartTimer()
			}
			b.ReportMetric(float64(median(made).Microseconds()), "median-µs")
			b.ReportMetric(float64(median(gone).Microseconds()), "remove-µs")
			b.ReportMetric(float64(median(rules).Microseconds()), "rules-µs")
		})
	}
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// BenchmarkCreateNetworkFloor is the rules of one network, made by nft.
func BenchmarkCreateNetworkFloor(b *testing.B) {
	run := func(text string) {
		c := exec.Command("nft", "-f", "-")
		c.Stdin = strings.NewReader(text)
		if out, err := c.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
	run("table inet floor { set links { type ifname; }; map to { type ifname : verdict; }; map sources { type ipv4_addr : verdict; flags interval; }; }")
	defer run("delete table inet floor")
	var all []time.Duration
	for b.Loop() {
		start := time.Now()
		run(`table inet floor {
			set links-x { type ifname; elements = { "x" }; }
			chain to-x { ct state established,related accept; ct status dnat accept; iifname @links-x accept; drop; }
			chain sources-x { oifname != @links-x masquerade; oifname @links-x ct status dnat masquerade; }
		}
		add element inet floor links { "x" }
		add element inet floor to { "x" : jump to-x }
		add element inet floor sources { 192.0.2.0/24 : jump sources-x }`)
		b.StopTimer()
		all = append(all, time.Since(start))
		run(`delete element inet floor links { "x" }; delete element inet floor to { "x" }; delete element inet floor sources { 192.0.2.0/24 }
		delete chain inet floor to-x; delete chain inet floor sources-x; delete set inet floor links-x`)
		b.StartTimer()
	}
	b.ReportMetric(float64(median(all).Microseconds()), "median-µs")
}
