package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/linux/memfd"
	"github.com/tare-engine/tare/internal/linux/sock"
)

// How long a receiver may let us wait.
const (
	dialPatience  = 10 * time.Second
	writePatience = 30 * time.Second
	ackPatience   = 30 * time.Second
	closePatience = time.Second
)

// Conn is a connection with a receiver.
type Conn struct {
	r      *Receiver
	kind   string       // of network
	conn   net.Conn     // what is written to
	socket syscall.Conn // below it
	sent   *atomic.Int64
	acked  int64
}

// counted counts what is written to a connection.
type counted struct {
	net.Conn
	n atomic.Int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// Dial connects with the first place that answers.
func (r *Receiver) Dial(ctx context.Context) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialPatience)
	defer cancel()
	var errs []error
	for _, p := range r.Places {
		c, err := r.dial(ctx, p)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (r *Receiver) dial(ctx context.Context, p Place) (*Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, p.Network, p.Address)
	if err != nil {
		return nil, err
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s is no socket", p.Network), conn.Close())
	}
	n := &counted{Conn: conn}
	c := &Conn{r: r, kind: p.Network, conn: n, socket: socket, sent: &n.n}
	if r.tls == nil {
		return c, nil
	}
	t, err := r.secure(ctx, n, p.Address)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	c.conn = t
	return c, nil
}

func (r *Receiver) secure(ctx context.Context, n net.Conn, address string) (net.Conn, error) {
	config, err := r.tls()
	if err != nil {
		return nil, err
	}
	config.ServerName, _, _ = net.SplitHostPort(address)
	t := tls.Client(n, config)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS with %s: %w", address, err)
	}
	return t, nil
}

// Send writes packets, and returns the mark that Acked reaches when the receiver has taken
// them.
func (c *Conn) Send(packets [][]byte) (mark int64, err error) {
	if gone, err := sock.Gone(c.socket); err != nil || gone {
		return 0, errors.Join(err, c.why())
	}
	patience := c.r.writeTimeout
	if patience == 0 {
		patience = writePatience
	}
	if err := c.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	if c.stream() && !c.r.Ack {
		var all []byte
		for _, p := range packets {
			all = append(all, p...)
		}
		_, err := c.conn.Write(all)
		return c.sent.Load(), err
	}
	for _, p := range packets {
		if err := c.sendOne(p); err != nil {
			return 0, err
		}
	}
	return c.sent.Load(), nil
}

func (c *Conn) stream() bool { return c.kind == "tcp" || c.kind == "unix" }

// why says why a connection is of no use.
func (c *Conn) why() error {
	if c.stream() {
		return errors.New("the receiver has closed the connection")
	}
	if _, err := c.conn.Write(nil); err != nil { // the error of an earlier datagram
		return err
	}
	return errors.New("nobody receives there")
}

func (c *Conn) sendOne(p []byte) error {
	_, err := c.conn.Write(p)
	if errors.Is(err, syscall.EMSGSIZE) && c.r.Places[0].Address == journalSocket {
		return c.sendFile(p)
	}
	if err != nil || c.r.awaited == nil {
		return err
	}
	return c.awaitAck(c.r.awaited(p))
}

// sendFile sends what is too large for a datagram as the journal takes it: a sealed file.
func (c *Conn) sendFile(p []byte) error {
	f, err := memfd.New("journal")
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(p); err != nil {
		return err
	}
	if err := memfd.Seal(f); err != nil {
		return err
	}
	u, ok := c.socket.(*net.UnixConn)
	if !ok {
		return errors.New("the journal is no unix socket")
	}
	_, _, err = u.WriteMsgUnix(nil, syscall.UnixRights(int(f.Fd())), nil)
	return err
}

// awaitAck reads fluentd's answer: a map with the one entry "ack".
func (c *Conn) awaitAck(chunk string) error {
	want := appendMap(nil, map[string]string{"ack": chunk})
	if err := c.conn.SetReadDeadline(time.Now().Add(ackPatience)); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c.conn, got); err != nil {
		return fmt.Errorf("wait for the receiver's acknowledgement: %w", err)
	}
	if string(got) != string(want) {
		return errors.New("the receiver acknowledges something else than what it was sent")
	}
	return nil
}

// Acked is up to which mark the receiver has taken what was sent: of TCP, its kernel has it;
// of unix sockets, its program; of UDP, it has left this host, or nobody has refused it.
func (c *Conn) Acked() (int64, error) {
	sent := c.sent.Load()
	unsent, err := sock.Unsent(c.socket)
	if err != nil {
		return 0, err
	}
	// Asked after it: a connection that is gone has forgotten what was unsent.
	gone, err := sock.Gone(c.socket)
	if err != nil {
		return 0, err
	}
	switch {
	case gone && !(c.kind == "unix" && unsent == 0):
		return 0, c.why()
	case c.kind == "tcp":
		c.acked = max(c.acked, sent-int64(unsent))
	case c.kind == "udp" || unsent == 0:
		c.acked = sent
	}
	return c.acked, nil
}

// Close ends the connection. A stream's receiver gets what has been sent.
func (c *Conn) Close() {
	if w, ok := c.conn.(interface{ CloseWrite() error }); ok && c.r.tls != nil {
		_ = w.CloseWrite() // the receiver may have gone
	}
	if c.stream() && sock.EndWriting(c.socket) == nil {
		// What it has said and nobody has read would make the end one that is cut off.
		if c.conn.SetReadDeadline(time.Now().Add(closePatience)) == nil {
			_, _ = io.CopyN(io.Discard, c.conn, 64<<10)
		}
	}
	_ = c.conn.Close()
}

// Abort ends it at once, and what somebody else does with it.
func (c *Conn) Abort() { _ = c.conn.Close() }
