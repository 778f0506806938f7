package server

import (
	"crypto/sha256"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tare-engine/tare/internal/plugin"
)

// judge is an authorization plugin.
type judge struct {
	mu       sync.Mutex
	requests []passage
	answers  []passage
	decide   func(p passage, answer bool) (allow bool, status int)
}

func (j *judge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/Plugin.Activate" {
		io.WriteString(w, `{"Implements":["authz"]}`)
		return
	}
	var p passage
	if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer := r.URL.Path == "/AuthZPlugin.AuthZRes"
	j.mu.Lock()
	if answer {
		j.answers = append(j.answers, p)
	} else {
		j.requests = append(j.requests, p)
	}
	j.mu.Unlock()
	allow, status := j.decide(p, answer)
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"Allow": allow, "Msg": "because"})
}

func (j *judge) last(t *testing.T, answer bool) passage {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	list := j.requests
	if answer {
		list = j.answers
	}
	if len(list) == 0 {
		t.Fatal("the plugin was not asked")
	}
	return list[len(list)-1]
}

// judged serves f under a plugin, whose socket it also returns.
func judged(t *testing.T, f *fake, decide func(p passage, answer bool) (bool, int)) (*judge, *http.Client, string, *http.Server) {
	t.Helper()
	dir := t.TempDir()
	j := &judge{decide: decide}
	l, err := net.Listen("unix", filepath.Join(dir, "judge.sock"))
	if err != nil {
		t.Fatal(err)
	}
	court := &http.Server{Handler: j}
	go court.Serve(l)
	t.Cleanup(func() { court.Close() })
	authz := NewAuthorization(&plugin.Finder{Sockets: dir})
	if err := authz.Check(t.Context(), []string{"nobody"}); err == nil || !strings.Contains(err.Error(), `authorization plugin nobody: plugin "nobody" not found`) {
		t.Errorf("a plugin that is not there: %v", err)
	}
	authz.Set([]string{"judge"})
	if err := authz.Check(t.Context(), []string{"judge"}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	sl, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, sl, f, Config{Version: "0.1", Log: discard, Authorization: authz})
	return j, unixClient(t, path), path, court
}

func allowAll(passage, bool) (bool, int) { return true, 200 }

