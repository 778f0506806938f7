package image

import (
	"io"
	"sync"
)

// ahead is a pipe whose writer may be some buffers ahead of its reader, so that
// both work at once.
type ahead struct {
	full, free chan []byte
	last       []byte // being read; its rest is in rest
	rest       []byte
	ended      error         // of the writer, set before full is closed
	left       chan struct{} // closed when the reader has left
	why        error         // of that, set before
	once       sync.Once
}

const (
	aheadBuffers = 4
	aheadBuffer  = 512 << 10
)

func newAhead() *ahead {
	a := &ahead{full: make(chan []byte, aheadBuffers), free: make(chan []byte, aheadBuffers), left: make(chan struct{})}
	for range aheadBuffers {
		a.free <- nil
	}
	return a
}

// Write takes a copy of b; it waits while the reader is far behind.
func (a *ahead) Write(b []byte) (int, error) {
	total := len(b)
	for len(b) > 0 {
		select {
		case buf := <-a.free:
			if buf == nil {
				buf = make([]byte, aheadBuffer)
			}
			n := copy(buf[:aheadBuffer], b)
			a.full <- buf[:n]
			b = b[n:]
		case <-a.left:
			return total - len(b), a.why
		}
	}
	return total, nil
}

// end ends what is written: the reader gets err after the rest, io.EOF for nil.
// Nothing may be written afterwards.
func (a *ahead) end(err error) {
	if a.ended = err; err == nil {
		a.ended = io.EOF
	}
	close(a.full)
}

func (a *ahead) Read(b []byte) (int, error) {
	if len(a.rest) == 0 {
		if a.last != nil {
			a.free <- a.last
			a.last = nil
		}
		buf, ok := <-a.full
		if !ok {
			return 0, a.ended
		}
		a.last, a.rest = buf, buf
	}
	n := copy(b, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// leave ends what is read: the writer gets err from now on, io.ErrClosedPipe for
// nil.
func (a *ahead) leave(err error) {
	a.once.Do(func() {
		if a.why = err; err == nil {
			a.why = io.ErrClosedPipe
		}
		close(a.left)
	})
}
