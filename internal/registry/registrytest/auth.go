package registrytest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TokenServer gives tokens as Docker's specification says: for a password by
// GET, for an identity token by POST.
type TokenServer struct {
	*httptest.Server
	// Lifetime that tokens are said to have; they are valid until Revoke.
	Lifetime time.Duration

	anonymous bool

	mu sync.Mutex
	// +checklocks:mu
	tokens map[string]grant
	// +checklocks:mu
	elsewhere string
	// +checklocks:mu
	identity map[string]bool
	// +checklocks:mu
	seen []Request
}

type grant struct {
	user   string // empty for anybody
	scopes []string
}

// NewTokenServer starts one, which ends with the test.
func NewTokenServer(t testing.TB, encrypted, anonymous bool) *TokenServer {
	t.Helper()
	s := &TokenServer{anonymous: anonymous, Lifetime: 5 * time.Minute, tokens: map[string]grant{}, identity: map[string]bool{}}
	s.Server = listen(t, "", http.HandlerFunc(s.serve))
	if encrypted {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

// listen makes a server that has not started yet.
func listen(t testing.TB, address string, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = quietLog
	if address != "" {
		s.Listener.Close()
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		s.Listener = l
	}
	return s
}

// Requests returns all that the server has seen.
func (s *TokenServer) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// Revoke ends all tokens, not the identity tokens.
func (s *TokenServer) Revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// RedirectTo has the server send all its clients elsewhere.
func (s *TokenServer) RedirectTo(url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.elsewhere = url
}

func (s *TokenServer) serve(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(req.Body, 1<<20))
	form, _ := url.ParseQuery(string(body))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, Request{Method: req.Method, Path: req.URL.Path, Query: req.URL.RawQuery, Header: req.Header.Clone(), Body: string(body)})
	if s.elsewhere != "" {
		http.Redirect(w, req, s.elsewhere, http.StatusTemporaryRedirect)
		return
	}
	user, password, has := req.BasicAuth()
	q := req.URL.Query()
	offline := q.Get("offline_token") == "true"
	scopes := q["scope"]
	switch {
	case req.Method == http.MethodPost && form.Get("grant_type") == "refresh_token":
		if !s.identity[form.Get("refresh_token")] {
			deny(w, http.StatusUnauthorized, "UNAUTHORIZED", "unknown identity token")
			return
		}
		user, scopes = Username, strings.Fields(form.Get("scope"))
	case req.Method != http.MethodGet:
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	case has && (user != Username || password != Password):
		deny(w, http.StatusUnauthorized, "UNAUTHORIZED", "incorrect username or password")
		return
	}
	t := rand.Text()
	s.tokens[t] = grant{user, scopes}
	answer := map[string]any{"token": t, "access_token": t, "expires_in": int(s.Lifetime.Seconds())}
	if offline && user != "" {
		id := rand.Text()
		s.identity[id] = true
		answer["refresh_token"] = id
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer)
}

// allows reports whether a token is good for an action in a repository; known
// is false if there is no such token.
func (s *TokenServer) allows(token, repository, action string) (known, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, known := s.tokens[token]
	if !known {
		return false, false
	}
	if repository == "" {
		return true, g.user != "" || s.anonymous
	}
	if g.user == "" && (!s.anonymous || action != "pull") {
		return true, false
	}
	for _, scope := range g.scopes {
		parts := strings.Split(scope, ":")
		if len(parts) == 3 && parts[1] == repository && slices.Contains(strings.Split(parts[2], ","), action) {
			return true, true
		}
	}
	return true, false
}

// authorized answers for the registry if the request may not be done.
func (r *Registry) authorized(w http.ResponseWriter, req *http.Request) bool {
	switch r.opts.Auth {
	case Basic:
		user, password, ok := req.BasicAuth()
		if ok && user == Username && password == Password {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="of a test"`)
		deny(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
		return false
	case Token:
		return r.tokenAuthorized(w, req)
	}
	return true
}

func (r *Registry) tokenAuthorized(w http.ResponseWriter, req *http.Request) bool {
	repository, action := repositoryOf(req.URL.Path), "pull"
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		action = "push"
	}
	token, has := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	known, ok := r.Tokens.allows(token, repository, action)
	if ok {
		return true
	}
	realm := r.opts.Realm
	if realm == "" {
		realm = r.Tokens.URL + "/token"
	}
	challenge := fmt.Sprintf(`Bearer realm="%s",service="test"`, realm)
	if repository != "" {
		challenge += fmt.Sprintf(`,scope="repository:%s:%s"`, repository, action)
	}
	switch {
	case has && known:
		challenge += `,error="insufficient_scope"`
	case has:
		challenge += `,error="invalid_token"`
	}
	w.Header().Set("WWW-Authenticate", challenge)
	deny(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	return false
}

// repositoryOf returns the repository in a path of the API, empty for none.
func repositoryOf(path string) string {
	rest, _ := strings.CutPrefix(path, "/v2/")
	for _, part := range []string{"/manifests/", "/blobs/", "/tags/"} {
		if name, _, ok := strings.Cut(rest, part); ok {
			return name
		}
	}
	return ""
}

func deny(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"errors": []any{map[string]any{"code": code, "message": message}}})
}
