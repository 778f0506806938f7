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

// stoppedAfter is when a client that takes nothing has stopped reading.
var stoppedAfter = 60 * time.Second

// send gives one frame to the clients that want it: at once where they take it,
// by the spool where they do not.
func (t *set) send(s logfile.Stream, frame []byte) {
	spooled := false
	for _, c := range t.clients {
		if c.gone || c.leaves {
			continue
		}
		if !c.behind && c.want[s-1] {
			t.sendNow(c, frame)
		}
		spooled = spooled || c.behind && c.wantsAny()
	}
	if !spooled {
		return
	}
	oldest := t.oldest()
	err := t.spool.add(t.spoolDir(), frame, oldest)
	if err == nil {
		return
	}
	// The disk is full, or the last bytes of a process are more than the slack:
	// those behind have lost something and must know.
	for _, c := range t.behind() {
		t.cut(c, fmt.Sprintf("output is lost: %v", err))
	}
}

func (c *client) wantsAny() bool { return c.want[0] || c.want[1] }

// sendNow writes a frame to a client that has everything before it.
func (t *set) sendNow(c *client, frame []byte) {
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
	c.behind, c.place, c.frame = true, t.spool.end+int64(n), 0
	if n > 0 {
		c.frame = int64(len(frame) - n)
	}
	t.s.markBusy(t)
}

// spoolDir returns the directory for spools.
func (t *set) spoolDir() *os.File {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	return t.s.spoolDir
}

// behind returns the clients that are behind.
func (t *set) behind() (behind []*client) {
	for _, c := range t.clients {
		if c.behind && !c.gone {
			behind = append(behind, c)
		}
	}
	return behind
}

// oldest returns the first place in the spool that a client needs.
func (t *set) oldest() int64 {
	oldest := t.spool.end
	for _, c := range t.clients {
		if c.behind && !c.gone {
			oldest = min(oldest, c.place)
		}
	}
	return oldest
}

// spoolFull reports whether the process must wait for a client. Clients that
// have stopped reading are cut first: nobody waits for them.
func (t *set) spoolFull() bool {
	full := func() bool { return t.spool.end+frameHeader+readSize-t.oldest() > spoolLimit }
	if t.spool.end == 0 || !full() {
		return false
	}
	now := time.Now()
	for _, c := range t.behind() {
		if t.spool.end+frameHeader+readSize-c.place > spoolLimit && now.Sub(c.took) >= stoppedAfter {
			t.cut(c, fmt.Sprintf("output is cut: %d bytes behind and nothing read for %v", t.spool.end-c.place, stoppedAfter))
		}
	}
	return full()
}

// flushClients sends clients that are behind what they take now.
func (t *set) flushClients(buf []byte) (again bool) {
	served := false
	for _, c := range t.clients {
		if !c.behind || c.held || c.gone {
			continue
		}
		served = true
		c.src.take(epoll.Write)
		again = t.flushClient(c, buf) || again
	}
	if served {
		t.progress()
	}
	return again
}

// progress lets the process go on, or the spool begin anew, where clients have
// moved on or left.
func (t *set) progress() {
	if len(t.behind()) == 0 {
		t.spool.reset()
	}
	for _, src := range t.out {
		if src != nil && src.fd >= 0 && src.is(epoll.Read|epoll.Hup) {
			t.s.queue.put(t)
		}
	}
}

// flushClient sends one client up to turnBytes; more reports whether it would
// take more.
func (t *set) flushClient(c *client, buf []byte) (more bool) {
	for total := 0; total < turnBytes; {
		p, skip := c.first, int64(0)
		if len(p) == 0 {
			var err error
			if p, skip, err = t.next(c, buf); err != nil {
				t.cut(c, fmt.Sprintf("output is lost: %v", err))
				return false
			}
			c.place += skip
		}
		if len(p) == 0 {
			if c.place == t.spool.end {
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
		c.sent(n, p, t.stdio.TTY)
		if n < len(p) {
			return false // the socket is full; its event gives another turn
		}
		total += n
	}
	return true
}

// next returns what a client gets next from its place on, after skip bytes that
// it does not want.
func (t *set) next(c *client, buf []byte) (p []byte, skip int64, err error) {
	n, err := t.spool.read(buf, c.place)
	if err != nil || n == 0 {
		return nil, 0, err
	}
	p = buf[:n]
	if t.stdio.TTY {
		return p, 0, nil
	}
	if c.frame > 0 {
		return p[:min(int64(n), c.frame)], 0, nil
	}
	return t.frames(c, p)
}

// frames returns the wanted frames at the start of p, which begins with a
// header, after those that are not wanted. Each header is whole in what it
// returns.
func (t *set) frames(c *client, p []byte) (wanted []byte, skip int64, err error) {
	n, all := int64(0), int64(len(p))
	for n < all {
		if all-n < frameHeader {
			if n == 0 {
				return t.tornFrame(c)
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
func (t *set) tornFrame(c *client) (wanted []byte, skip int64, err error) {
	h := make([]byte, frameHeader)
	if err := t.readFull(h, c.place); err != nil {
		return nil, 0, err
	}
	if c.want[h[0]-1] {
		return h, 0, nil
	}
	return nil, frameHeader + int64(binary.BigEndian.Uint32(h[4:])), nil
}

func (t *set) readFull(p []byte, at int64) error {
	for len(p) > 0 {
		n, err := t.spool.read(p, at)
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
func (c *client) sent(n int, p []byte, tty bool) {
	if len(c.first) > 0 {
		c.first = c.first[n:]
		return
	}
	c.place += int64(n)
	if tty {
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
func (t *set) cut(c *client, why string) {
	if c.gone {
		return
	}
	text := "\r\ntare: attach: " + why + "\r\n"
	_ = unixconn.SendBuffer(c.src.fd, 4*clientBuffer)
	if t.finishFrame(c) {
		b := []byte(text)
		if !t.stdio.TTY {
			b = make([]byte, frameHeader, frameHeader+len(text))
			putHeader(b, logfile.Stderr, len(text))
			b = append(b, text...)
		}
		unixconn.Send(c.src.fd, b)
	}
	unixconn.End(c.src.fd)
	c.gone = true
	t.s.queue.put(t)
}

// finishFrame sends the rest of the frame that a client is in, so that what
// follows is understood.
func (t *set) finishFrame(c *client) bool {
	if t.stdio.TTY || !c.behind {
		return true
	}
	if len(c.first) > 0 {
		return false
	}
	b := make([]byte, c.frame)
	if err := t.readFull(b, c.place); err != nil {
		return false
	}
	n, err := unixconn.Send(c.src.fd, b)
	return err == nil && n == len(b)
}
