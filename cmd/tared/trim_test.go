package main

import (
	"runtime/debug"
	"testing"
)

func TestTrimmer(t *testing.T) {
	const mb = 1 << 20
	has, live, freed := uint64(0), uint64(0), 0
	trim := &trimmer{has: func() uint64 { return has }, free: func() { has = live; freed++ }}
	for _, step := range []struct {
		has, live uint64 // MB
		freed     bool
	}{
		{10, 5, false}, {100, 20, true}, {30, 20, false}, {39, 20, false}, {200, 120, true}, {230, 120, false}, {240, 120, true},
		{20, 10, false}, {100, 10, true},
	} {
		before := freed
		has, live = step.has*mb, step.live*mb
		if trim.look(); freed > before != step.freed {
			t.Errorf("with %d MB of which %d are used: %v", step.has, step.live, freed > before)
		}
	}
}

func TestHeapHeldFalls(t *testing.T) {
	const size = 64 << 20
	b := make([]byte, size)
	for i := range b {
		b[i] = 1
	}
	before := heapHeld()
	if before < size || b[0] != 1 {
		t.Fatal(before)
	}
	b = nil
	debug.FreeOSMemory()
	if after := heapHeld(); after > before-size/2 {
		t.Error(before, after)
	}
}
