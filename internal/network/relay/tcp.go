package relay

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/tare-engine/tare/internal/linux/sock"
)

// maxConns is how many connections there may be at once; more are cut at once. Each has
// two descriptors of the engine's.
const maxConns = 16384

// atOnce is how much a port takes before the others have their turn.
const atOnce = 64

// dialTimeout is for a container that does not answer; one without a server refuses at
// once.
const dialTimeout = 30 * time.Second

type tcpPort struct{ *port }

func (p tcpPort) turn() bool {
	for range atOnce {
		c := p.accept()
		if c == nil {
			return false
		}
		if from, err := sock.Peer(c); err != nil || p.relay.refused(from.Addr().Unmap()) {
			_ = errors.Join(sock.Reset(c), c.Close())
			continue
		}
		select {
		case p.relay.conns <- struct{}{}:
			p.relay.done.Go(func() {
				p.connect(c)
				<-p.relay.conns
			})
		default:
			_ = errors.Join(sock.Reset(c), c.Close())
		}
	}
	return true
}

// accept takes a connection; nil if there is none.
func (p *port) accept() *os.File {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	return sock.Accept(p.socket)
}

// connect carries a connection until both ends have ended it, one has cut it, or the port
// is not served any more. A client that cannot be served is cut.
func (p *port) connect(client *os.File) {
	defer client.Close()
	_ = sock.MayFollow(client) // so that its last minute does not keep the port from others
	p.mu.Lock()
	to := p.to
	p.mu.Unlock()
	d := net.Dialer{Timeout: dialTimeout}
	c, err := d.DialContext(p.ctx, "tcp", to.String())
	if err != nil {
		_ = sock.Reset(client)
		return
	}
	defer c.Close()
	server, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	cut := func() {
		_ = errors.Join(sock.Reset(client), sock.Reset(server), client.SetDeadline(time.Unix(1, 0)), server.SetDeadline(time.Unix(1, 0)))
	}
	defer context.AfterFunc(p.ctx, cut)()
	back := make(chan struct{})
	go func() {
		defer close(back)
		p.carry(client, server, cut)
	}()
	p.carry(server, client, cut)
	<-back
}

// carry is one direction; whoever ends it without saying so ends the other too.
func (p *port) carry(to, from sock.Stream, cut func()) {
	err := p.relay.carrier.Carry(to, from)
	if err == nil {
		err = sock.EndWriting(to)
	}
	if err != nil {
		cut()
	}
}
