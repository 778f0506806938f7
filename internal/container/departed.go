package container

import (
	"slices"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
)

// departed are the results of containers that have removed themselves a moment ago. A
// client that starts one and then waits for it finds it with Docker, whose removals take
// longer than the client's next request. The zero value is ready.
type departed struct {
	mu   sync.Mutex
	list []departure // the last one came last
}

type departure struct {
	id     string
	result Result
	at     time.Time
}

// Kept are so many, so long.
const (
	departedMost = 4096
	departedTime = 10 * time.Second
)

// add notes one, and forgets those that went long ago.
func (d *departed) add(id string, result Result) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := max(0, len(d.list)-departedMost+1)
	for old < len(d.list) && time.Since(d.list[old].at) > departedTime {
		old++
	}
	d.list = append(d.list[old:], departure{id, result, time.Now()})
}

// find finds one by its whole ID, unless it is waited for to end once more.
func (d *departed) find(id string, cond container.WaitCondition) (Result, bool) {
	if cond == container.WaitConditionNextExit {
		return Result{}, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, gone := range slices.Backward(d.list) {
		if gone.id == id && time.Since(gone.at) <= departedTime {
			return gone.result, true
		}
	}
	return Result{}, false
}
