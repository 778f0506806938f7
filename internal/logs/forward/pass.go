package forward

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/tare-engine/tare/internal/logfile"
	"github.com/tare-engine/tare/internal/logs/remote"
)

// Bounds of what is under way: what a receiver may get twice when an engine is killed.
const (
	batchBytes  = 64 << 10
	windowBytes = 1 << 20
)

// stalled is how long a receiver may take nothing of what was sent.
const stalled = 30 * time.Second

// batch is some messages.
type batch struct {
	packets [][]byte
	size    int
	end     position // of the log behind them
	moved   bool     // there were lines, perhaps only such as the driver leaves out
	mark    int64    // see remote.Conn.Send
}

// pass sends all there is, and waits until the receiver has it. An error says that it does
// not receive now.
func (f *forward) pass() error {
	err := f.sendAll()
	if err == nil || f.s.ctx.Err() != nil {
		return err
	}
	f.drop()
	f.failures++
	if f.failures == 1 {
		slog.Warn("a container's log cannot be sent; it is kept, and tried again", "container", f.log.ID, "driver", f.log.Driver, "err", err)
	}
	if n := f.receiver.MaxRetries; n > 0 && f.failures > n {
		f.giveUp(err)
	}
	return err
}

func (f *forward) sendAll() error {
	if len(f.window) > 0 { // of a connection that has ended
		if err := f.send(f.window); err != nil {
			return err
		}
		if err := f.settle(); err != nil {
			return err
		}
	}
	for size := 0; ; {
		b, err := f.read()
		if err != nil && err != io.EOF {
			return err
		}
		if len(b.packets) > 0 {
			f.window = append(f.window, b)
			if serr := f.send(f.window[len(f.window)-1:]); serr != nil {
				return serr
			}
		} else if b.moved && len(f.window) == 0 {
			f.note(b.end)
		}
		if size += b.size; size < windowBytes && err == nil {
			continue
		}
		if serr := f.settle(); serr != nil || err == io.EOF {
			return serr
		}
		size = 0
	}
}

// openLog goes to where the receiver has the log to.
//
// Preconditions: f.reading is held.
func (f *forward) openLog() error {
	root, err := os.OpenRoot(f.log.Dir)
	if err != nil {
		return err
	}
	r, err := logfile.Open(root, f.log.Name)
	if err != nil {
		return err
	}
	f.at = readPosition(f.log.Position)
	if err := r.SeekPosition(f.at.log()); err != nil {
		r.Close()
		return err
	}
	if at := r.Position(); f.at.Generation > 0 && at.Generation > f.at.Generation {
		f.missing()
	}
	f.reader = r
	return nil
}

// missing says that lines are gone that were not sent.
func (f *forward) missing() {
	slog.Warn("lines of a container are lost to its receiver: its log's bounds were reached before they could be sent",
		"container", f.log.ID, "driver", f.log.Driver)
}

// read takes the next messages from the log; io.EOF comes with the last of them.
func (f *forward) read() (b batch, err error) {
	f.reading.Lock()
	defer f.reading.Unlock()
	if f.reader == nil {
		if err := f.openLog(); errors.Is(err, os.ErrNotExist) {
			return b, io.EOF
		} else if err != nil {
			return b, err
		}
	}
	b.end = f.at
	if n := len(f.window); n > 0 {
		b.end = f.window[n-1].end
	}
	limit := batchBytes
	if f.receiver.Ack {
		limit = 1
	}
	var e logfile.Entry
	for b.size < limit {
		if err := f.reader.Next(&e); err != nil {
			return b, err
		}
		if g := b.end.Generation; g > 0 && e.End.Generation > g+1 {
			f.missing()
		}
		b.moved = true
		b.size++ // also of lines that the driver leaves out
		m := remote.Message{Stream: e.Stream, Time: e.Time}
		m.Line, m.Partial = b.end.advance(&e, f.log.ID)
		packets, err := f.receiver.Encode(&m)
		if err != nil {
			slog.Warn("a line of a container cannot be sent", "container", f.log.ID, "driver", f.log.Driver, "err", err)
		}
		for _, p := range packets {
			b.size += len(p)
		}
		b.packets = append(b.packets, packets...)
	}
	return b, nil
}

