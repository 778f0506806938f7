package container

import (
	"context"
	"log/slog"
	"slices"
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
	cellsAhead   = 3                      // how many of a network are kept ready
	cellNetworks = 4                      // how many networks have some: those used last
	cellsClaimed = 32                     // how many wait for the start of their container
	cellClaim    = 2 * time.Second        // how long one does
	cellsIdle    = time.Minute            // without a start on a network its cells are given up
	cellsPause   = 500 * time.Microsecond // between looks for a quiet moment
	cellsUrgent  = 100 * time.Millisecond // how long the refill waits for one
)

// cells are halves of starts, a pool of them for each network that containers are
// started on. Its loop makes and gives up cells; nobody waits for it.
type cells struct {
	cgroup   string // parent of the cells' groups
	records  *records
	networks *network.Service
	link     *link

	starting atomic.Int32 // starts under way: the loop keeps out of their way
	wake     chan struct{}
	stop     func() // set by start

	making  sync.Mutex // held while a cell is made, until it is in its pool; taken before mu
	mu      sync.Mutex
	pools   []*pool                  // the network used last first; at most cellNetworks
	claimed map[string]*cell         // by container ID
	leaving map[string]chan struct{} // claims that are being given up, by container ID: closed when they are
	surplus []*cell                  // to be given up by the loop
	off     bool
	counts  CellCounts // its sums
}

// CellCounts are the pool of halves of starts in numbers.
type CellCounts struct {
	Ready, Claimed int    // those that there are, and those that wait for the start of their container
	Hits, Misses   uint64 // new containers that got one, and those that one would have fitted
}

// Cells counts the pool of halves of starts.
func (s *Service) Cells() CellCounts { return s.cells.count() }

func (p *cells) count() CellCounts {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.counts
	for _, of := range p.pools {
		n.Ready += len(of.ready)
	}
	n.Claimed = len(p.claimed)
	return n
}

// pool is the cells of one network.
type pool struct {
	network string // its ID
	ready   []*cell
	used    time.Time // of the last start that a cell would have fitted
}

func newCells(cgroup string, r *records, n *network.Service, l *link) *cells {
	return &cells{
		cgroup: cgroup, records: r, networks: n, link: l,
		wake: make(chan struct{}, 1), claimed: map[string]*cell{}, leaving: map[string]chan struct{}{}, stop: func() {},
	}
}

// start begins to keep cells ready, until stop, which waits for the end of what
// is under way.
func (p *cells) start() {
	p.networks.SetEvict(p.leave)
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
// what is cheap to see is looked at; NewWake and network.Bind compare the rest.
func fitsCell(req *Request) bool {
	h, c := req.HostConfig, req.Config
	return h.Runtime == external.Own && !h.Privileged && cellNetwork(h.NetworkMode) && h.PidMode == "" && h.UTSMode == "" &&
		!c.NetworkDisabled &&
		h.IpcMode == container.IPCModePrivate && h.CgroupnsMode == container.CgroupnsModePrivate && h.CgroupParent == "" &&
		len(h.CapAdd)+len(h.CapDrop)+len(h.Devices)+len(h.DeviceRequests)+len(h.DeviceCgroupRules)+len(h.Sysctls)+len(h.SecurityOpt) == 0 &&
		c.Hostname == "" && c.Domainname == "" && h.OomScoreAdj == 0 && !asksLink(req)
}

// cellNetwork recognizes a network of the container's own.
func cellNetwork(m container.NetworkMode) bool {
	return m.IsDefault() || m.IsBridge() || m.IsUserDefined()
}

// asksLink reports whether a request says something of the link that a cell has.
func asksLink(req *Request) bool {
	r := &Record{Config: req.Config, HostConfig: req.HostConfig, Networking: req.Networking}
	ref := networksOf(r)[0]
	if req.Networking == nil || req.Networking.EndpointsConfig[ref] == nil {
		return false
	}
	return len(req.Networking.EndpointsConfig[ref].DriverOpts) > 0 || !networkRequest(r, ref).Plain()
}

// newID returns the ID for a new container: that of a ready cell of its first network
// if one fits.
func (p *cells) newID(req *Request, ids *idrange.Map) string {
	if ids != nil || !fitsCell(req) {
		return ident.New()
	}
	network, ok := p.networks.Reservable(networksOf(&Record{Config: req.Config, HostConfig: req.HostConfig, Networking: req.Networking})[0])
	if !ok {
		return ident.New()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.poke()
	of := p.use(network)
	if len(of.ready) == 0 || len(p.claimed) >= cellsClaimed {
		p.counts.Misses++
		return ident.New()
	}
	p.counts.Hits++
	c := of.ready[0]
	of.ready = of.ready[1:]
	c.endAt = time.Now().Add(cellClaim)
	p.claimed[c.id] = c
	return c.id
}

// use returns the pool of a network on which a container is about to be started. If
// there are too many now, the one not used for longest is given up.
//
// Preconditions: p.mu is held.
func (p *cells) use(network string) *pool {
	of := &pool{network: network}
	if at := p.at(network); at >= 0 {
		of = p.pools[at]
		p.pools = slices.Delete(p.pools, at, at+1)
	}
	of.used = time.Now()
	p.pools = slices.Insert(p.pools, 0, of)
	if len(p.pools) > cellNetworks {
		p.surplus = append(p.surplus, p.pools[cellNetworks].ready...)
		p.pools = p.pools[:cellNetworks]
	}
	return of
}

// at is the place of a network's pool, -1 if it has none.
//
// Preconditions: p.mu is held.
func (p *cells) at(network string) int {
	return slices.IndexFunc(p.pools, func(of *pool) bool { return of.network == network })
}

// take returns the container's cell, nil if it has none. It is the caller's. One that
// is being given up is gone when take returns: it bears the container's ID, and what
// ends it would end what is started meanwhile.
func (p *cells) take(id string) *cell {
	p.mu.Lock()
	c, leaving := p.claimed[id], p.leaving[id]
	delete(p.claimed, id)
	p.mu.Unlock()
	if leaving != nil {
		<-leaving
	}
	return c
}

// gone lets the container of a cell that was given up start.
func (p *cells) gone(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if leaving := p.leaving[id]; leaving != nil {
		close(leaving)
		delete(p.leaving, id)
	}
}

// poke lets the loop look at the pools.
func (p *cells) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run keeps the pools filled while containers are started, and empties them when
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
		for more := true; more && ctx.Err() == nil; {
			p.evictAll(p.stale())
			network := p.wanted()
			if more = network != ""; more {
				p.quiet(ctx)
				p.refill(ctx, network)
			}
		}
	}
}

