package server

import (
	"net/http"
	"time"
)

// Answered is a request that is over.
type Answered struct {
	Operation string // method and pattern, such as "POST /containers/{name}/start"; "" for what is no operation
	Status    int
	Began     time.Duration // until the answer began; 0 of a connection that was taken over
	Took      time.Duration // until all of it was sent, or the connection taken over
}

// observed tells of a request that has been answered.
func (s *Server) observed(r *request, began time.Time) {
	a := Answered{Status: r.paced.status, Took: time.Since(began)}
	if r.route != nil {
		a.Operation = r.route.method + " " + r.route.pattern
	}
	switch {
	case r.hijacked:
		a.Status = http.StatusSwitchingProtocols
	case a.Status == 0: // nothing was written: net/http says OK
		a.Status, a.Began = http.StatusOK, a.Took
	default:
		a.Began = r.paced.began.Sub(began)
	}
	s.observe(a)
}
