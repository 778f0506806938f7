package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tare-engine/tare/api"
)

// fakeEngine answers as an engine would, so that the command line can be
// tested without one: it keeps the requests and says what a test tells it to.
type fakeEngine struct {
	host string // for TARE_HOST

	mu       sync.Mutex
	requests []string          // "POST /containers/create", without the version
	creates  []json.RawMessage // bodies of create requests
	handle   map[string]http.HandlerFunc
}

func newFakeEngine(t *testing.T) *fakeEngine {
	t.Helper()
	dir, err := os.MkdirTemp("", "tare") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	e := &fakeEngine{host: "unix://" + filepath.Join(dir, "s"), handle: map[string]http.HandlerFunc{}}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: e}}
	e.handle["POST /containers/create"] = e.create
	s.Start()
	t.Cleanup(func() {
		s.Close()
		os.RemoveAll(dir)
	})
	return e
}

// on makes a route answer with h.
func (e *fakeEngine) on(route string, h http.HandlerFunc) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.handle[route] = h
}

func (e *fakeEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if strings.HasPrefix(path, "/v1.") {
		path = path[strings.IndexByte(path[1:], '/')+1:]
	}
	route := r.Method + " " + path
	e.mu.Lock()
	e.requests = append(e.requests, route)
	h := e.handle[route]
	e.mu.Unlock()
	w.Header().Set("Api-Version", "1.50")
	w.Header().Set("Ostype", "linux")
	switch {
	case path == "/_ping":
		io.WriteString(w, "OK")
	case h != nil:
		if strings.HasPrefix(path, api.OwnRoutes) {
			w.Header().Set(api.OwnHeader, "known")
		}
		h(w, r)
	default:
		refuse(w, http.StatusNotFound, "page not found")
	}
}

func refuse(w http.ResponseWriter, status int, text string) {
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"message": text})
}

func (e *fakeEngine) create(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	e.mu.Lock()
	e.creates = append(e.creates, body)
	e.mu.Unlock()
	w.WriteHeader(http.StatusCreated)
	io.WriteString(w, `{"Id":"0123456789abcdef","Warnings":[]}`)
}

// answer makes a route answer with JSON.
func (e *fakeEngine) answer(route string, v any) {
	e.on(route, func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(v) })
}

// lastCreate returns the body of the last create request.
func (e *fakeEngine) lastCreate() map[string]any {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.creates) == 0 {
		return nil
	}
	var m map[string]any
	json.Unmarshal(e.creates[len(e.creates)-1], &m)
	return m
}

// result is what a command line did.
type result struct {
	out, err string
	code     int
}

// tare runs one command line against an engine, with stdin's text.
func tare(t *testing.T, host, stdin string, args ...string) result {
	t.Helper()
	t.Setenv("TARE_HOST", host)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	in, out, errOut := tempFile(t, stdin), tempFile(t, ""), tempFile(t, "")
	code := execute(args, in, out, errOut)
	return result{contents(t, out), contents(t, errOut), code}
}

func tempFile(t *testing.T, text string) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func contents(t *testing.T, f *os.File) string {
	t.Helper()
	text, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
