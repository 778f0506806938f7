package stream

import (
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"github.com/tare-engine/tare/internal/linux/epoll"
	"github.com/tare-engine/tare/internal/linux/rawfd"
	"github.com/tare-engine/tare/internal/linux/unixconn"
	"github.com/tare-engine/tare/internal/logfile"
)

// audience is the attached clients of one process, in their order, with the
// spool from which those that are behind are served. The set's mu guards it.
type audience struct {
	owner   owner
	framed  bool
	clients []*client
	spool   spool
}

// owner is what an audience asks of the set it belongs to.
type owner interface {
	spoolDir() *os.File // nil until there is one
	busy()              // time has something to take back
	wake()              // something can be done
}

// stoppedAfter is when a client that takes nothing has stopped reading.
var stoppedAfter = 60 * time.Second

// send gives one frame to the clients that want it: at once where they take it,
// by the spool where they do not.
func (a *audience) send(s logfile.Stream, frame []byte) {
	spooled := false
	for _, c := range a.clients {
		if c.gone || c.leaves {
			continue
		}
		if !c.behind && c.want[s-1] {
			a.sendNow(c, frame)
		}
		spooled = spooled || c.behind && c.wantsAny()
	}
	if !spooled {
		return
	}
	oldest := a.oldest()
	err := a.spool.add(a.owner.spoolDir(), frame, oldest)
	if err == nil {
		return
	}
	// The disk is full, or the last bytes of a process are more than the slack:
	// those behind have lost something and must know.
	for _, c := range a.behind() {
		a.cut(c, fmt.Sprintf("output is lost: %v", err))
	}
}

func (c *client) wantsAny() bool { return c.want[0] || c.want[1] }

// sendNow writes a frame to a client that has everything before it.
func (a *audience) sendNow(c *client, frame []byte) {
	c.src.take(epoll.Write)
	n, err := unixconn.Send(c.src.fd, frame)
	if err != nil && err != rawfd.Again {
		c.gone = true
		return
	}
	if n > 0 {
		c.took = time.Now()
	}
	if n == len(frame) {
		return
	}
	// The rest is in the spool in a moment, at its present end.
	c.behind, c.place, c.frame = true, a.spool.end+int64(n), 0
	if n > 0 {
		c.frame = int64(len(frame) - n)
	}
	a.owner.busy()
}

// behind returns the clients that are behind.
func (a *audience) behind() (behind []*client) {
	for _, c := range a.clients {
		if c.behind && !c.gone {
			behind = append(behind, c)
		}
	}
	return behind
}

// oldest returns the first place in the spool that a client needs.
func (a *audience) oldest() int64 {
	oldest := a.spool.end
	for _, c := range a.clients {
		if c.behind && !c.gone {
			oldest = min(oldest, c.place)
		}
	}
	return oldest
}

// full reports whether the process must wait for a client. Clients that
// have stopped reading are cut first: nobody waits for them.
func (a *audience) full() bool {
	over := func() bool { return a.spool.end+frameHeader+readSize-a.oldest() > spoolLimit }
	if a.spool.end == 0 || !over() {
		return false
	}
	now := time.Now()
	for _, c := range a.behind() {
		if a.spool.end+frameHeader+readSize-c.place > spoolLimit && now.Sub(c.took) >= stoppedAfter {
			a.cut(c, fmt.Sprintf("output is cut: %d bytes behind and nothing read for %v", a.spool.end-c.place, stoppedAfter))
		}
	}
	return over()
}

// flush sends clients that are behind what they take now. It reports whether
// there were any, and whether they would take more.
func (a *audience) flush(buf []byte) (served, again bool) {
	for _, c := range a.clients {
		if !c.behind || c.held || c.gone {
			continue
		}
		served = true
		c.src.take(epoll.Write)
		again = a.flushClient(c, buf) || again
	}
	return served, again
}

// forgetSent lets the spool begin anew if nobody is behind.
func (a *audience) forgetSent() {
	if len(a.behind()) == 0 {
		a.spool.reset()
	}
}

