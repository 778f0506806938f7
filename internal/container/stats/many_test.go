package stats

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/moby/api/types/container"
)

// thousand runs a thousand containers.
type thousand struct{ fakes }

func (*thousand) Running() (ts []Target) {
	for i := range 1000 {
		ts = append(ts, Target{ID: fmt.Sprint(i)})
	}
	return ts
}

// TestThousandContainersTakeNoGoroutineEach: one call reads them all.
func TestThousandContainersTakeNoGoroutineEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f := collector()
		c.source = &thousand{}
		most, before := 0, runtime.NumGoroutine()
		sample := c.sample
		c.sample = func(g Target, h hostCounters) (*container.StatsResponse, error) {
			most = max(most, runtime.NumGoroutine())
			return sample(g, h)
		}
		enough := errors.New("enough")
		rounds := 0
		err := c.WatchAll(context.Background(), func(round []*container.StatsResponse) error {
			if len(round) != 1000 {
				t.Errorf("%d containers", len(round))
			}
			if rounds++; rounds == 2 {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) || len(f.reads) != 1000 {
			t.Errorf("%v, %d read", err, len(f.reads))
		}
		if most > before+16 {
			t.Errorf("%d goroutines, %d before", most, before)
		}
		time.Sleep(5 * time.Second) // of the bubble's clock: the loop ends
	})
}
