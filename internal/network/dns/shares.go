package dns

import (
	"sync"
	"time"
)

// shares bounds what goes on for all clients together, and for each. When there is no
// room, who has less than an equal share gets it from who has most. What has gone on for
// long gives way to its own client's newest once he has half of what he may have: what
// hangs does not keep out what would be answered. Before that it stays: where more is
// asked than can be answered, nothing would be if the newest always came first.
type shares struct {
	most int // altogether
	each int // of one client
	long time.Duration

	mu sync.Mutex
	n  int
	of map[*client][]*stint // the oldest first
}

// stint is one that goes on.
type stint struct {
	client *client
	cancel func() // ends it; called once at most
	since  time.Time
}

func newShares(most, each int, long time.Duration) *shares {
	return &shares{most: most, each: each, long: long, of: map[*client][]*stint{}}
}

// enter gives a client room for one more, whose end is told by leave; cancel is called
// if it has to end before. nil: there is no room.
func (s *shares) enter(c *client, cancel func(), now time.Time) *stint {
	s.mu.Lock()
	defer s.mu.Unlock()
	own, may := s.of[c], s.each
	if s.n >= s.most {
		may = min(may, s.equal())
	}
	switch {
	case len(own) > 0 && len(own) >= may/2 && now.Sub(own[0].since) >= s.long:
		s.end(own[0])
	case len(own) >= may:
		return nil
	case s.n >= s.most:
		s.end(s.greatest()[0])
	}
	t := &stint{c, cancel, now}
	s.of[c] = append(s.of[c], t)
	s.n++
	return t
}

// equal is the share of each client that has something going on, one at least.
//
// Preconditions: s.mu is held.
func (s *shares) equal() int { return max(1, s.most/max(1, len(s.of))) }

// greatest is what goes on for the client that has most.
//
// Preconditions: s.mu is held.
func (s *shares) greatest() (list []*stint) {
	for _, of := range s.of {
		if len(of) > len(list) {
			list = of
		}
	}
	return list
}

// end cancels what goes on.
//
// Preconditions: s.mu is held.
func (s *shares) end(t *stint) {
	s.remove(t)
	t.cancel()
}

// leave tells that it has ended; it may have been cancelled.
func (s *shares) leave(t *stint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(t)
}

// remove takes it out; it may be gone.
//
// Preconditions: s.mu is held.
func (s *shares) remove(t *stint) {
	list := s.of[t.client]
	for i, other := range list {
		if other != t {
			continue
		}
		s.n--
		if len(list) == 1 {
			delete(s.of, t.client)
			return
		}
		s.of[t.client] = append(list[:i:i], list[i+1:]...)
		return
	}
}
