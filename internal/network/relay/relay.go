// Package relay carries connections and datagrams from published ports of the host to
// containers where the packet filter cannot send them: from ::1, to which the kernel
// routes no answer of another link, and from one family of addresses to a container that
// has only the other. The container sees an address of the host as the client's.
//
//	r, err := relay.Open(log, refused)
//	err = r.Serve(socket, to)   // of package hostport; it stays the caller's
//	…
//	err = r.Stop(socket)        // before it is closed
//
// One loop waits for all ports. A connection has two goroutines, and a buffer while
// there is something to carry; a client of UDP has a socket, and no goroutine.
package relay

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/tare-engine/tare/internal/linux/epoll"
	"github.com/tare-engine/tare/internal/linux/hostport"
	"github.com/tare-engine/tare/internal/linux/rawfd"
	"github.com/tare-engine/tare/internal/linux/sock"
)

// Relay serves ports.
type Relay struct {
	log     *slog.Logger
	refused func(client netip.Addr) bool
	poll    *epoll.Poller
	done    sync.WaitGroup
	carrier *sock.Carrier
	conns   chan struct{} // one for each connection
	buf     [largest]byte // the loop's, for a datagram

	// mu is taken after a port's.
	mu    sync.Mutex
	last  uint64             // key given last
	byKey map[uint64]waiting // what the loop waits for
	ports map[*os.File]*port
	sweep *time.Timer // nil: there is no client of UDP
}

// waiting is a socket that the loop waits for.
type waiting interface {
	// turn takes some of what has come; it returns whether there may be more.
	turn() bool
}

// port is a served port.
type port struct {
	relay  *Relay
	socket *os.File
	key    uint64
	ctx    context.Context // ends with the port
	cancel context.CancelFunc

	mu     sync.Mutex // of what changes; for the UDP loop as well
	to     netip.AddrPort
	closed bool
	flows  map[client]*flow // of UDP
}

// Open starts a relay without ports. It does not serve clients that are refused; a
// link-local address has the number of its link as zone. refused may be called by many at
// once.
func Open(log *slog.Logger, refused func(client netip.Addr) bool) (*Relay, error) {
	poll, err := epoll.New()
	if err != nil {
		return nil, err
	}
	r := &Relay{log: log, refused: refused, poll: poll, carrier: sock.NewCarrier(), conns: make(chan struct{}, maxConns), byKey: map[uint64]waiting{}, ports: map[*os.File]*port{}}
	r.done.Go(r.loop)
	return r, nil
}

// Close cuts all connections. The sockets stay open, and go on to take what comes: the
// next relay that serves them finds it.
func (r *Relay) Close() error {
	for _, p := range r.all() {
		_ = r.forget(p)
	}
	r.mu.Lock()
	if r.sweep != nil {
		r.sweep.Stop()
	}
	r.mu.Unlock()
	err := r.poll.Close()
	r.done.Wait()
	return err
}

// Serve has what comes to a reserved port of TCP or UDP carried to a container. A port
// that is served has a new destination for what comes from now on.
func (r *Relay) Serve(socket *os.File, to netip.AddrPort) error {
	if p := r.port(socket); p != nil {
		p.lead(to)
		return nil
	}
	proto, _, err := hostport.Of(socket)
	if err != nil {
		return err
	}
	if err := hostport.Receive(socket); err != nil {
		return fmt.Errorf("serve a port: %w", err)
	}
	p := &port{relay: r, socket: socket, to: to, flows: map[client]*flow{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	var w waiting = tcpPort{p}
	if proto == "udp" {
		w = udpPort{p}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.key, err = r.wait(socket, w); err != nil {
		return err
	}
	r.ports[socket] = p
	return nil
}

// port is the one with a socket; nil if it is not served.
func (r *Relay) port(socket *os.File) *port {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ports[socket]
}

// lead gives a port another destination.
func (p *port) lead(to netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.to != to {
		p.to = to
		p.endFlows()
	}
}

// all are the ports that are served.
func (r *Relay) all() []*port {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.ports))
}

// wait has the loop wait for a socket.
//
// Preconditions: r.mu is held.
func (r *Relay) wait(socket *os.File, w waiting) (key uint64, err error) {
	fd, err := rawfd.Number(socket)
	if err != nil {
		return 0, err
	}
	r.last++
	r.byKey[r.last] = w
	if err := r.poll.Add(fd, r.last, epoll.Read); err != nil {
		delete(r.byKey, r.last)
		return 0, err
	}
	return r.last, nil
}

// leave ends wait.
func (r *Relay) leave(socket *os.File, key uint64) error {
	r.mu.Lock()
	delete(r.byKey, key)
	r.mu.Unlock()
	fd, err := rawfd.Number(socket)
	if err != nil {
		return err
	}
	return r.poll.Remove(fd)
}

// Stop ends the service of a port, and cuts its connections: the port refuses more. It is
// no error if it is not served.
func (r *Relay) Stop(socket *os.File) error {
	p := r.port(socket)
	if p == nil {
		return nil
	}
	if err := r.forget(p); err != nil {
		return err
	}
	return hostport.Refuse(socket)
}

// forget ends what a port has here.
func (r *Relay) forget(p *port) error {
	r.mu.Lock()
	delete(r.ports, p.socket)
	r.mu.Unlock()
	err := r.leave(p.socket, p.key)
	p.cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.endFlows()
	return err
}

// loop takes what comes.
func (r *Relay) loop() {
	events := make([]epoll.Event, 128)
	more := map[uint64]bool{} // sockets that were not read to the end
	for {
		n := 0
		if len(more) == 0 {
			var err error
			if n, err = r.poll.Wait(events); err != nil {
				return // closed
			}
		}
		for _, e := range events[:n] {
			more[e.Key] = true
		}
		for key := range more {
			r.mu.Lock()
			w := r.byKey[key]
			r.mu.Unlock()
			if w == nil || !w.turn() {
				delete(more, key)
			}
		}
	}
}
