package server

import "io"

// ahead is a buffered answer: a goroutine of its own sends it, while the next part
// of it is made.
type ahead struct {
	part  []byte // is being filled
	full  chan []byte
	sent  chan sentPart
	ended chan struct{}
	err   error // of sending, to be read when that has ended
}

// sentPart is a part that may be filled again.
type sentPart struct {
	part []byte
	err  error // the first of all parts so far
}

// newAhead begins to send to out. The caller ends it with Close, always.
func newAhead(out io.Writer) *ahead {
	empty := func() []byte { return make([]byte, 0, archiveBuffer) }
	a := &ahead{part: empty(), full: make(chan []byte), sent: make(chan sentPart, 2), ended: make(chan struct{})}
	a.sent <- sentPart{part: empty()}
	go a.send(out)
	return a
}

func (a *ahead) send(out io.Writer) {
	defer close(a.ended)
	for part := range a.full {
		if a.err == nil {
			_, a.err = out.Write(part)
		}
		a.sent <- sentPart{part[:0], a.err}
	}
}

// Write may return the error of an earlier part.
func (a *ahead) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		k := min(cap(a.part)-len(a.part), len(b)-n)
		a.part = append(a.part, b[n:n+k]...)
		n += k
		if len(a.part) == cap(a.part) {
			a.full <- a.part
			next := <-a.sent
			a.part, err = next.part, next.err
		}
	}
	return n, err
}

// Close waits until all is sent, with the last part if the answer was made without
// an error. It returns that, or else the first of sending.
func (a *ahead) Close(made error) error {
	if made == nil && len(a.part) > 0 {
		a.full <- a.part
	}
	close(a.full)
	<-a.ended
	if made != nil {
		return made
	}
	return a.err
}
