package main

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A trimmer gives memory back to the system that a burst of work has left: many starts,
// a flood of queries. By itself Go gives it back over many minutes.
type trimmer struct {
	has  func() uint64 // bytes that Go has of the system for its heap and stacks
	free func()
	kept uint64 // what was not to be had less of
}

const (
	trimEvery = 30 * time.Second
	trimFrom  = 32 << 20 // bytes; less is not worth a collection
)

func newTrimmer() *trimmer { return &trimmer{has: heapHeld, free: debug.FreeOSMemory} }

func (t *trimmer) run() {
	for range time.Tick(trimEvery) {
		t.look()
	}
}

// look gives memory back if there is twice as much as was left the last time.
func (t *trimmer) look() {
	has := t.has()
	if has < trimFrom || has < 2*t.kept {
		t.kept = min(t.kept, has)
		return
	}
	t.free()
	t.kept = t.has()
}

// heapHeld is what is mapped for heap and stacks and has not been given back.
func heapHeld() (sum uint64) {
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"},
	}
	metrics.Read(samples)
	for _, s := range samples {
		sum += s.Value.Uint64()
	}
	return sum
}
