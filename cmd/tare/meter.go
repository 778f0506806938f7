package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/tare-engine/tare/cmd/tare/format"
)

// meter counts what a copy moves, and shows it on a terminal.
type meter struct {
	out io.Writer // nil: nobody sees it

	mu    sync.Mutex
	bytes int64
	shown bool
	next  time.Time
}

// newMeter shows nothing if it is told so, or there is nobody to see it.
func newMeter(out *os.File, quiet bool) *meter {
	if quiet || !isScreen(out) {
		return &meter{}
	}
	return &meter{out: out}
}

// meterPace is how often the figure changes; what is quicker shows none.
const meterPace = 75 * time.Millisecond

// over counts what is written to w.
func (m *meter) over(w io.Writer, label string) io.Writer {
	return writerFunc(func(b []byte) (int, error) {
		n, err := w.Write(b)
		m.add(n, label)
		return n, err
	})
}

// from counts what is read from r.
func (m *meter) from(r io.Reader, label string) io.Reader {
	return readerFunc(func(b []byte) (int, error) {
		n, err := r.Read(b)
		m.add(n, label)
		return n, err
	})
}

func (m *meter) add(n int, label string) {
	if m.out == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bytes += int64(n)
	now := time.Now()
	switch {
	case m.next.IsZero():
		m.next = now.Add(meterPace)
	case now.After(m.next):
		m.next, m.shown = now.Add(meterPace), true
		fmt.Fprintf(m.out, "\r\x1b[K%s%s", label, format.Size(m.bytes))
	}
}

// clear takes the figure away.
func (m *meter) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shown {
		fmt.Fprint(m.out, "\r\x1b[K")
	}
	m.shown = false
}

// done says that all has come to a place.
func (m *meter) done(place string) {
	if m.out == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	fmt.Fprintf(m.out, "Successfully copied %s to %s\n", format.Size(m.bytes), safe(place))
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
