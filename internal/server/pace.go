package server

import (
	"net/http"
	"time"
)

const (
	// chunk is what a client must take within the server's patience. A socket's
	// buffer gives room back in pieces about as large: less cannot be seen.
	chunk = 32 << 10
	// A client that takes nothing for so long has stopped for good or is gone:
	// it keeps a connection and buffers of ours.
	patience = 5 * time.Minute
	// Logs are read in a pager, by people who are called away.
	logPatience = time.Hour
)

// paced is an answer that a client cannot hold up for ever: each chunk has its
// own deadline, so that whoever reads, however slowly, gets all of it.
type paced struct {
	http.ResponseWriter
	rc       *http.ResponseController
	patience time.Duration

	status int       // of the answer; 0: it has not begun
	began  time.Time // when it did
}

func newPaced(w http.ResponseWriter, patience time.Duration) *paced {
	return &paced{ResponseWriter: w, rc: http.NewResponseController(w), patience: patience}
}

// Unwrap is for http.ResponseController.
func (p *paced) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// renew begins the time for the next chunk.
func (p *paced) renew() { _ = p.rc.SetWriteDeadline(time.Now().Add(p.patience)) } // a test's recorder has none

// WriteHeader begins the answer.
func (p *paced) WriteHeader(status int) {
	if p.status == 0 && status >= http.StatusOK {
		p.status, p.began = status, time.Now()
	}
	p.ResponseWriter.WriteHeader(status)
}

func (p *paced) Write(b []byte) (n int, err error) {
	if p.status == 0 {
		p.status, p.began = http.StatusOK, time.Now()
	}
	for {
		k := min(len(b), chunk)
		p.renew()
		m, err := p.ResponseWriter.Write(b[:k])
		if n += m; err != nil || k == len(b) {
			return n, err
		}
		b = b[k:]
	}
}

// FlushError sends what is buffered.
func (p *paced) FlushError() error {
	p.renew()
	return p.rc.Flush()
}