// flushClient sends one client up to turnBytes; more reports whether it would
// take more.
func (a *audience) flushClient(c *client, buf []byte) (more bool) {
	for total := 0; total < turnBytes; {
		p, skip := c.first, int64(0)
		if len(p) == 0 {
			var err error
			if p, skip, err = a.next(c, buf); err != nil {
				a.cut(c, fmt.Sprintf("output is lost: %v", err))
				return false
			}
			c.place += skip
		}
		if len(p) == 0 {
			if c.place == a.spool.end {
				c.behind = false
				return false
			}
			continue // only frames that it does not want
		}
		n, err := unixconn.Send(c.src.fd, p)
		if err != nil && err != rawfd.Again {
			c.gone = true
			return false
		}
		if n > 0 {
			c.took = time.Now()
		}
		c.sent(n, p, a.framed)
		if n < len(p) {
			return false // the socket is full; its event gives another turn
		}
		total += n
	}
	return true
}

// next returns what a client gets next from its place on, after skip bytes that
// it does not want.
func (a *audience) next(c *client, buf []byte) (p []byte, skip int64, err error) {
	n, err := a.spool.read(buf, c.place)
	if err != nil || n == 0 {
		return nil, 0, err
	}
	p = buf[:n]
	if !a.framed {
		return p, 0, nil
	}
	if c.frame > 0 {
		return p[:min(int64(n), c.frame)], 0, nil
	}
	return a.frames(c, p)
}

// frames returns the wanted frames at the start of p, which begins with a
// header, after those that are not wanted. Each header is whole in what it
// returns.
func (a *audience) frames(c *client, p []byte) (wanted []byte, skip int64, err error) {
	n, all := int64(0), int64(len(p))
	for n < all {
		if all-n < frameHeader {
			if n == 0 {
				return a.tornFrame(c)
			}
			break
		}
		size := frameHeader + int64(binary.BigEndian.Uint32(p[n+4:]))
		if !c.want[p[n]-1] {
			if n > skip {
				break
			}
			skip += size
		}
		n += size
	}
	if skip >= n {
		return nil, skip, nil
	}
	return p[skip:min(n, all)], skip, nil
}

// tornFrame is frames where the spool's ring ends within the header.
func (a *audience) tornFrame(c *client) (wanted []byte, skip int64, err error) {
	h := make([]byte, frameHeader)
	if err := a.readFull(h, c.place); err != nil {
		return nil, 0, err
	}
	if c.want[h[0]-1] {
		return h, 0, nil
	}
	return nil, frameHeader + int64(binary.BigEndian.Uint32(h[4:])), nil
}

func (a *audience) readFull(p []byte, at int64) error {
	for len(p) > 0 {
		n, err := a.spool.read(p, at)
		if err != nil {
			return err
		}
		if n == 0 {
			return errSpoolTorn
		}
		p, at = p[n:], at+int64(n)
	}
	return nil
}

// sent moves a client on by n bytes of p, which next or first has given.
func (c *client) sent(n int, p []byte, framed bool) {
	if len(c.first) > 0 {
		c.first = c.first[n:]
		return
	}
	c.place += int64(n)
	if !framed {
		return
	}
	left := c.frame
	for at := 0; at < n; {
		if left == 0 {
			left = frameHeader + int64(binary.BigEndian.Uint32(p[at+4:]))
		}
		k := int(min(left, int64(n-at)))
		at, left = at+k, left-int64(k)
	}
	c.frame = left
}

// cut ends the connection of a client that cannot be served, with a message if
// that can still be put into its socket.
func (a *audience) cut(c *client, why string) {
	if c.gone {
		return
	}
	text := "\r\ntare: attach: " + why + "\r\n"
	_ = unixconn.SendBuffer(c.src.fd, 4*clientBuffer)
	if a.finishFrame(c) {
		b := []byte(text)
		if a.framed {
			b = make([]byte, frameHeader, frameHeader+len(text))
			putHeader(b, logfile.Stderr, len(text))
			b = append(b, text...)
		}
		unixconn.Send(c.src.fd, b)
	}
	unixconn.End(c.src.fd)
	c.gone = true
	a.owner.wake()
}

// finishFrame sends the rest of the frame that a client is in, so that what
// follows is understood.
func (a *audience) finishFrame(c *client) bool {
	if !a.framed || !c.behind {
		return true
	}
	if len(c.first) > 0 {
		return false
	}
	b := make([]byte, c.frame)
	if err := a.readFull(b, c.place); err != nil {
		return false
	}
	n, err := unixconn.Send(c.src.fd, b)
	return err == nil && n == len(b)
}
