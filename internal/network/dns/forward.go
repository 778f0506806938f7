package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/miekg/dns"
	"github.com/tare-engine/tare/internal/linux/netns"
)

// Upstream is a name server that is asked for what is not known here.
type Upstream struct {
	Addr netip.AddrPort
	// Host has it asked from the host's namespace: it is on the host's loopback, or
	// the container has no way to it. All others are asked from the container's, by
	// its own routes.
	Host bool
}

// How long upstreams are waited for. The next one is asked beside the first when that
// has taken a while; clients give up after 5 s (resolv.conf(5)).
const (
	patience = 700 * time.Millisecond
	total    = 4 * time.Second
)

var errNoUpstream = errors.New("no name server answers")

// exchange asks upstreams for a query, as it is, and returns the first good reply,
// with the query's id. Of replies that are none (SERVFAIL, REFUSED) the last is
// returned if there is nothing better. udp says how the query came and is asked.
func exchange(ctx context.Context, ns *os.File, query []byte, upstreams []Upstream, udp bool) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, total)
	defer cancel()
	type outcome struct {
		reply []byte
		err   error
	}
	results := make(chan outcome, len(upstreams))
	next := time.NewTimer(0)
	defer next.Stop()
	var last outcome
	for asked, done := 0, 0; done < len(upstreams); {
		select {
		case <-next.C:
			if asked < len(upstreams) {
				u := upstreams[asked]
				asked++
				go func() {
					reply, err := ask(ctx, ns, query, u, udp)
					results <- outcome{reply, err}
				}()
				next.Reset(patience)
			}
		case o := <-results:
			done++
			if o.err == nil && good(o.reply) {
				return o.reply, nil
			}
			if o.err == nil || last.reply == nil {
				last = o
			}
			if asked < len(upstreams) {
				next.Reset(0)
			}
		case <-ctx.Done():
			if last.reply != nil {
				return last.reply, nil
			}
			return nil, ctx.Err()
		}
	}
	if last.reply == nil && last.err == nil {
		last.err = errNoUpstream
	}
	return last.reply, last.err
}

// good says that a server knew what to say; that a name does not exist is good too.
func good(reply []byte) bool {
	code := int(reply[3] & 0xf)
	return code == dns.RcodeSuccess || code == dns.RcodeNameError
}

// ask asks one server, under an id and from a port that nobody can guess.
func ask(ctx context.Context, ns *os.File, query []byte, u Upstream, udp bool) ([]byte, error) {
	if u.Host {
		ns = nil
	}
	to := u.Addr
	var c net.Conn
	var err error
	switch {
	case udp && ns != nil:
		c, err = netns.DialUDP(ns, to)
	case udp:
		c, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	case ns != nil:
		c, err = netns.DialTCP(ctx, ns, to)
	default:
		c, err = (&net.Dialer{}).DialContext(ctx, "tcp", to.String())
	}
	if err != nil {
		return nil, fmt.Errorf("name server %s: %w", u.Addr, err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	q := append([]byte(nil), query...)
	id := uint16(rand.Uint32())
	binary.BigEndian.PutUint16(q, id)
	reply, err := talk(c, q, udp)
	if err != nil {
		return nil, fmt.Errorf("name server %s: %w", u.Addr, err)
	}
	copy(reply[:2], query[:2])
	return reply, nil
}

// talk sends a query and waits for its reply; others are overheard.
func talk(c net.Conn, q []byte, udp bool) ([]byte, error) {
	if !udp {
		if err := writeFramed(c, q); err != nil {
			return nil, err
		}
		reply, err := readFramed(c)
		if err == nil && !replies(reply, q) {
			err = errors.New("a reply to another query")
		}
		return reply, err
	}
	if _, err := c.Write(q); err != nil {
		return nil, err
	}
	buf := make([]byte, maxUDP)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		if replies(buf[:n], q) {
			return append([]byte(nil), buf[:n]...), nil
		}
	}
}

// replies says that a message answers a query: it has its id and its question.
func replies(reply, q []byte) bool {
	if len(reply) < headerSize || reply[0] != q[0] || reply[1] != q[1] || reply[2]&responseBit == 0 {
		return false
	}
	a, ok := questionOf(q)
	b, same := questionOf(reply)
	return ok && same && a == b
}

// questionOf is the first question of a message, its name in a form of which there is
// one.
func questionOf(b []byte) (q dns.Question, ok bool) {
	if binary.BigEndian.Uint16(b[4:]) != 1 {
		return q, false
	}
	name, end, err := dns.UnpackDomainName(b, headerSize)
	if err != nil || len(b) < end+4 {
		return q, false
	}
	return dns.Question{Name: dns.CanonicalName(name), Qtype: binary.BigEndian.Uint16(b[end:]), Qclass: binary.BigEndian.Uint16(b[end+2:])}, true
}

// Messages over TCP have their length before them (RFC 1035, section 4.2.2).

func writeFramed(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}

func readFramed(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}
