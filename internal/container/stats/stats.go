// Package stats measures running containers: what `docker stats` shows.
//
// One goroutine reads for all who watch, once a second, and only while somebody
// does; each container is read once however many watch it. A watcher that is
// slow misses samples and gets the newest.
package stats

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/container"
)

// period is how often watched containers are read.
const period = time.Second

// Source tells which containers there are.
type Source interface {
	// Target returns a container; running is false if it has no process.
	Target(id string) (t Target, running bool, err error)
	// Running returns all that run.
	Running() []Target
}

// Collector measures the containers of a source.
type Collector struct {
	source Source
	host   func() (hostCounters, error)
	sample func(Target, hostCounters) (*container.StatsResponse, error)

	mu       sync.Mutex
	watchers map[*watcher]bool
	last     map[string]*container.StatsResponse // of the round before, by ID
	running  bool                                // the loop
}

// watcher gets the samples of one container, or of all.
type watcher struct {
	id   string                          // empty: all
	next chan []*container.StatsResponse // holds the newest round
}

// New returns a collector that does nothing until somebody asks.
func New(s Source) *Collector {
	return &Collector{source: s, host: readHost, sample: sample, watchers: map[*watcher]bool{}, last: map[string]*container.StatsResponse{}}
}

// Now reads a container once: PreCPUStats are zero. One that does not run has
// zeros everywhere.
func (c *Collector) Now(id string) (*container.StatsResponse, error) {
	t, running, err := c.source.Target(id)
	if err != nil || !running {
		return empty(t), err
	}
	host, err := c.host()
	if err != nil {
		return nil, err
	}
	r, err := c.sample(t, host)
	if gone(err) {
		return empty(t), nil
	}
	return r, err
}

// All reads all running containers once. One that ends meanwhile is left out.
func (c *Collector) All() (list []*container.StatsResponse) {
	host, err := c.host()
	if err != nil {
		return nil
	}
	for _, t := range c.source.Running() {
		if r, err := c.sample(t, host); err == nil {
			list = append(list, r)
		}
	}
	return list
}

// Pair reads a container twice, a second apart, so that a share of the
// processors can be told from it.
func (c *Collector) Pair(ctx context.Context, id string) (*container.StatsResponse, error) {
	a, err := c.Now(id)
	if err != nil || a.Read.IsZero() {
		return a, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(period):
	}
	b, err := c.Now(id)
	if err == nil {
		setBefore(b, a)
	}
	return b, err
}

// setBefore enters the sample before in r.
func setBefore(r, before *container.StatsResponse) {
	if before != nil && !r.Read.IsZero() {
		r.PreRead, r.PreCPUStats = before.Read, before.CPUStats
	}
}

// Watch gives a container's samples to emit, one at once and then one a second,
// until ctx ends, emit fails or the container is gone. While the container does
// not run it gets nothing.
func (c *Collector) Watch(ctx context.Context, id string, emit func(*container.StatsResponse) error) error {
	first, err := c.Now(id)
	if err != nil {
		return err
	}
	if err := emit(first); err != nil {
		return err
	}
	return c.follow(ctx, first.ID, func(round []*container.StatsResponse) error {
		if len(round) == 0 {
			_, _, err := c.source.Target(first.ID) // it is gone, or waits for a start
			return err
		}
		return emit(round[0])
	})
}

// WatchAll gives the samples of all running containers to emit, once a second,
// until ctx ends or emit fails. The samples belong to all watchers.
func (c *Collector) WatchAll(ctx context.Context, emit func([]*container.StatsResponse) error) error {
	return c.follow(ctx, "", emit)
}

func (c *Collector) follow(ctx context.Context, id string, emit func([]*container.StatsResponse) error) error {
	w := &watcher{id: id, next: make(chan []*container.StatsResponse, 1)}
	c.mu.Lock()
	c.watchers[w] = true
	if !c.running {
		c.running = true
		go c.loop()
	}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.watchers, w)
		c.mu.Unlock()
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case round := <-w.next:
			if ctx.Err() != nil {
				return nil
			}
			if err := emit(round); err != nil {
				return err
			}
		}
	}
}

// loop measures until nobody watches.
func (c *Collector) loop() {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for range tick.C {
		targets, more := c.wanted()
		if !more {
			return
		}
		c.give(c.measure(targets))
	}
}

// wanted returns what is watched, false if nothing is.
func (c *Collector) wanted() ([]Target, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.watchers) == 0 {
		c.running = false
		clear(c.last)
		return nil, false
	}
	ids := map[string]bool{}
	for w := range c.watchers {
		if w.id == "" {
			return c.source.Running(), true
		}
		ids[w.id] = true
	}
	var targets []Target
	for id := range ids {
		if t, running, err := c.source.Target(id); err == nil && running {
			targets = append(targets, t)
		}
	}
	return targets, true
}

// measure reads each target and sets it beside the round before.
func (c *Collector) measure(targets []Target) map[string]*container.StatsResponse {
	round := make(map[string]*container.StatsResponse, len(targets))
	host, err := c.host()
	if err != nil {
		return round
	}
	for _, t := range targets {
		if r, err := c.sample(t, host); err == nil { // else it has ended: the next round knows
			setBefore(r, c.last[t.ID])
			round[t.ID] = r
		}
	}
	return round
}

// give hands a round to the watchers. What a slow one has not taken is dropped.
func (c *Collector) give(round map[string]*container.StatsResponse) {
	all := make([]*container.StatsResponse, 0, len(round))
	for _, r := range round {
		all = append(all, r)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = round
	for w := range c.watchers {
		mine := all
		if w.id != "" {
			mine = nil
			if r := round[w.id]; r != nil {
				mine = []*container.StatsResponse{r}
			}
		}
		select {
		case <-w.next:
		default:
		}
		w.next <- mine
	}
}

// gone reports whether a container ended while it was read.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) || errors.Is(err, syscall.ENODEV)
}
