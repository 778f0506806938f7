package dns

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/tare-engine/tare/internal/linux/netns"
)

// flight is a query that upstreams are asked, for all who have asked the same
// meanwhile.
type flight struct {
	ctx     context.Context
	cancel  context.CancelFunc
	waiting []waiter // guarded by the client's lock
}

// waiter is who is told the reply to a query; nothing, if there is none.
type waiter struct {
	id   [2]byte
	tell func(reply []byte)
}

// ask forwards a query and tells the reply on another goroutine. It returns false, and
// tells nothing, if too much is asked already.
func (c *client) ask(query []byte, udp bool, tell func(reply []byte)) bool {
	w := waiter{[2]byte(query), tell}
	key := string(query[2:])
	if !udp {
		key += "tcp"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.flights[key]; f != nil {
		if len(f.waiting) >= maxSame {
			return false
		}
		f.waiting = append(f.waiting, w)
		return true
	}
	f := &flight{waiting: []waiter{w}}
	f.ctx, f.cancel = context.WithCancel(c.ctx)
	t := c.server.queries.enter(c, f.cancel, time.Now())
	if t == nil {
		f.cancel()
		return false
	}
	if c.flights == nil {
		c.flights = map[string]*flight{}
	}
	c.flights[key] = f
	query = append([]byte(nil), query...)
	c.server.done.Go(func() {
		defer f.cancel()
		reply := c.forward(f.ctx, query, udp)
		c.server.queries.leave(t)
		c.mu.Lock()
		delete(c.flights, key)
		c.mu.Unlock()
		for _, w := range f.waiting {
			w.answer(reply)
		}
	})
	return true
}

// answer tells the reply, with the waiter's own id.
func (w waiter) answer(reply []byte) {
	if len(reply) > len(w.id) {
		reply = append(w.id[:], reply[len(w.id):]...)
	}
	w.tell(reply)
}

// forward asks upstreams; nil if it was cancelled, as then the client is to ask again.
func (c *client) forward(ctx context.Context, query []byte, udp bool) []byte {
	b, err := c.exchange(ctx, query, udp)
	switch {
	case err == nil:
		c.cache.put(query, b, time.Now())
		return b
	case errors.Is(ctx.Err(), context.Canceled):
		return nil
	}
	c.server.log.Debug("name query", "container", c.id, "err", err)
	return failure(query)
}

func (c *client) exchange(ctx context.Context, query []byte, udp bool) ([]byte, error) {
	upstreams := c.server.names.Upstreams(c.id)
	if len(upstreams) == 0 {
		return nil, errNoUpstream
	}
	var ns *os.File
	var err error
	if !c.use(func() { ns, err = netns.OfSocket(c.sockets.UDP) }) {
		return nil, net.ErrClosed
	}
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	return exchange(ctx, ns, query, upstreams, udp)
}
