package dns

import (
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"
)

var now = time.Unix(1e9, 0)

// replyTo is a packed reply with these records.
func replyTo(t *testing.T, q *dns.Msg, code int, answers, authority string) []byte {
	t.Helper()
	r := &dns.Msg{}
	r.SetRcode(q, code)
	for text, to := range map[string]*[]dns.RR{answers: &r.Answer, authority: &r.Ns} {
		if text == "" {
			continue
		}
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		*to = append(*to, rr)
	}
	return mustPack(t, r)
}

func mustPack(t *testing.T, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCache(t *testing.T) {
	const soa = "example. 90 IN SOA ns.example. root.example. 1 1 1 1 30"
	for _, c := range []struct {
		name               string
		code               int
		answers, authority string
		age                time.Duration // for how long it is kept
	}{
		{"answer", dns.RcodeSuccess, "a.example. 60 IN A 192.0.2.1", "", 60 * time.Second},
		{"for ever", dns.RcodeSuccess, "a.example. 999999 IN A 192.0.2.1", "", maxAge},
		{"not at all", dns.RcodeSuccess, "a.example. 0 IN A 192.0.2.1", "", 0},
		{"denial", dns.RcodeNameError, "", soa, 30 * time.Second},
		{"nothing of this kind", dns.RcodeSuccess, "", soa, 30 * time.Second},
		{"denial without an age", dns.RcodeNameError, "", "", 0},
		{"failure", dns.RcodeServerFailure, "", soa, 0},
	} {
		q := query("a.example.", dns.TypeA)
		cache := cache{room: newRoom(1 << 20)}
		cache.put(mustPack(t, q), replyTo(t, q, c.code, c.answers, c.authority), now)
		q.Id++
		if c.age > 0 {
			b := cache.get(mustPack(t, q), now.Add(c.age-time.Second))
			var r dns.Msg
			if err := r.Unpack(b); err != nil || r.Id != q.Id || r.Rcode != c.code {
				t.Errorf("%s: %v %v", c.name, err, &r)
			}
			if c.name == "answer" && r.Answer[0].Header().Ttl != 1 {
				t.Errorf("the records have not grown old: %v", &r)
			}
		}
		if b := cache.get(mustPack(t, q), now.Add(c.age)); b != nil {
			t.Errorf("%s: it was kept for longer than %s", c.name, c.age)
		}
		q.CheckingDisabled = true
		if b := cache.get(mustPack(t, q), now); b != nil {
			t.Errorf("%s: it answers another query", c.name)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	all := newRoom(1 << 20)
	c := cache{room: all}
	put := func(c *cache, i int) bool {
		q := query(fmt.Sprintf("n%d.example.", i), dns.TypeA)
		c.put(mustPack(t, q), replyTo(t, q, dns.RcodeSuccess, q.Question[0].Name+" 60 IN A 192.0.2.1", ""), now)
		return c.get(mustPack(t, q), now) != nil
	}
	for i := range 3 * maxReplies {
		if !put(&c, i) {
			t.Fatal("the newest is not there")
		}
	}
	if len(c.replies) > maxReplies {
		t.Error(len(c.replies))
	}

	// with little room for all caches together
	c.close()
	if put(&c, 0) || all.left.Load() != 1<<20 {
		t.Error("closed, it keeps", 1<<20-all.left.Load())
	}
	little := newRoom(10 * 300)
	a, b := cache{room: little}, cache{room: little}
	for i := range 100 {
		if !put(&a, i) {
			t.Fatal("the newest is not there")
		}
	}
	put(&b, 1)
	put(&b, 1) // the same
	if n := len(a.replies) + len(b.replies); n == 0 || n > 14 || little.left.Load() < 0 {
		t.Error(len(a.replies), len(b.replies), little.left.Load())
	}
	a.close()
	if !put(&b, 2) {
		t.Error("there is room, and it is not used")
	}
	if b.close(); little.left.Load() != 10*300 {
		t.Error("room is lost:", little.left.Load())
	}
}
