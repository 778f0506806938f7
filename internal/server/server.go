package server

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/tare-engine/tare/api"
)

// Backend is what the front door calls: the engine.
type Backend interface {
	containerBackend
	containerReadBackend
	attachBackend
	execBackend
	runBackend
	statsBackend
	imageBackend
	verifyBackend
	importEngineBackend
	mountBackend
	branchBackend
	diffBackend
	sendBackend
	distributionBackend
	manifestBackend
	archiveBackend
	filesBackend
	systemBackend
	networkBackend
	volumeBackend
	buildBackend
}

// Config holds the settings of a Server.
type Config struct {
	Version string       // of the engine, for the Server header
	Names   []string     // names by which clients may call us over TCP; addresses and localhost always may
	Log     *slog.Logger // nil: slog.Default()
	Debug   bool         // /debug is served
	// DataRoot is what texts about a full disk name where an error names no path.
	DataRoot string

	// Authorization is asked about each request; nil: nobody is.
	Authorization *Authorization

	// Observe is told of each request when it has been answered; nil: nobody is.
	Observe func(Answered)

	// MaxConns bounds the open client connections; those beyond it are told
	// 503. Zero is half of the descriptors the process may open, so that the
	// engine can work whatever clients do.
	MaxConns int

	// Patience is how long a client may take for 32 KB of an answer. Zero is five
	// minutes.
	Patience time.Duration
}

const (
	// A header takes a client microseconds; one that drips has no right to a
	// goroutine and a descriptor of ours.
	headerTimeout = 10 * time.Second
	maxHeader     = 1 << 20
	// What a handler has not read of a body is worth waiting for a little: then the
	// answer goes out, and the connection ends with it.
	restTime = 250 * time.Millisecond
	// Clients keep idle connections for the next request.
	idleTimeout = 15 * time.Minute
)

// Server serves the Engine API on any number of listeners.
type Server struct {
	backend  Backend
	log      *slog.Logger
	names    map[string]bool
	headers  http.Header // every answer has these
	dataRoot string
	maxConns int
	patience time.Duration // for a client to take a chunk of an answer
	observe  func(Answered)
	authz    *Authorization
	debugs   bool
	conns    connTable
	http     *http.Server
	closing  context.Context // done when streams shall end
	close    context.CancelFunc
}

// New returns a Server that asks b.
func New(b Backend, c Config) *Server {
	s := &Server{
		backend:  b,
		log:      c.Log,
		names:    map[string]bool{"localhost": true},
		dataRoot: c.DataRoot,
		maxConns: c.MaxConns,
		patience: cmp.Or(c.Patience, patience),
		observe:  c.Observe,
		authz:    c.Authorization,
		debugs:   c.Debug,
		headers: http.Header{
			"Server":              {"Tare/" + c.Version + " (linux)"},
			"Api-Version":         {api.MaxVersion.String()},
			"Docker-Experimental": {"false"},
			"Ostype":              {"linux"},
		},
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.maxConns == 0 {
		s.maxConns = descriptorLimit() / 2
	}
	for _, name := range c.Names {
		s.names[name] = true
	}
	s.closing, s.close = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnContext:       withConn,
		ConnState:         s.conns.note,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		// Only HTTP/1.1: attach takes the connection over. HTTP/2 is BuildKit's (prior).
		Protocols: http1(),
	}
	return s
}

func http1() *http.Protocols {
	var p http.Protocols
	p.SetHTTP1(true)
	return &p
}

// Serve answers the clients of l until Shutdown, then returns nil. It closes l.
func (s *Server) Serve(l net.Listener) error {
	err := s.http.Serve(s.shed(l))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Shutdown closes the listeners, ends streams such as events and logs, and
// waits for the requests in progress until ctx is done. Connections that
// attach took over belong to the engine and stay.
func (s *Server) Shutdown(ctx context.Context) error {
	s.close()
	return s.http.Shutdown(ctx)
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	began := time.Now()
	for k, v := range s.headers {
		w.Header()[k] = v
	}
	if hr.ContentLength < 0 {
		// A body in chunks may have come with a Content-Length as well, which
		// net/http dropped. A proxy in front of us may have believed that one:
		// what follows the chunks is not to be taken for a request
		// (RFC 9112, section 6.1).
		w.Header().Set("Connection", "close")
	}
	var g *guard
	if s.authz.asked() {
		g = s.newGuard(w)
		w = g
	}
	answer := newPaced(w, s.patience)
	r := &request{Request: hr, w: answer, paced: answer, guard: g, log: s.log}
	if g != nil {
		g.r = r
	}
	if s.observe != nil {
		defer s.observed(r, began)
	}
	defer s.recoverPanic(r)
	err := s.handle(answer, r)
	if s.log.Enabled(hr.Context(), slog.LevelDebug) {
		s.log.Debug("request", "method", hr.Method, "path", hr.URL.Path,
			"took", time.Since(began), "peer", peerOf(hr), "error", err)
	}
	if err != nil && (g == nil || g.denied == nil) {
		s.fail(answer, r, err)
	}
	if g != nil {
		g.ended()
	}
	if !r.hijacked {
		answer.renew() // for the end of the answer, which net/http sends
		// Before that it reads what is left of the request's body, as much as the
		// client cares to send, so that the connection can be used again.
		_ = answer.rc.SetReadDeadline(time.Now().Add(restTime))
	}
}

func (s *Server) handle(w http.ResponseWriter, r *request) error {
	if isPreface(r.Request) {
		if r.guard != nil {
			return errPrior
		}
		return s.prior(r)
	}
	if err := s.checkDoor(r.Request); err != nil {
		return err
	}
	given, path := splitVersion(r.URL.Path)
	to, name := lookUp(r.Method, path)
	r.route = to
	if r.guard != nil {
		if err := s.authorize(r); err != nil {
			return err
		}
	}
	if r.Method == http.MethodOptions {
		return nil
	}
	if to == nil {
		return errNoPage
	}
	if strings.HasPrefix(path, api.OwnRoutes) {
		w.Header().Set(api.OwnHeader, "known")
	}
	r.name, r.version = name, api.MaxVersion
	if given != "" {
		var err error
		if r.version, err = checkVersion(given, path); err != nil {
			return err
		}
	}
	if err := r.parseQuery(); err != nil {
		return err
	}
	return to.handle(s, w, r)
}

// errClosing is the cause of contexts that end with the server.
var errClosing = errors.New("the engine is shutting down")

// streamContext returns a context for an answer without end: it is done when
// the client leaves or, with a cause, when the server shuts down.
func (s *Server) streamContext(r *request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(r.Context())
	stop := context.AfterFunc(s.closing, func() { cancel(errClosing) })
	return ctx, func() { stop(); cancel(nil) }
}
