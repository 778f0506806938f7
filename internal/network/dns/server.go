// Package dns answers the name queries of containers on networks that users make.
//
// Each of their network namespaces has a UDP and a TCP socket, to which packets for
// 127.0.0.11, port 53, are led (Listen). One loop waits for all of them: a container
// that asks nothing costs no goroutine. Names of containers are answered at once;
// for others upstreams are asked, each query on a goroutine of its own. How many there
// are is bounded, for each container and for all together, and shared out.
//
//	s, err := dns.Open(names, log)
//	sockets, err := dns.Listen(ns)
//	err = s.Add(containerID, sockets)   // the server's from now on
//	…
//	s.Remove(containerID)
package dns

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/tare-engine/tare/internal/linux/epoll"
	"github.com/tare-engine/tare/internal/linux/rawfd"
	"github.com/tare-engine/tare/internal/linux/sock"
)

// Server answers queries from many namespaces.
type Server struct {
	names   Names
	log     *slog.Logger
	poll    *epoll.Poller
	done    sync.WaitGroup // the loop, connections, and queries that upstreams are asked
	queries *shares        // that upstreams are asked
	conns   *shares        // of clients
	room    *room          // of the clients' caches

	mu      sync.Mutex
	last    uint64             // key given last
	clients map[string]*client // by container
	byKey   map[uint64]*client
}

// Open starts a server that nobody can ask yet.
func Open(names Names, log *slog.Logger) (*Server, error) {
	poll, err := epoll.New()
	if err != nil {
		return nil, err
	}
	s := &Server{
		names: names, log: log, poll: poll, clients: map[string]*client{}, byKey: map[uint64]*client{},
		queries: newShares(allQueries, maxQueries, long), conns: newShares(allConns, maxConns, idle), room: newRoom(allReplies),
	}
	s.done.Go(s.loop)
	return s, nil
}

// Close ends the server, and what is under way; the sockets too, of which others may have
// duplicates.
func (s *Server) Close() error {
	s.mu.Lock()
	ids := make([]string, 0, len(s.clients))
	for id := range s.clients {
		ids = append(ids, id)
	}
	s.mu.Unlock()
	for _, id := range ids {
		s.Remove(id)
	}
	err := s.poll.Close()
	s.done.Wait()
	return err
}

// Add has a container's queries answered. The sockets become the server's, unless
// there is an error: a container has one pair.
func (s *Server) Add(containerID string, sockets Sockets) error {
	c := &client{server: s, id: containerID, sockets: sockets, cache: cache{room: s.room}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients[containerID] != nil {
		return fmt.Errorf("container %s has a name server already", containerID)
	}
	udp, err := sock.Unblock(sockets.UDP)
	if err != nil {
		return err
	}
	tcp, err := sock.Unblock(sockets.TCP)
	if err != nil {
		return err
	}
	c.key = s.last + 2
	s.last = c.key
	if err := s.poll.Add(udp, c.key, epoll.Read); err != nil {
		return err
	}
	if err := s.poll.Add(tcp, c.key+1, epoll.Read); err != nil {
		_ = s.poll.Remove(udp)
		return err
	}
	s.clients[containerID], s.byKey[c.key] = c, c
	return nil
}

// Sockets returns a container's, which stay the server's; nil if there are none.
func (s *Server) Sockets(containerID string) []*os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.clients[containerID]; c != nil {
		return c.sockets.Files()
	}
	return nil
}

// Remove ends the service for a container: nothing of the server's is in its
// namespace any more when it returns, but for what queries under way have open, which
// end at once. It is no error if there is none.
func (s *Server) Remove(containerID string) {
	s.mu.Lock()
	c := s.clients[containerID]
	if c != nil {
		delete(s.clients, containerID)
		delete(s.byKey, c.key)
	}
	s.mu.Unlock()
	if c != nil {
		c.close()
	}
}

// atOnce is how many queries of a container are taken before the others have their
// turn.
const atOnce = 16

// loop takes what comes to the sockets: some of each by turns, and looks in between
// whether others have got something, so that who is flooded holds up nobody else.
func (s *Server) loop() {
	events := make([]epoll.Event, 128)
	more := map[uint64]bool{} // sockets that were not read to the end
	for {
		wait := s.poll.Wait
		if len(more) > 0 {
			wait = s.poll.Poll
		}
		n, err := wait(events)
		if err != nil {
			return // closed
		}
		for _, e := range events[:n] {
			more[e.Key] = true
		}
		for key := range more {
			if !s.turn(key) {
				delete(more, key)
			}
		}
	}
}

// turn takes what has come to one socket; it returns whether there may be more.
func (s *Server) turn(key uint64) bool {
	const tcp = 1
	s.mu.Lock()
	c := s.byKey[key&^tcp]
	s.mu.Unlock()
	switch {
	case c == nil:
		return false
	case key&tcp != 0:
		return c.acceptSome()
	default:
		return c.readSome()
	}
}

// client is one namespace.
type client struct {
	server  *Server
	id      string // of the container
	key     uint64 // of the UDP socket; the other's is one more
	sockets Sockets
	ctx     context.Context // ends with the client
	cancel  context.CancelFunc

	using  sync.RWMutex // held for reading while a socket is used
	closed bool         // guarded by using
	cache  cache

	mu      sync.Mutex
	flights map[string]*flight // by the query without its id, and how it came
}

// use calls f while the sockets are open; it returns false if they are not.
func (c *client) use(f func()) bool {
	c.using.RLock()
	defer c.using.RUnlock()
	if c.closed {
		return false
	}
	f()
	return true
}

func (c *client) close() {
	c.cancel()
	c.using.Lock()
	defer c.using.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	c.cache.close()
	for _, f := range c.sockets.Files() {
		if fd, err := rawfd.Number(f); err == nil {
			_ = c.server.poll.Remove(fd) // it has duplicates elsewhere
		}
	}
	if err := c.sockets.Close(); err != nil {
		c.server.log.Warn("close the sockets of a name server", "container", c.id, "err", err)
	}
}

// What containers may have going on at once, each and all together. More is not
// answered, and asked again.
const (
	maxQueries = 256 // that upstreams are asked
	allQueries = 1024
	maxSame    = 16 // who wait for the reply to one
	maxConns   = 64
	allConns   = 1024
	idle       = 10 * time.Second       // of a connection
	long       = 200 * time.Millisecond // of a query that is likely not answered
)
