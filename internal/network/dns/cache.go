package dns

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// What a cache holds at most: of a hostile container too.
const (
	maxReplies   = 128
	maxReplySize = 1232
	maxAge       = time.Hour
	maxDenialAge = 5 * time.Minute
)

// cache are replies of upstreams, by the query without its id. A different query that
// means the same is another one.
type cache struct {
	mu      sync.Mutex
	replies map[string]cached
}

type cached struct {
	reply   *dns.Msg
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
	r := hit.reply.Copy()
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
	if c.replies == nil {
		c.replies = map[string]cached{}
	}
	for key, have := range c.replies { // the order of a map: any of them
		if len(c.replies) < maxReplies && now.Before(have.expires) {
			break
		}
		delete(c.replies, key)
	}
	c.replies[string(query[2:])] = cached{r, now, now.Add(age)}
}

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
