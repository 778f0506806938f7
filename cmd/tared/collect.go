package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// The heap is a few megabytes: collect when it has grown fivefold, and stay out
	// of the way of starts.
	mostGrowth = 400 // percent
	// A large one, of many clients that do not read, is not to grow so much for
	// garbage: by this, or to twice its size.
	mostGarbage = 32 << 20 // bytes
	leastGrowth = 100
)

// growth is by how many percent a heap may grow before it is collected.
func growth(live uint64) int {
	return int(min(mostGrowth, max(leastGrowth, mostGarbage*100/max(live, 1))))
}

// tuneCollector has the collector look at the size of the heap after each collection.
func tuneCollector() {
	last := mostGrowth
	debug.SetGCPercent(last)
	var arm func()
	tune := func() {
		if p := growth(heapLive()); p < last*9/10 || p > last*11/10 || p != last && (p == mostGrowth || p == leastGrowth) {
			last = p
			debug.SetGCPercent(p)
		}
		arm()
	}
	arm = func() { runtime.SetFinalizer(new(canary), func(*canary) { tune() }) }
	arm()
}

// A canary is collected by the next collection, which its finalizer thus hears of. It
// holds a pointer, for what holds none may share its memory with others.
type canary struct{ _ *canary }

// heapLive is what the last collection has found in use.
func heapLive() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