// advance moves a position behind an entry, and says what of a line it is.
func (p *position) advance(e *logfile.Entry, id string) (line []byte, partial *remote.Partial) {
	line, whole := bytes.CutSuffix(e.Line, []byte("\n"))
	piece := &p.Pieces[e.Stream-1]
	if !whole || piece.Ordinal > 0 {
		if piece.Ordinal == 0 {
			piece.Generation, piece.Offset = e.End.Generation, e.End.Offset
		}
		piece.Ordinal++
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %d %d", id, e.Stream, piece.Generation, piece.Offset))
		partial = &remote.Partial{ID: hex.EncodeToString(sum[:]), Ordinal: piece.Ordinal, Last: whole}
	}
	if whole {
		*piece = pieces{}
	}
	p.Generation, p.Offset = e.End.Generation, e.End.Offset
	return line, partial
}

// send writes batches to the receiver, connecting first if that has not been done.
func (f *forward) send(batches []batch) error {
	if err := f.connect(); err != nil {
		return err
	}
	for i := range batches {
		mark, err := f.conn.Send(batches[i].packets)
		if err != nil {
			return err
		}
		batches[i].mark = mark
	}
	return nil
}

func (f *forward) connect() error {
	if f.conn != nil {
		return nil
	}
	c, err := f.receiver.Dial(f.s.ctx)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conn = c
	if f.closed {
		return errors.New("the forward is closed")
	}
	return nil
}

// drop ends a connection that is of no use.
func (f *forward) drop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn != nil {
		f.conn.Abort()
		f.conn = nil
	}
}

// settle waits until the receiver has taken all that was sent, and notes how far it has.
func (f *forward) settle() error {
	delay, progress := time.Millisecond, time.Now()
	for len(f.window) > 0 {
		acked, err := f.conn.Acked()
		if err != nil {
			return err
		}
		n := 0
		for n < len(f.window) && f.window[n].mark <= acked {
			n++
		}
		if n > 0 {
			f.note(f.window[n-1].end)
			f.window = f.window[n:]
			delay, progress = time.Millisecond, time.Now()
			if f.failures > 0 {
				slog.Info("a container's log is sent again", "container", f.log.ID, "driver", f.log.Driver)
				f.failures = 0
			}
			continue
		}
		if time.Since(progress) > stalled {
			return fmt.Errorf("the receiver has taken nothing for %s", stalled)
		}
		t := time.NewTimer(delay)
		select {
		case <-f.s.ctx.Done():
			t.Stop()
			return f.s.ctx.Err()
		case <-t.C:
		}
		delay = min(2*delay, 200*time.Millisecond)
	}
	return nil
}

// note writes down how far the receiver has the log.
func (f *forward) note(at position) {
	f.reading.Lock()
	f.at = at
	f.reading.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.departed {
		return
	}
	if err := at.write(f.log.Position); err != nil {
		slog.Warn("note how far a container's log is sent: a next engine may send it again", "container", f.log.ID, "err", err)
	}
}

// giveUp lets go of the lines so far, as is asked for by a bound of retries.
func (f *forward) giveUp(why error) {
	lines := 0
	for _, b := range f.window {
		lines += len(b.packets)
		f.note(b.end)
	}
	f.window = nil
	for f.s.ctx.Err() == nil {
		b, err := f.read()
		lines += len(b.packets)
		if b.moved {
			f.note(b.end)
		}
		if err != nil {
			break
		}
	}
	slog.Warn("lines of a container are lost to its receiver: the retries that its options allow are used up",
		"container", f.log.ID, "driver", f.log.Driver, "messages", lines, "err", why)
	f.failures = 0
}
