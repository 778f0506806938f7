package dns

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// What a cache holds at most: of a hostile container too.
const (
	allReplies   = 16 << 20 // bytes, of all caches
	perReply     = 200      // bytes, of the cache's own
	maxReplies   = 128
	maxReplySize = 1232
	maxAge       = time.Hour
	maxDenialAge = 5 * time.Minute
)

// cache are replies of upstreams, by the query without its id. A different query that
// means the same is another one.
type cache struct {
	room *room

	mu      sync.Mutex
	replies map[string]cached
	closed  bool
}

type cached struct {
	reply   []byte
	stored  time.Time
	expires time.Time
}

// get returns a reply with the query's id, its records older by the time it was here.
func (c *cache) get(query []byte, now time.Time) []byte {
	c.mu.Lock()
	hit, ok := c.replies[string(query[2:])]
	c.mu.Unlock()
	if !ok || !now.Before(hit.expires) {
		return nil
	}
	r := &dns.Msg{}
	if r.Unpack(hit.reply) != nil {
		return nil
	}
	r.Id = binary.BigEndian.Uint16(query)
	age := uint32(now.Sub(hit.stored) / time.Second)
	for _, section := range [][]dns.RR{r.Answer, r.Ns, r.Extra} {
		for _, rr := range section {
			if h := rr.Header(); h.Rrtype != dns.TypeOPT {
				h.Ttl -= min(age, h.Ttl)
			}
		}
	}
	r.Compress = true
	b, err := r.Pack()
	if err != nil {
		return nil
	}
	return b
}

// put keeps a reply as long as its records may be kept (RFC 1035, section 3.2.1; RFC
// 2308, section 5).
func (c *cache) put(query, reply []byte, now time.Time) {
	if len(reply) > maxReplySize {
		return
	}
	r := &dns.Msg{}
	if r.Unpack(reply) != nil || r.Truncated {
		return
	}
	age := lifetime(r)
	if age <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	key := string(query[2:])
	c.drop(key)
	for have, of := range c.replies { // the order of a map: any of them
		if len(c.replies) < maxReplies && now.Before(of.expires) && c.room.has(size(key, reply)) {
			break
		}
		c.drop(have)
	}
	if !c.room.take(size(key, reply)) {
		return
	}
	if c.replies == nil {
		c.replies = map[string]cached{}
	}
	c.replies[key] = cached{append([]byte(nil), reply...), now, now.Add(age)}
}

// drop forgets a reply; there may be none.
//
// Preconditions: c.mu is held.
func (c *cache) drop(key string) {
	if have, ok := c.replies[key]; ok {
		c.room.give(size(key, have.reply))
		delete(c.replies, key)
	}
}

// close forgets all for good.
func (c *cache) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for key := range c.replies {
		c.drop(key)
	}
}

// size is what a reply takes of the room.
func size(key string, reply []byte) int64 { return int64(len(key) + len(reply) + perReply) }

// room is a number of bytes that several share.
type room struct{ left atomic.Int64 }

func newRoom(bytes int64) *room {
	r := &room{}
	r.left.Store(bytes)
	return r
}

func (r *room) has(n int64) bool { return r.left.Load() >= n }

func (r *room) take(n int64) bool {
	if r.left.Add(-n) >= 0 {
		return true
	}
	r.give(n)
	return false
}

func (r *room) give(n int64) { r.left.Add(n) }

// lifetime is how long a reply may be kept; 0 if it may not.
func lifetime(r *dns.Msg) time.Duration {
	limit := maxAge
	if r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError {
		return 0
	}
	if len(r.Answer) == 0 || r.Rcode == dns.RcodeNameError {
		limit = 0
		for _, rr := range r.Ns {
			if soa, ok := rr.(*dns.SOA); ok {
				limit = min(time.Duration(soa.Minttl)*time.Second, maxDenialAge)
			}
		}
	}
	for _, section := range [][]dns.RR{r.Answer, r.Ns, r.Extra} {
		for _, rr := range section {
			if h := rr.Header(); h.Rrtype != dns.TypeOPT {
				limit = min(limit, time.Duration(h.Ttl)*time.Second)
			}
		}
	}
	return limit
}