// wanted returns the network that should have one more cell, "" if none should.
func (p *cells) wanted() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, of := range p.pools {
		if !p.off && len(of.ready) < cellsAhead {
			return of.network
		}
	}
	return ""
}

// refill makes one cell for a network. If that cannot be done, the network is left
// until its next start.
func (p *cells) refill(ctx context.Context, network string) {
	p.making.Lock()
	defer p.making.Unlock()
	c, err := p.make(ctx, network)
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.at(network)
	switch {
	case err != nil:
		slog.Debug("make a cell", "network", network, "err", err)
		if at >= 0 {
			p.drain(at)
		}
	case at < 0: // nobody wants it any more
		p.surplus = append(p.surplus, c)
	default:
		p.pools[at].ready = append(p.pools[at].ready, c)
	}
}

// drain gives a pool up.
//
// Preconditions: p.mu is held.
func (p *cells) drain(at int) {
	p.surplus = append(p.surplus, p.pools[at].ready...)
	p.pools = slices.Delete(p.pools, at, at+1)
}

// quiet waits for a moment without starts, but not for long.
func (p *cells) quiet(ctx context.Context) {
	for end := time.Now().Add(cellsUrgent); p.starting.Load() > 0 && time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(cellsPause)
	}
}

// stale takes the cells out that are to be given up: claimed ones whose start did not
// come, those of networks without starts, and surplus.
func (p *cells) stale() []*cell {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at := len(p.pools) - 1; at >= 0; at-- {
		if time.Since(p.pools[at].used) > cellsIdle {
			p.drain(at)
		}
	}
	old := p.surplus
	p.surplus = nil
	return append(old, p.unclaim(func(c *cell) bool { return time.Now().After(c.endAt) })...)
}

// unclaim takes claimed cells out, to be given up.
//
// Preconditions: p.mu is held.
func (p *cells) unclaim(which func(*cell) bool) (list []*cell) {
	for id, c := range p.claimed {
		if which(c) {
			list = append(list, c)
			delete(p.claimed, id)
			p.leaving[id] = make(chan struct{})
		}
	}
	return list
}

// leave gives up the cells of a network, one that is being made too.
func (p *cells) leave(network string) {
	p.making.Lock()
	defer p.making.Unlock()
	own := func(c *cell) bool { return c.network == network }
	p.mu.Lock()
	if at := p.at(network); at >= 0 {
		p.drain(at)
	}
	list := p.unclaim(own)
	for _, c := range p.surplus {
		if own(c) {
			list = append(list, c)
		}
	}
	p.surplus = slices.DeleteFunc(p.surplus, own)
	p.mu.Unlock()
	p.evictAll(list)
}

// takeAll takes all cells out of the pools.
func (p *cells) takeAll() []*cell {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.pools) > 0 {
		p.drain(0)
	}
	all := append(p.surplus, p.unclaim(func(*cell) bool { return true })...)
	p.surplus = nil
	return all
}

// empty gives all cells up and makes no more.
func (p *cells) empty() {
	p.mu.Lock()
	p.off = true
	p.mu.Unlock()
	p.evictAll(p.takeAll())
}

// drop forgets all cells: their children ended with the keeper that had them.
func (p *cells) drop() {
	for _, c := range p.takeAll() {
		p.abandon(c)
	}
}
