package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestGrowth(t *testing.T) {
	const mb = 1 << 20
	for live, want := range map[uint64]int{0: 400, 5 * mb: 400, 8 * mb: 400, 16 * mb: 200, 32 * mb: 100, 900 * mb: 100} {
		if got := growth(live); got != want {
			t.Errorf("%d MB: %d, want %d", live/mb, got, want)
		}
	}
}

// TestCollectorIsTuned: a heap that has become large grows less, and as before once
// it is small again.
func TestCollectorIsTuned(t *testing.T) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	tuneCollector()
	kept := make([]byte, 100<<20)
	await := func(what string, ok func(percent int) bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			runtime.GC()
			p := debug.SetGCPercent(100)
			debug.SetGCPercent(p)
			if ok(p) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %d %%", what, p)
			}
		}
	}
	await("large", func(p int) bool { return p == leastGrowth })
	runtime.KeepAlive(kept)
	kept = nil
	await("small", func(p int) bool { return p == mostGrowth })
}
