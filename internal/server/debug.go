package server

import (
	"expvar"
	"net/http"
	"net/http/pprof"
	"strings"

	"github.com/tare-engine/tare/internal/errdefs"
)

// debug serves what Go programs tell of themselves, with --debug only.
func (s *Server) debug(w http.ResponseWriter, r *request) error {
	if !s.debugs {
		return errNoPage
	}
	r.begun = true // what follows writes for itself
	switch what, profile, _ := strings.Cut(r.name, "/"); {
	case r.name == "vars":
		expvar.Handler().ServeHTTP(w, r.Request)
	case what != "pprof":
		r.begun = false
		return errNoPage
	case profile == "":
		pprof.Index(w, withPath(r.Request, "/debug/pprof/"))
	case profile == "cmdline":
		pprof.Cmdline(w, r.Request)
	case profile == "profile":
		pprof.Profile(w, r.Request)
	case profile == "symbol":
		pprof.Symbol(w, r.Request)
	case profile == "trace":
		pprof.Trace(w, r.Request)
	default:
		pprof.Handler(profile).ServeHTTP(w, r.Request)
	}
	return nil
}

// withPath is a request without the version in its path.
func withPath(r *http.Request, path string) *http.Request {
	r = r.Clone(r.Context())
	r.URL.Path = path
	return r
}

var errNoPage = errdefs.New(errdefs.NotFound, "page not found")
