package container

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A place is free again when it is left, or when its holder takes too long; who does not
// want it any more waits for none.
func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := make(places, 1)
		leave, err := p.take(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		gone, cancel := context.WithTimeout(t.Context(), holdTime/2)
		defer cancel()
		if _, err := p.take(gone); err == nil {
			t.Fatal("there were two places")
		}
		began := time.Now()
		second, err := p.take(t.Context())
		if err != nil || time.Since(began) != holdTime/2 {
			t.Fatalf("a place that is held too long: after %v, %v", time.Since(began), err)
		}
		leave() // late: it is the second's now
		if _, err := p.take(gone); err == nil {
			t.Fatal("a place was left twice")
		}
		second()
		third, err := p.take(t.Context())
		if err != nil || time.Since(began) != holdTime/2 {
			t.Fatalf("a place that was left: after %v, %v", time.Since(began), err)
		}
		third()
	})
}