func TestPluginsSeeWhatTheHandlerReads(t *testing.T) {
	f := &fake{}
	j, c, path, _ := judged(t, f, allowAll)
	// Larger than what Docker shows, and in chunks: both are shown.
	body := `{"Image":"img","Env":["A=` + strings.Repeat("x", 3<<20) + `"]}`
	req, err := http.NewRequest("POST", "http://docker/v1.44/containers/create", io.MultiReader(strings.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Registry-Auth", "secret")
	req.Header.Set("Authorization", "secret")
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	seen := j.last(t, false)
	f.mu.Lock()
	got := f.created.Env
	f.mu.Unlock()
	if res.StatusCode != 201 || sha256.Sum256(seen.RequestBody) != sha256.Sum256([]byte(body)) || len(got) != 1 || len(got[0]) != 3<<20+2 {
		t.Errorf("status %d, the plugin saw %d bytes of %d, the handler %d", res.StatusCode, len(seen.RequestBody), len(body), len(got))
	}
	if seen.RequestMethod != "POST" || seen.RequestURI != "/v1.44/containers/create" || seen.RequestHeaders["X-Registry-Auth"] != "" || seen.RequestHeaders["Authorization"] != "" {
		t.Errorf("the plugin saw %s %s %v", seen.RequestMethod, seen.RequestURI, seen.RequestHeaders)
	}
	if a := j.last(t, true); a.ResponseStatusCode != 201 || !strings.Contains(string(a.ResponseBody), fakeID) || a.ResponseHeaders["Content-Type"] != "application/json" {
		t.Errorf("of the answer it saw %d %s %v", a.ResponseStatusCode, a.ResponseBody, a.ResponseHeaders)
	}
	do(t, c, "POST", "/auth", "application/json", `{"username":"u","password":"right"}`)
	if seen := j.last(t, false); seen.RequestURI != "/auth" || len(seen.RequestBody) > 0 || len(j.last(t, true).ResponseBody) > 0 {
		t.Errorf("credentials were shown: %s", seen.RequestBody)
	}
	for _, spelt := range []string{"/v1.44/%63ontainers/json?all=1", "http://evil/v1.44/containers/json?all=1"} {
		raw, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(raw, "GET "+spelt+" HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
		io.Copy(io.Discard, raw)
		raw.Close()
		if seen := j.last(t, false); seen.RequestURI != "/v1.44/containers/json?all=1" {
			t.Errorf("%s was shown as %s", spelt, seen.RequestURI)
		}
	}
	if res, _ := do(t, c, "POST", "/containers/create", "application/json", `{"Image":"`+strings.Repeat("x", maxBody)+`"}`); res.StatusCode != 413 {
		t.Errorf("a body beyond all bounds: %d", res.StatusCode)
	}
}

func TestPluginsDeny(t *testing.T) {
	f := &fake{}
	_, c, path, court := judged(t, f, func(p passage, answer bool) (bool, int) {
		switch {
		case strings.Contains(p.RequestURI, "broken"):
			return true, 500
		case answer:
			return !strings.HasSuffix(p.RequestURI, "deny-answer"), 200
		}
		return !strings.Contains(p.RequestURI, "deny=1"), 200
	})
	for target, want := range map[string]struct {
		status int
		text   string
	}{
		"/containers/secret/json?deny=1": {403, "authorization denied by plugin judge: because"},
		"/containers/json?deny-answer":   {403, "authorization denied by plugin judge: because"},
		"/events?until=1&deny-answer":    {403, "authorization denied by plugin judge: because"},
		"/containers/c1/export?":         {200, "files"},
		"/containers/json?broken":        {503, "plugin judge failed with error: AuthZPlugin.AuthZReq: "},
		"/no/such/page?deny=1":           {403, "denied"},
		"/containers/json?":              {200, "["},
		"/events?until=1":                {200, `"start"`},
		"/containers/nosuch/json?":       {404, "No such container"},
	} {
		res, body := do(t, c, "GET", target, "", "")
		if res.StatusCode != want.status || !strings.Contains(body, want.text) || want.status == 403 && strings.Contains(body, "start") {
			t.Errorf("%s: %d %s", target, res.StatusCode, body)
		}
		if res.Header.Get("Api-Version") == "" {
			t.Errorf("%s: headers %v", target, res.Header)
		}
	}
	f.mu.Lock()
	if calls := strings.Join(f.calls, ","); strings.Contains(calls, "secret") || !strings.Contains(calls, "nosuch") {
		t.Errorf("the engine was asked: %s", calls)
	}
	f.mu.Unlock()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	b := make([]byte, 12)
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != "HTTP/1.1 403" {
		t.Errorf("HTTP/2: %q, %v", b, err)
	}
	court.Close() // without a plugin nothing passes
	if res, body := do(t, c, "GET", "/_ping", "", ""); res.StatusCode != 503 || !strings.Contains(body, "plugin judge failed with error") {
		t.Errorf("without the plugin: %d %s", res.StatusCode, body)
	}
}

func TestPluginsAndConnectionsThatAreTakenOver(t *testing.T) {
	f := &fake{tty: true}
	j, _, path, _ := judged(t, f, func(p passage, answer bool) (bool, int) {
		return !answer || !strings.Contains(p.RequestURI, "deny-answer"), 200
	})
	attach := func(query string) string {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "POST /containers/c1/attach?stream=1&stdout=1&"+query+" HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nUser-Agent: Docker-Client/1\r\n\r\nhello")
		conn.(*net.UnixConn).CloseWrite()
		b, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := attach("x"); !strings.HasPrefix(got, "HTTP/1.1 101 UPGRADED\r\n") || !strings.HasSuffix(got, "\r\n\r\nhello") {
		t.Errorf("allowed: %q", got)
	}
	if a := j.last(t, true); a.ResponseStatusCode != 101 {
		t.Errorf("it saw %+v", a)
	}
	if got := attach("deny-answer"); !strings.HasPrefix(got, "HTTP/1.1 403 ") || strings.Contains(got, "hello") || strings.Contains(got, "Upgrade") {
		t.Errorf("denied: %q", got)
	}
}
