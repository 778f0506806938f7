package dns

import (
	"math/rand/v2"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// Names is what the server knows of containers. Its methods are called often and
// by many at once.
type Names interface {
	// Addresses returns those of a name, in lower case and without the dot at its
	// end, as a container sees it. known says that there is the name.
	Addresses(containerID, name string) (addrs []netip.Addr, known bool)
	// Name returns the name that an address has for a container, "" if none. ours
	// says that nobody else can know one.
	Name(containerID string, addr netip.Addr) (name string, ours bool)
	// Upstreams are whom to ask for other names, in this order.
	Upstreams(containerID string) []Upstream
}

// ttl is for how many seconds clients may believe an answer of ours, as with Docker.
const ttl = 600

// parse reads a query; q is nil if it cannot be answered, and reply what to say then, nil if
// the message deserves no answer.
func parse(b []byte) (q *dns.Msg, reply *dns.Msg) {
	q = &dns.Msg{}
	if err := q.Unpack(b); err != nil {
		if len(b) < headerSize || b[2]&responseBit != 0 {
			return nil, nil
		}
		q.Id = uint16(b[0])<<8 | uint16(b[1])
		return nil, refusal(q, dns.RcodeFormatError)
	}
	switch {
	case q.Response:
		return nil, nil
	case q.Opcode != dns.OpcodeQuery:
		return nil, refusal(q, dns.RcodeNotImplemented)
	case len(q.Question) != 1:
		return nil, refusal(q, dns.RcodeFormatError)
	}
	return q, nil
}

// The header of a message (RFC 1035, section 4.1.1).
const (
	headerSize  = 12
	responseBit = 0x80 // of the third byte
)

// refusal is a reply with nothing but a code.
func refusal(q *dns.Msg, code int) *dns.Msg {
	r := &dns.Msg{}
	r.SetRcode(q, code)
	r.RecursionAvailable = true
	return r
}

// answer replies to what is known here; nil: others are to be asked. A name that is
// known has nothing but addresses: what else is asked of it stays in the house.
func answer(names Names, containerID string, q *dns.Msg) *dns.Msg {
	question := q.Question[0]
	if question.Qclass != dns.ClassINET {
		return nil
	}
	r := &dns.Msg{}
	r.SetReply(q)
	r.RecursionAvailable = true
	if question.Qtype == dns.TypePTR {
		addr, ok := reversed(question.Name)
		if !ok {
			return nil
		}
		name, ours := names.Name(containerID, addr)
		switch {
		case name != "":
			r.Answer = append(r.Answer, &dns.PTR{Hdr: header(question), Ptr: dns.Fqdn(name)})
		case ours:
			r.Rcode = dns.RcodeNameError
		default:
			return nil
		}
		return r
	}
	addrs, known := names.Addresses(containerID, strings.ToLower(strings.TrimSuffix(question.Name, ".")))
	if !known {
		return nil
	}
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	for _, a := range addrs {
		switch {
		case question.Qtype == dns.TypeA && a.Is4():
			r.Answer = append(r.Answer, &dns.A{Hdr: header(question), A: a.AsSlice()})
		case question.Qtype == dns.TypeAAAA && a.Is6():
			r.Answer = append(r.Answer, &dns.AAAA{Hdr: header(question), AAAA: a.AsSlice()})
		}
	}
	return r
}

func header(q dns.Question) dns.RR_Header {
	return dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: ttl}
}

// reversed reads a name under in-addr.arpa or ip6.arpa.
func reversed(name string) (netip.Addr, bool) {
	name = strings.ToLower(name)
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		parts := strings.Split(rest, ".")
		if len(parts) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(parts[3] + "." + parts[2] + "." + parts[1] + "." + parts[0])
		return a, err == nil
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa.")
	if !ok || len(rest) != 2*32-1 {
		return netip.Addr{}, false
	}
	var b strings.Builder
	for i := range 32 {
		b.WriteByte(rest[len(rest)-1-2*i])
		if i%4 == 3 && i < 31 {
			b.WriteByte(':')
		}
	}
	a, err := netip.ParseAddr(b.String())
	return a, err == nil
}

// Sizes of replies over UDP (RFC 1035, section 4.2.1; RFC 6891, section 6.2.5).
const (
	minUDP = 512
	maxUDP = 4096
)

// pack writes a reply of ours for the way by which the query came: over UDP it is cut
// to what the client takes.
func pack(q, r *dns.Msg, udp bool) ([]byte, error) {
	size := dns.MaxMsgSize
	if udp {
		size = minUDP
	}
	if o := optOf(q); o != nil {
		r.SetEdns0(maxUDP, o.Do())
		if udp {
			size = min(max(int(o.UDPSize()), minUDP), maxUDP)
		}
	}
	r.Truncate(size)
	return r.Pack()
}

// optOf is the EDNS part of a query; a refused query may have none at all.
func optOf(q *dns.Msg) *dns.OPT {
	if q == nil {
		return nil
	}
	return q.IsEdns0()
}
