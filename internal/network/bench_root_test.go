//go:build root

package network

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/network/bridge"
)

// BenchmarkAttach measures namespace, link pair, address and routes, what a
// cold start waits for: 1.2 ms of 1.5 ms are the kernel's work. The parts are
// reported beside the whole.
func BenchmarkAttach(b *testing.B) {
	s := openService(b, Config{})
	parts := map[string][]time.Duration{}
	for b.Loop() {
		e, err := s.Attach(context.Background(), Request{ContainerID: ident.New()})
		must(b, err)
		b.StopTimer()
		must(b, s.Release(context.Background(), e.ContainerID))
		measureParts(b, s, parts)
		time.Sleep(20 * time.Millisecond) // as between two starts
		b.StartTimer()
	}
	for name, d := range parts {
		slices.Sort(d)
		b.ReportMetric(float64(d[len(d)/2].Microseconds()), name+"-µs")
	}
}

func measureParts(b *testing.B, s *Service, parts map[string][]time.Duration) {
	n := s.networks[0]
	ip, err := n.pool.Take()
	must(b, err)
	start := time.Now()
	ns, in, err := s.newNS()
	must(b, err)
	parts["namespace"] = append(parts["namespace"], time.Since(start))
	e := &Endpoint{network: n, Record: Record{ContainerID: ident.New(), IP: n.link.Gateway, MAC: MAC(net.HardwareAddr{2, 2, 2, 2, 2, 2}), Link: "tvbench"}}
	_ = bridge.MACOf
	start = time.Now()
	must(b, s.connectLink(e, ns, in))
	parts["link"] = append(parts["link"], time.Since(start))
	in.Close()
	ns.Close()
	n.pool.Release(ip)
	for start = time.Now(); time.Since(start) < time.Second; time.Sleep(time.Millisecond) {
		if _, ok, _ := s.host.LinkByName("tvbench"); !ok {
			break
		}
	}
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
