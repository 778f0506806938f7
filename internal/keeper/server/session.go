package server

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/keeper/wire"
)

// sendTimeout is how long an engine may leave its socket full before it is cut
// off; it asks for the list when it comes back.
const sendTimeout = 5 * time.Second

// session is the connection to one engine.
type session struct {
	*wire.Socket
	engine string
	events chan *wire.Message
	untold atomic.Int64 // events that are not sent yet
	gone   chan struct{}
	once   sync.Once

	requests sync.WaitGroup // being served
	before   *session       // whose requests may still be
}

// settle waits until no request of an earlier engine is being served.
func (s *session) settle() {
	if s.before != nil {
		within(upgradeWait, s.before.requests.Wait)
	}
}

func newSession(w *wire.Socket) *session {
	return &session{Socket: w, events: make(chan *wire.Message, 4096), gone: make(chan struct{})}
}

func (s *session) close() {
	s.once.Do(func() {
		close(s.gone)
		s.Socket.Close()
	})
}

// queue leaves an event for sendEvents. It never blocks.
func (s *session) queue(o wire.Op, doc any) { s.queueFor(0, o, doc) }

// queueFor is queue for an event that belongs to a request.
func (s *session) queueFor(request uint64, o wire.Op, doc any) {
	b, err := json.Marshal(doc)
	if err != nil {
		panic(err) // our own types
	}
	s.untold.Add(1)
	select {
	case s.events <- &wire.Message{Op: o, Request: request, Doc: b}:
	default:
		s.close()
	}
}

// sendEvents sends what was queued until the session closes.
func (s *session) sendEvents() {
	for {
		select {
		case m := <-s.events:
			if s.deliver(m) != nil {
				s.close()
				return
			}
			s.untold.Add(-1)
		case <-s.gone:
			return
		}
	}
}

// toldAll reports whether all that was queued is sent within that time.
func (s *session) toldAll(patience time.Duration) bool {
	told := comesTrue(patience, func() bool {
		select {
		case <-s.gone:
			return true
		default:
			return s.untold.Load() == 0
		}
	})
	return told && s.untold.Load() == 0
}

func (s *session) deliver(m *wire.Message) error {
	if err := s.Net().SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	return s.Send(m)
}

// reply answers a request. The files stay the caller's.
func (s *session) reply(request uint64, doc any, files []*os.File) error {
	b, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	if err := s.deliver(&wire.Message{Op: wire.OpReply, Request: request, Doc: b, Files: files}); err != nil {
		s.close()
		return err
	}
	return nil
}

// listen binds the socket so that nobody but root can ever connect.
func listen(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	dir, short, err := wire.ShortPath(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: short, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	return l, nil
}
