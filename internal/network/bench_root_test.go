//go:build root

package network

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/ident"
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
