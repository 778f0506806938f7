package dns

import (
	"slices"
	"testing"
	"time"
)

// someone enters for clients by name and notes what is cancelled.
type someone struct {
	*shares
	clients map[string]*client
	now     time.Time
	ended   []string
}

func newSomeone(most, each int) *someone {
	return &someone{shares: newShares(most, each, long), clients: map[string]*client{}, now: time.Unix(1e9, 0)}
}

func (s *someone) enter(who string) *stint {
	if s.clients[who] == nil {
		s.clients[who] = &client{}
	}
	return s.shares.enter(s.clients[who], func() { s.ended = append(s.ended, who) }, s.now)
}

// fill enters as often as there is room, and returns how often.
func (s *someone) fill(who string) (n int) {
	for s.enter(who) != nil {
		n++
	}
	return n
}

func TestSharesAreEqual(t *testing.T) {
	s := newSomeone(12, 8)
	if n := s.fill("a"); n != 8 {
		t.Error("alone:", n)
	}
	if n := s.fill("b"); n != 6 { // 4 are left, and two are of who has more than half
		t.Error("the second:", n)
	}
	if n := s.fill("c"); n != 4 {
		t.Error("the third:", n)
	}
	if len(s.ended) != 6 || s.n != 12 || len(s.of[s.clients["a"]]) != 4 || len(s.of[s.clients["b"]]) != 4 {
		t.Error(s.ended, s.n, len(s.of[s.clients["a"]]), len(s.of[s.clients["b"]]))
	}
}

func TestEachOfManyHasOne(t *testing.T) {
	s := newSomeone(4, 4)
	for _, who := range []string{"a", "b", "c", "d", "e", "f"} {
		if s.enter(who) == nil {
			t.Errorf("%s is kept out", who)
		}
		if s.n > 4 {
			t.Error(s.n)
		}
	}
	if len(s.ended) != 2 {
		t.Error(s.ended)
	}
}

func TestWhatHangsGivesWay(t *testing.T) {
	s := newSomeone(100, 8)
	first := s.enter("a")
	s.fill("a")
	if len(s.ended) != 0 {
		t.Error("young ones were ended:", s.ended)
	}
	s.now = s.now.Add(long)
	if s.enter("a") == nil || !slices.Equal(s.ended, []string{"a"}) {
		t.Error("the oldest has not given way:", s.ended)
	}
	s.leave(first) // who was cancelled leaves too
	if s.n != 8 {
		t.Error(s.n)
	}
	for range 7 { // the rest of the old ones
		s.enter("a")
	}
	if n := s.fill("a"); n != 0 || s.n != 8 {
		t.Error(n, s.n)
	}
	for _, list := range s.of {
		for _, t := range slices.Clone(list) {
			s.leave(t)
		}
	}
	if s.n != 0 || len(s.of) != 0 {
		t.Error(s.n, s.of)
	}
}
