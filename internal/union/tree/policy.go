package tree

import (
	"sync"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/union"
)

// freeSpace remembers how much is free on branches.
type freeSpace struct {
	mu    sync.Mutex
	every time.Duration
	known map[*Branch]measured
}

type measured struct {
	bytes uint64
	when  time.Time
}

// setEvery changes how long a measurement is used.
func (f *freeSpace) setEvery(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.every = d
}

func (f *freeSpace) of(b *Branch) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m, ok := f.known[b]; ok && time.Since(m.when) < f.every {
		return m.bytes
	}
	var st dirat.Statfs
	if b.root.Statfs(&st) != nil {
		return 0 // the last choice
	}
	if f.known == nil {
		f.known = map[*Branch]measured{}
	}
	m := measured{st.Bavail * uint64(st.Bsize), time.Now()}
	f.known[b] = m
	return m.bytes
}

// most returns the branch with most free space; of equals the topmost.
func (f *freeSpace) most(list []*Branch) *Branch {
	var best *Branch
	var bytes uint64
	for _, b := range list {
		if n := f.of(b); best == nil || n > bytes {
			best, bytes = b, n
		}
	}
	return best
}

// writable lists the writable branches down to an index, topmost first.
func (t *Tree) writable(limit int) []*Branch {
	var list []*Branch
	for _, b := range t.branches {
		if b.index > limit {
			break
		}
		if b.rw() {
			list = append(list, b)
		}
	}
	return list
}

// having lists those branches that have directory p.
func having(p *Node, list []*Branch) []*Branch {
	var out []*Branch
	for _, b := range list {
		if p.dir.has(b) {
			out = append(out, b)
		}
	}
	return out
}

// limit is the index of the lowest branch in which something new of directory
// p would be seen.
func (t *Tree) limit(p *Node) int {
	t.table.mu.Lock()
	defer t.table.mu.Unlock()
	limit := noLimit
	for p != nil {
		limit = min(limit, int(p.dir.limit.Load()))
		p, _, _ = p.place()
	}
	return limit
}

// forNew chooses the branch for something new in directory p, not below an
// index, by the create policy.
func (t *Tree) forNew(p *Node, limit int) (*Branch, error) {
	c := t.options.Create
	if c.Policy != union.TDP {
		limit = min(limit, t.limit(p))
	}
	all := t.writable(limit)
	if len(all) == 0 {
		return nil, syscall.EROFS
	}
	low := func(b *Branch) bool { return t.free.of(b) < c.Low }
	switch c.Policy {
	case union.RoundRobin:
		return t.next(all), nil
	case union.MFS:
		return t.free.most(all), nil
	case union.MFSRR:
		if b := t.free.most(all); !low(b) {
			return b, nil
		}
		return t.next(all), nil
	case union.TDMFS:
		if b, err := t.topDown(p, all); err == nil && !low(b) {
			return b, nil
		}
		return t.free.most(all), nil
	case union.PMFS, union.PMFSRR:
		if with := having(p, all); len(with) > 0 {
			b := t.free.most(with)
			if c.Policy == union.PMFS || !low(b) {
				return b, nil
			}
			return t.next(with), nil
		}
	}
	return t.topDown(p, all)
}

// next takes one after the other.
func (t *Tree) next(list []*Branch) *Branch {
	return list[(t.turn.Add(1)-1)%uint64(len(list))]
}

// topDown takes the topmost that has the directory, or else the nearest above
// where it is.
func (t *Tree) topDown(p *Node, list []*Branch) (*Branch, error) {
	if with := having(p, list); len(with) > 0 {
		return with[0], nil
	}
	slots := p.dir.list()
	if len(slots) == 0 {
		return nil, syscall.ESTALE
	}
	return nearest(list, slots[0].b.index)
}

// nearest takes the lowest down to an index.
func nearest(list []*Branch, limit int) (*Branch, error) {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].index <= limit {
			return list[i], nil
		}
	}
	return nil, syscall.EROFS
}

// forCopy chooses the branch, above an index, to which something of directory p
// is copied up, or which gets its whiteout.
func (t *Tree) forCopy(p *Node, below int) (*Branch, error) {
	list := t.writable(below - 1)
	with := having(p, list)
	switch {
	case t.options.CopyUp == union.TDP && len(with) > 0:
		return with[0], nil
	case t.options.CopyUp == union.BUP && len(with) > 0:
		return with[len(with)-1], nil
	}
	return nearest(list, below-1)
}
