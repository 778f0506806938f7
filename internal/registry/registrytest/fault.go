package registrytest

import (
	"io"
	"log"
	"net/http"
)

var quietLog = log.New(io.Discard, "", 0)

type handler func(w http.ResponseWriter, req *http.Request, next http.Handler)

type fault struct {
	matches func(*http.Request) bool
	left    int // how often still; negative for always
	handler handler
}

// nextFault returns what is to be done instead of an answer.
//
// Preconditions: r.mu is held.
func (r *Registry) nextFault(req *http.Request) handler {
	for _, f := range r.faults {
		if f.left != 0 && f.matches(req) {
			f.left--
			return f.handler
		}
	}
	return nil
}
