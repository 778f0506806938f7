package relay

import (
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/tare-engine/tare/internal/linux/sock"
)

// Clients of UDP are remembered as long as Docker does.
const (
	silence  = 90 * time.Second // after which a client is forgotten
	sweeping = 30 * time.Second
	maxFlows = 1024 // of one port; one more has another forgotten
)

// client is one of UDP: its address, and which of the host's it sends to.
type client struct {
	from netip.AddrPort
	at   netip.Addr
}

// flow is the socket by which a client's datagrams go on, and answers come back.
type flow struct {
	port   *port
	client client
	socket *os.File
	key    uint64
	used   time.Time // guarded by the port's lock, as is closed
	closed bool
}

type udpPort struct{ *port }

// largest is the largest datagram.
const largest = 64 << 10

func (p udpPort) turn() bool {
	buf := p.relay.buf[:]
	p.mu.Lock()
	defer p.mu.Unlock()
	for range atOnce {
		if p.closed {
			return false
		}
		n, from, at, ok := sock.ReceiveAt(p.socket, buf)
		if !ok {
			return false
		}
		f, err := p.flow(client{from, at})
		if err != nil {
			p.relay.log.Debug("datagram of a published port", "to", p.to, "err", err)
			continue
		}
		if sock.Send(f.socket, buf[:n], p.to) != nil { // the last one's error: nobody listened then
			_ = sock.Send(f.socket, buf[:n], p.to)
		}
	}
	return true
}

// flow finds or makes that of a client.
//
// Preconditions: p.mu is held.
func (p *port) flow(c client) (*flow, error) {
	if f := p.flows[c]; f != nil {
		f.used = time.Now()
		return f, nil
	}
	if p.relay.refused(c.from.Addr().Unmap()) {
		return nil, fmt.Errorf("%s is refused", c.from)
	}
	socket, err := sock.Connect(p.to)
	if err != nil {
		return nil, err
	}
	if len(p.flows) >= maxFlows {
		for _, other := range p.flows {
			other.end()
			break
		}
	}
	f := &flow{port: p, client: c, socket: socket, used: time.Now()}
	r := p.relay
	r.mu.Lock()
	f.key, err = r.wait(socket, f)
	if err == nil && r.sweep == nil {
		r.sweep = time.AfterFunc(sweeping, r.forgetSilent)
	}
	r.mu.Unlock()
	if err != nil {
		socket.Close()
		return nil, err
	}
	p.flows[c] = f
	return f, nil
}

// turn takes answers.
func (f *flow) turn() bool {
	buf := f.port.relay.buf[:]
	f.port.mu.Lock()
	defer f.port.mu.Unlock()
	for range atOnce {
		if f.closed {
			return false
		}
		n, _, ok := sock.Receive(f.socket, buf)
		if !ok {
			return false
		}
		f.used = time.Now()
		if err := sock.SendFrom(f.port.socket, buf[:n], f.client.from, f.client.at); err != nil {
			f.port.relay.log.Debug("answer of a published port", "to", f.client.from, "err", err)
		}
	}
	return true
}

// end forgets a client.
//
// Preconditions: the port's lock is held.
func (f *flow) end() {
	f.closed = true
	delete(f.port.flows, f.client)
	_ = f.port.relay.leave(f.socket, f.key)
	_ = f.socket.Close()
}

// endFlows forgets all of a port.
//
// Preconditions: p.mu is held.
func (p *port) endFlows() {
	for _, f := range p.flows {
		f.end()
	}
}

// forgetSilent forgets clients that have been silent, and comes again while there are
// others.
func (r *Relay) forgetSilent() {
	r.mu.Lock()
	r.sweep = nil
	r.mu.Unlock()
	left := false
	for _, p := range r.all() {
		left = p.forgetSilent() || left
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if left && r.sweep == nil {
		r.sweep = time.AfterFunc(sweeping, r.forgetSilent)
	}
}

// forgetSilent reports whether a port has clients left.
func (p *port) forgetSilent() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.flows {
		if time.Since(f.used) > silence {
			f.end()
		}
	}
	return len(p.flows) > 0
}
