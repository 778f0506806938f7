package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/miekg/dns"
)

// fake is what is known to the servers of tests.
type fake struct {
	addrs     map[string][]netip.Addr
	hosts     map[netip.Addr]string
	ours      netip.Prefix
	upstreams []Upstream
}

func (f *fake) Addresses(_, name string) ([]netip.Addr, bool) {
	a, known := f.addrs[name]
	return slices.Clone(a), known
}

func (f *fake) Name(_ string, a netip.Addr) (string, bool) { return f.hosts[a], f.ours.Contains(a) }

func (f *fake) Upstreams(string) []Upstream { return f.upstreams }

func addrs(list ...string) (all []netip.Addr) {
	for _, a := range list {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

func someNames() *fake {
	return &fake{
		addrs: map[string][]netip.Addr{"web": addrs("10.1.0.2"), "six": addrs("fd00::2"), "both": addrs("10.1.0.3", "fd00::3")},
		hosts: map[netip.Addr]string{netip.MustParseAddr("10.1.0.2"): "web.net", netip.MustParseAddr("fd00::2"): "six.net"},
		ours:  netip.MustParsePrefix("10.1.0.0/24"),
	}
}

func query(name string, kind uint16) *dns.Msg {
	q := &dns.Msg{}
	return q.SetQuestion(name, kind)
}

func TestAnswer(t *testing.T) {
	for _, c := range []struct {
		name    string
		kind    uint16
		forward bool
		code    int
		want    []string
	}{
		{"web.", dns.TypeA, false, 0, []string{"web.\t600\tIN\tA\t10.1.0.2"}},
		{"WEB.", dns.TypeA, false, 0, []string{"WEB.\t600\tIN\tA\t10.1.0.2"}},
		{"web.", dns.TypeAAAA, false, 0, nil},
		{"web.", dns.TypeMX, false, 0, nil},
		{"six.", dns.TypeAAAA, false, 0, []string{"six.\t600\tIN\tAAAA\tfd00::2"}},
		{"six.", dns.TypeA, false, 0, nil},
		{"both.", dns.TypeA, false, 0, []string{"both.\t600\tIN\tA\t10.1.0.3"}},
		{"nosuch.", dns.TypeA, true, 0, nil},
		{"2.0.1.10.in-addr.arpa.", dns.TypePTR, false, 0, []string{"2.0.1.10.in-addr.arpa.\t600\tIN\tPTR\tweb.net."}},
		{"9.0.1.10.in-addr.arpa.", dns.TypePTR, false, dns.RcodeNameError, nil},
		{"9.0.2.10.in-addr.arpa.", dns.TypePTR, true, 0, nil},
		{"1.10.in-addr.arpa.", dns.TypePTR, true, 0, nil},
		{"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.", dns.TypePTR, false, 0,
			[]string{"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.\t600\tIN\tPTR\tsix.net."}},
		{"2.ip6.arpa.", dns.TypePTR, true, 0, nil},
	} {
		t.Run(fmt.Sprintf("%s %d", c.name, c.kind), func(t *testing.T) {
			r := answer(someNames(), "c", query(c.name, c.kind))
			if (r == nil) != c.forward {
				t.Fatal(r)
			}
			if r == nil {
				return
			}
			var got []string
			for _, rr := range r.Answer {
				got = append(got, rr.String())
			}
			if r.Rcode != c.code || !slices.Equal(got, c.want) || !r.RecursionAvailable || !r.Response {
				t.Errorf("%v", r)
			}
		})
	}
}

func TestQueriesThatAreNone(t *testing.T) {
	packed := func(change func(*dns.Msg)) []byte {
		q := query("web.", dns.TypeA)
		change(q)
		b, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	good := packed(func(*dns.Msg) {})
	for _, c := range []struct {
		name string
		b    []byte
		code int // -1: no reply
	}{
		{"empty", nil, -1},
		{"short", good[:11], -1},
		{"cut", good[:len(good)-1], dns.RcodeFormatError},
		{"a response", packed(func(q *dns.Msg) { q.Response = true }), -1},
		{"a response, cut", packed(func(q *dns.Msg) { q.Response = true })[:14], -1},
		{"an update", packed(func(q *dns.Msg) { q.Opcode = dns.OpcodeUpdate }), dns.RcodeNotImplemented},
		{"two questions", packed(func(q *dns.Msg) { q.Question = append(q.Question, q.Question[0]) }), dns.RcodeFormatError},
		{"no question", packed(func(q *dns.Msg) { q.Question = nil }), dns.RcodeFormatError},
	} {
		q, r := parse(c.b)
		switch {
		case q != nil:
			t.Errorf("%s: taken for a query", c.name)
		case c.code == -1 && r != nil, c.code != -1 && (r == nil || r.Rcode != c.code || r.Id != uint16(c.b[0])<<8|uint16(c.b[1])):
			t.Errorf("%s: %v", c.name, r)
		}
	}
}

// TestPack: over UDP a client gets what it takes, with the sign that there is more.
func TestPack(t *testing.T) {
	names := &fake{addrs: map[string][]netip.Addr{}}
	for i := range 200 {
		names.addrs["many"] = append(names.addrs["many"], netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
	}
	for _, c := range []struct {
		edns      uint16
		udp       bool
		most      int
		truncated bool
	}{{0, true, 512, true}, {100, true, 512, true}, {1232, true, 1232, true}, {65535, true, 4096, false}, {0, false, 65535, false}} {
		q := query("many.", dns.TypeA)
		if c.edns > 0 {
			q.SetEdns0(c.edns, false)
		}
		b, err := pack(q, answer(names, "c", q), c.udp)
		if err != nil {
			t.Fatal(err)
		}
		var r dns.Msg
		if err := r.Unpack(b); err != nil {
			t.Fatal(err)
		}
		if len(b) > c.most || r.Truncated != c.truncated || !c.truncated && len(r.Answer) != 200 || (r.IsEdns0() != nil) != (c.edns > 0) {
			t.Errorf("%+v: %d bytes, %d answers, truncated %v", c, len(b), len(r.Answer), r.Truncated)
		}
	}
}

// FuzzMessage: whatever comes, there is one reply at most, to the one who asked, and
// it can be read.
func FuzzMessage(f *testing.F) {
	for _, name := range []string{"web.", "2.0.1.10.in-addr.arpa.", "nosuch.example."} {
		b, err := query(name, dns.TypeA).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > dns.MaxMsgSize {
			return // of which there are none
		}
		q, r := parse(b)
		if q != nil {
			r = answer(someNames(), "c", q)
		}
		var c cache
		c.put(append([]byte{0, 0}, b...), b, now)
		if len(b) >= headerSize {
			replies(b, b)
		}
		if r == nil {
			return
		}
		reply, err := pack(q, r, true)
		if err != nil {
			return // of a name that can be read and not written
		}
		var again dns.Msg
		if err := again.Unpack(reply); err != nil {
			t.Fatalf("%v: %x", err, reply)
		}
		if again.Id != uint16(b[0])<<8|uint16(b[1]) || !again.Response {
			t.Errorf("%v", again)
		}
	})
}
