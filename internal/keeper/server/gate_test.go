package server

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		g.enter()
		g.shut()
		var late atomic.Int32
		var waiting sync.WaitGroup
		for range 3 {
			waiting.Go(func() {
				g.enter()
				late.Add(1)
				g.leave()
			})
		}
		begun := time.Now()
		if g.emptied(time.Second) || time.Since(begun) != time.Second {
			t.Errorf("with one inside it is empty after %v", time.Since(begun))
		}
		g.leave()
		if !g.emptied(time.Second) {
			t.Error("it is not empty")
		}
		synctest.Wait()
		if late.Load() > 0 {
			t.Error("somebody came in while it was shut")
		}
		g.open()
		waiting.Wait()
		if n := late.Load(); n != 3 {
			t.Errorf("%d of 3 came in", n)
		}
		g.enter() // open for all
		g.leave()
	})
}

// TestGateThatDidNotGetEmpty: who has waited in vain leaves nothing behind that
// those who come and go later could stumble over.
func TestGateThatDidNotGetEmpty(t *testing.T) {
	var g gate
	for range 200 {
		g.enter()
		g.shut()
		if g.emptied(0) {
			t.Fatal("empty")
		}
		g.open()
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 50 {
					g.enter()
					g.leave()
				}
			})
		}
		g.leave()
		all.Wait()
		g.shut()
		if !g.emptied(time.Second) {
			t.Fatal("not empty")
		}
		g.open()
	}
}
