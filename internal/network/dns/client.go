package dns

import (
	"context"
	"net/netip"
	"os"
	"time"

	"github.com/miekg/dns"

	"github.com/tare-engine/tare/internal/linux/sock"
)

// readSome answers queries that came by UDP; it returns whether there may be more.
func (c *client) readSome() (more bool) {
	var buf [maxUDP]byte
	for range atOnce {
		var n int
		var from netip.AddrPort
		var ok bool
		open := c.use(func() { n, from, ok = sock.Receive(c.sockets.UDP, buf[:]) })
		if !open || !ok {
			return false
		}
		c.take(buf[:n], from)
	}
	return true
}

// take answers a query at once if it can, else beside the others.
func (c *client) take(query []byte, from netip.AddrPort) {
	reply, forward := c.reply(query, true)
	if !forward {
		c.send(reply, from)
		return
	}
	if reply = c.cache.get(query, time.Now()); reply != nil {
		c.send(reply, from)
		return
	}
	c.ask(query, true, func(reply []byte) { c.send(reply, from) })
}

// send sends a reply; a client that takes none loses it.
func (c *client) send(reply []byte, to netip.AddrPort) {
	if len(reply) == 0 {
		return
	}
	c.use(func() {
		if err := sock.Send(c.sockets.UDP, reply, to); err != nil {
			c.server.log.Debug("reply of a name server", "container", c.id, "err", err)
		}
	})
}

// reply answers what is known here; forward says that others are to be asked.
func (c *client) reply(query []byte, udp bool) (reply []byte, forward bool) {
	q, r := parse(query)
	if q != nil {
		if r = answer(c.server.names, c.id, q); r == nil {
			return nil, true
		}
	}
	if r == nil {
		return nil, false
	}
	reply, err := pack(q, r, udp)
	if err != nil {
		c.server.log.Debug("reply of a name server", "container", c.id, "err", err)
	}
	return reply, false
}

// failure tells that nobody could be asked.
func failure(query []byte) []byte {
	q, _ := parse(query)
	if q == nil {
		return nil
	}
	b, err := pack(q, refusal(q, dns.RcodeServerFailure), true)
	if err != nil {
		return nil
	}
	return b
}

// acceptSome takes connections; it returns whether there may be more.
func (c *client) acceptSome() (more bool) {
	for range atOnce {
		var conn *os.File
		open := c.use(func() { conn = sock.Accept(c.sockets.TCP) })
		if !open || conn == nil {
			return false
		}
		t := c.server.conns.enter(c, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }, time.Now())
		if t == nil {
			conn.Close()
			continue
		}
		c.server.done.Go(func() {
			defer c.server.conns.leave(t)
			c.serve(conn)
		})
	}
	return true
}

// serve answers the queries of one connection, one after the other.
func (c *client) serve(f *os.File) {
	defer f.Close()
	stop := context.AfterFunc(c.ctx, func() { _ = f.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		if err := f.SetDeadline(time.Now().Add(idle)); err != nil || c.ctx.Err() != nil {
			return
		}
		query, err := readFramed(f)
		if err != nil {
			return
		}
		reply, forward := c.reply(query, false)
		if forward {
			reply = c.forwarded(query)
		}
		if len(reply) == 0 || writeFramed(f, reply) != nil {
			return
		}
	}
}

// forwarded waits for the reply to a query that came by TCP; nil if there is none.
func (c *client) forwarded(query []byte) []byte {
	if reply := c.cache.get(query, time.Now()); reply != nil {
		return reply
	}
	told := make(chan []byte, 1)
	if !c.ask(query, false, func(reply []byte) { told <- reply }) {
		return nil
	}
	return <-told
}
