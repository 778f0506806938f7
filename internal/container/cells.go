package container

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/idrange"
	"github.com/tare-engine/tare/internal/network"
	"github.com/tare-engine/tare/internal/runtime/external"
)

const (
	cellsAhead  = 3                      // how many are kept ready
	cellClaim   = 2 * time.Second        // how long a created container's cell waits for its start
	cellsIdle   = time.Minute            // without a start the pool is emptied
	cellsPause  = 500 * time.Microsecond // between looks for a quiet moment
	cellsUrgent = 100 * time.Millisecond // how long the refill waits for one
)

// cells is the pool. Its loop makes and gives up cells; nobody waits for it.
type cells struct {
	cgroup   string // parent of the cells' groups
	records  *records
	networks *network.Service
	link     *link

	starting atomic.Int32 // starts under way: the loop keeps out of their way
	wake     chan struct{}
	stop     func() // set by start

	mu      sync.Mutex
	ready   []*cell
	claimed map[string]*cell // by container ID
	used    time.Time        // of the last start that a cell would have fitted
	off     bool
}

func newCells(cgroup string, r *records, n *network.Service, l *link) *cells {
	return &cells{
		cgroup: cgroup, records: r, networks: n, link: l,
		wake: make(chan struct{}, 1), claimed: map[string]*cell{}, stop: func() {},
	}
}

// start begins to keep cells ready, until stop, which waits for the end of what
// is under way.
func (p *cells) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.run(ctx)
	}()
	p.stop = func() {
		cancel()
		<-done
	}
}

// fitsCell reports whether a container may be what cells are made for. Only
// what is cheap to see is looked at; NewWake compares the rest.
func fitsCell(req *Request) bool {
	h, c := req.HostConfig, req.Config
	return h.Runtime == external.Own && !h.Privileged && (h.NetworkMode.IsDefault() || h.NetworkMode.IsBridge()) && h.PidMode == "" && h.UTSMode == "" &&
		h.IpcMode == container.IPCModePrivate && h.CgroupnsMode == container.CgroupnsModePrivate && h.CgroupParent == "" &&
		len(h.CapAdd)+len(h.CapDrop)+len(h.Devices)+len(h.DeviceRequests)+len(h.DeviceCgroupRules)+len(h.Sysctls)+len(h.SecurityOpt) == 0 &&
		c.Hostname == "" && c.Domainname == "" && h.OomScoreAdj == 0 && !asksLink(req)
}

// asksLink reports whether a request says something of the link that a cell has.
func asksLink(req *Request) bool {
	if req.Networking == nil {
		return false
	}
	for _, ep := range req.Networking.EndpointsConfig {
		if ep != nil && (len(ep.MacAddress) > 0 || len(ep.DriverOpts) > 0 || ep.GwPriority != 0 || ep.IPAMConfig != nil && len(ep.IPAMConfig.LinkLocalIPs) > 0) {
			return true
		}
	}
	return false
}

// newID returns the ID for a new container: that of a ready cell if one fits.
func (p *cells) newID(req *Request, ids *idrange.Map) string {
	if ids != nil || !fitsCell(req) {
		return ident.New()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used = time.Now()
	defer p.poke()
	if len(p.ready) == 0 {
		return ident.New()
	}
	c := p.ready[0]
	p.ready = p.ready[1:]
	c.endAt = time.Now().Add(cellClaim)
	p.claimed[c.id] = c
	return c.id
}

// take returns the container's cell, nil if it has none. It is the caller's.
func (p *cells) take(id string) *cell {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.claimed[id]
	delete(p.claimed, id)
	return c
}

// poke lets the loop look at the pool.
func (p *cells) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run keeps the pool filled while containers are started, and empties it when
// none were for a while, and at the end.
func (p *cells) run(ctx context.Context) {
	tick := time.NewTicker(cellClaim)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			p.empty()
			return
		case <-p.wake:
		case <-tick.C:
		}
		for _, c := range p.stale() {
			p.evict(c)
		}
		for ctx.Err() == nil && p.wanted() {
			p.quiet(ctx)
			c, err := p.make(ctx)
			if err != nil {
				slog.Debug("make a cell", "err", err)
				break
			}
			p.add(c)
		}
	}
}

// wanted reports whether the pool should have one more cell.
func (p *cells) wanted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.off && len(p.ready) < cellsAhead && time.Since(p.used) < cellsIdle
}

func (p *cells) add(c *cell) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready = append(p.ready, c)
}

// quiet waits for a moment without starts, but not for long.
func (p *cells) quiet(ctx context.Context) {
	for end := time.Now().Add(cellsUrgent); p.starting.Load() > 0 && time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(cellsPause)
	}
}

// stale takes the cells out that are to be given up: claimed ones whose start
// did not come, and all if there are no starts at all.
func (p *cells) stale() []*cell {
	p.mu.Lock()
	defer p.mu.Unlock()
	var old []*cell
	for id, c := range p.claimed {
		if time.Now().After(c.endAt) {
			old = append(old, c)
			delete(p.claimed, id)
		}
	}
	if time.Since(p.used) > cellsIdle {
		old = append(old, p.ready...)
		p.ready = nil
	}
	return old
}

// takeAll takes all cells out of the pool.
//
// Preconditions: p.mu is held.
func (p *cells) takeAll() []*cell {
	all := p.ready
	p.ready = nil
	for id, c := range p.claimed {
		all = append(all, c)
		delete(p.claimed, id)
	}
	return all
}

// empty gives all cells up and makes no more.
func (p *cells) empty() {
	p.mu.Lock()
	p.off = true
	all := p.takeAll()
	p.mu.Unlock()
	for _, c := range all {
		p.evict(c)
	}
}

// drop forgets all cells: their children ended with the keeper that had them.
func (p *cells) drop() {
	p.mu.Lock()
	all := p.takeAll()
	p.mu.Unlock()
	for _, c := range all {
		p.abandon(c)
	}
}
