package server

import (
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

const (
	shedText = `{"message":"too many open connections, try again later"}` + "\n"
	// shedTime is what a client that is turned away gets for sending its
	// request; without reading it the answer may be lost.
	shedTime = 50 * time.Millisecond
)

var shedAnswer = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n" +
	"Retry-After: 1\r\nContent-Length: " + strconv.Itoa(len(shedText)) + "\r\n\r\n" + shedText

// shedder hands out connections while there is room and tells the clients of
// the others so. It keeps one descriptor in reserve: when the process has no
// other left, that one is spent on the answer. One goroutine calls Accept.
type shedder struct {
	net.Listener
	s       *Server
	reserve *os.File // nil while it could not be had
}

func (s *Server) shed(l net.Listener) net.Listener {
	f, _ := os.Open(os.DevNull)
	return &shedder{Listener: l, s: s, reserve: f}
}

// Accept returns the next connection that may be served.
func (l *shedder) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		switch {
		case errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE):
			if c := l.acceptWithReserve(); c != nil {
				return c, nil
			}
		case err != nil:
			l.free()
			return nil, err
		case l.s.conns.count() >= l.s.maxConns && !l.s.conns.dropIdle():
			turnAway(c)
		default:
			return c, nil
		}
	}
}

// acceptWithReserve spends the reserved descriptor on the next connection. The
// kernel says that there are none left before there is anyone to accept, and
// things may be better when someone comes: then it returns the connection.
func (l *shedder) acceptWithReserve() net.Conn {
	if l.reserve == nil {
		time.Sleep(10 * time.Millisecond) // until someone closes something
	}
	l.free()
	c, err := l.Listener.Accept()
	l.reserve, _ = os.Open(os.DevNull)
	if err != nil || l.reserve != nil {
		return c
	}
	turnAway(c)
	l.reserve, _ = os.Open(os.DevNull)
	return nil
}

func (l *shedder) free() {
	if l.reserve != nil {
		_ = l.reserve.Close()
		l.reserve = nil
	}
}

// turnAway reads what the client has to say, for a moment, and says no.
func turnAway(c net.Conn) {
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(shedTime))
	_, _ = c.Read(make([]byte, 4096))
	_, _ = io.WriteString(c, shedAnswer)
}

// descriptorLimit returns how many descriptors the process may open.
func descriptorLimit() int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil || r.Cur > 1<<20 {
		return 1 << 20
	}
	return int(r.Cur)
}
