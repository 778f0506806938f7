package network

import (
	"context"
	"maps"
	"slices"

	"github.com/tare-engine/tare/internal/linux/netlink"
)

// watch follows in the background what happens to links and rules, until Close.
func (s *Service) watch(links *netlink.Watch) {
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = func() {
		cancel()
		links.Close()
		s.done.Wait()
	}
	s.leaving = newLeaving(s)
	s.done.Go(func() { s.leaving.late(ctx) })
	s.done.Go(func() { s.watchLinks(links) })
	s.done.Go(func() { s.wall.Watch(ctx) })
	s.done.Go(func() { s.wall.WatchOthers(ctx) })
}

// watchLinks follows the kernel's reports until the watch is closed.
func (s *Service) watchLinks(links *netlink.Watch) {
	for {
		c, err := links.Next()
		if err != nil {
			return
		}
		if c.Lost {
			s.compareLinks()
			continue
		}
		s.foreignCame(c.Bridges)
		for _, i := range c.Gone {
			s.linkGone(i)
		}
		down := s.leaving.staying(c.Lessened)
		s.lessened(down)
		s.limitsGone(append(s.leaving.staying(c.Unqueued), c.Gone...), down)
	}
}

// linkGone tells all whom it concerns that a link has disappeared.
func (s *Service) linkGone(index int) {
	s.leaving.linkGone(index)
	s.bridgeGone(index)
	s.foreignGone(index)
}

// compareLinks finds out by looking what reports that were lost may have told.
func (s *Service) compareLinks() {
	links, err := s.host.Links()
	if err != nil {
		s.log.Warn("list links", "err", err)
		return
	}
	s.foreignCame(links)
	there := make(map[int]bool, len(links))
	for _, l := range links {
		there[l.Index] = true
	}
	var gone, stay []int
	for _, i := range s.known() {
		if there[i] {
			stay = append(stay, i)
		} else {
			gone = append(gone, i)
		}
	}
	for _, i := range gone {
		s.linkGone(i)
	}
	s.lessened(s.leaving.staying(stay))
	s.limitsGone(gone, nil)
}

// known are the numbers of the links of which a report would be heard.
func (s *Service) known() []int {
	all := s.wall.Bridges()
	for _, n := range s.all() {
		if n.link != nil {
			all = append(all, n.link.Index())
		}
	}
	s.limits.mu.Lock()
	all = slices.AppendSeq(all, maps.Keys(s.limits.links))
	s.limits.mu.Unlock()
	s.mu.Lock()
	all = slices.AppendSeq(all, maps.Keys(s.links))
	s.mu.Unlock()
	s.leaving.mu.Lock()
	all = slices.AppendSeq(all, maps.Keys(s.leaving.wait))
	s.leaving.mu.Unlock()
	slices.Sort(all)
	return slices.Compact(all)
}
