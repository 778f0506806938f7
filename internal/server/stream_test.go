package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tare-engine/tare/api"
)

// upgrade sends a request that takes the connection over and returns the
// answer's header and the connection.
func upgrade(t *testing.T, path, target, header, body string) (*http.Response, *bufio.Reader, *net.UnixConn) {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, "POST "+target+" HTTP/1.1\r\nHost: docker\r\n"+header+"\r\n"+body); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return res, r, c.(*net.UnixConn)
}

const upgradeHeader = "Connection: Upgrade\r\nUpgrade: tcp\r\n"

func TestAttachTakesTheConnectionOver(t *testing.T) {
	tests := []struct {
		name, target, header string
		tty                  bool
		status               int
		contentType          string
	}{
		{"frames", "/v1.42/containers/c1/attach?stream=1", upgradeHeader, false, 101, "application/vnd.docker.multiplexed-stream"},
		{"frames before 1.42", "/v1.41/containers/c1/attach?stream=1", upgradeHeader, false, 101, "application/vnd.docker.raw-stream"},
		{"terminal", "/containers/c1/attach?stream=1", upgradeHeader, true, 101, "application/vnd.docker.raw-stream"},
		{"no upgrade", "/containers/c1/attach?stream=1", "", false, 200, "application/vnd.docker.raw-stream"},
	}
	for _, tt := range tests {
		f := &fake{tty: tt.tty}
		// "early" comes in the same packet as the request.
		res, r, c := upgrade(t, newServer(t, f), tt.target, tt.header, "early ")
		if res.StatusCode != tt.status || res.Header.Get("Content-Type") != tt.contentType || res.Header.Get("Api-Version") == "" {
			t.Errorf("%s: %d %v", tt.name, res.StatusCode, res.Header)
		}
		if up := res.Header.Get("Upgrade"); (up == "tcp") != (tt.status == 101) {
			t.Errorf("%s: Upgrade %q", tt.name, up)
		}
		_, _ = io.WriteString(c, "late")
		_ = c.CloseWrite()
		var out bytes.Buffer
		if tt.tty {
			_, _ = io.Copy(&out, r)
		} else if err := api.Demux(r, &out, &out, nil); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if out.String() != "early late" {
			t.Errorf("%s: echo %q", tt.name, out.String())
		}
	}
}

func TestExecStartTakesTheConnectionOver(t *testing.T) {
	body := `{"Tty":true,"ConsoleSize":[24,80]}`
	res, r, c := upgrade(t, newServer(t, &fake{tty: true}), "/v1.44/exec/e1/start", upgradeHeader+"Content-Type: application/json\r\nContent-Length: 34\r\n", body+"typed")
	_ = c.CloseWrite()
	if b, _ := io.ReadAll(r); res.StatusCode != 101 || string(b) != "typed" {
		t.Errorf("status %d, echo %q", res.StatusCode, b)
	}
}

// TestAttachIsNoBody: dockerode sends its options a second time, as a document.
func TestAttachIsNoBody(t *testing.T) {
	res, r, c := upgrade(t, newServer(t, &fake{tty: true}), "/v1.44/containers/c1/attach?stream=1", upgradeHeader+"Content-Type: application/json\r\nContent-Length: 15\r\n", `{"stream":true}typed`)
	_ = c.CloseWrite()
	if b, _ := io.ReadAll(r); res.StatusCode != 101 || string(b) != "typed" {
		t.Errorf("status %d, echo %q", res.StatusCode, b)
	}
}

func TestRunInOneRequest(t *testing.T) {
	f := &fake{}
	path := newServer(t, f)
	body, _ := json.Marshal(map[string]any{"Name": "c2", "Rootfs": "/", "Create": map[string]any{"Image": "img", "HostConfig": map[string]any{"AutoRemove": true}}, "Attach": map[string]any{"Stdout": true, "Stream": true}})
	header := "Content-Type: application/json\r\nContent-Length: " + itoa(len(body)) + "\r\n"
	res, r, _ := upgrade(t, path, api.RunPath, upgradeHeader+header, string(body))
	if res.StatusCode != 101 {
		t.Fatal(res.Status)
	}
	var out bytes.Buffer
	var seen []api.RunStatus
	if err := api.ReadRun(r, &out, &out, func(st api.RunStatus) error { seen = append(seen, st); return nil }); err != nil {
		t.Fatal(err)
	}
	if out.String() != "hello\n" || len(seen) != 2 || seen[0].ID != fakeID || seen[1].ExitCode == nil || *seen[1].ExitCode != 5 {
		t.Errorf("output %q, statuses %+v", out.String(), seen)
	}
	if f.run.Name != "c2" || f.run.Rootfs != "/" || !f.run.Create.HostConfig.AutoRemove || !f.run.Attach.Stdout || f.run.Attach.Stdin {
		t.Errorf("request %+v", f.run)
	}
	// What fails before there is a container is an ordinary answer.
	body = []byte(`{"Create":{"Image":"gone"}}`)
	res, _, _ = upgrade(t, path, api.RunPath, upgradeHeader+"Content-Type: application/json\r\nContent-Length: "+itoa(len(body))+"\r\n", string(body))
	if res.StatusCode != 404 {
		t.Error(res.Status)
	}
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestWaitHeaderComesAtOnce(t *testing.T) {
	f := &fake{waitGo: make(chan struct{})}
	c := unixClient(t, newServer(t, f))
	res, err := c.Post("http://docker/v1.30/containers/c1/wait?condition=next-exit", "", nil) // returns with the header
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	close(f.waitGo)
	if b, _ := io.ReadAll(res.Body); string(b) != `{"StatusCode":3}`+"\n" {
		t.Errorf("answer %q", b)
	}
	if f.calls[0] != "wait next-exit c1" {
		t.Errorf("calls %q", f.calls)
	}
}

func TestWaitOfOldClientsKnowsOneCondition(t *testing.T) {
	f := &fake{waitGo: make(chan struct{})}
	close(f.waitGo)
	c := unixClient(t, newServer(t, f))
	if res, body := do(t, c, "POST", "/v1.29/containers/c1/wait?condition=removed", "", ""); res.StatusCode != 200 || body != `{"StatusCode":3}`+"\n" {
		t.Errorf("%d %q", res.StatusCode, body)
	}
	if f.calls[0] != "wait not-running c1" {
		t.Errorf("calls %q", f.calls)
	}
}

func TestLogs(t *testing.T) {
	f := &fake{}
	c := unixClient(t, newServer(t, f))
	res, body := do(t, c, "GET", "/containers/c1/logs?stdout=1&stderr=true&since=10.5&until=20&tail=5&timestamps=1&details=0", "", "")
	var out, errs bytes.Buffer
	if err := api.Demux(strings.NewReader(body), &out, &errs, nil); err != nil || out.String() != "out\n" || errs.String() != "err\n" {
		t.Errorf("%q (%v)", body, err)
	}
	if ct := res.Header.Get("Content-Type"); ct != "application/vnd.docker.multiplexed-stream" {
		t.Error(ct)
	}
	want := api.LogsOptions{Since: time.Unix(10, 5e8), Until: time.Unix(20, 0), Tail: "5", Stdout: true, Stderr: true, Timestamps: true}
	if f.logs != want {
		t.Errorf("asked for %+v, want %+v", f.logs, want)
	}
	// What goes wrong behind the first line comes in the stream.
	_, body = do(t, c, "GET", "/containers/c1/logs?stdout=1&tail=1", "", "")
	if err := api.Demux(strings.NewReader(body), io.Discard, io.Discard, nil); err == nil || !strings.Contains(err.Error(), "the log is damaged") {
		t.Errorf("error %v", err)
	}
}

func TestFollowedLogsComeAtOnceAndEndWithTheClient(t *testing.T) {
	path := newServer(t, &fake{})
	before := runtime.NumGoroutine()
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://docker/containers/c1/logs?stdout=1&follow=1", nil)
		c := unixClient(t, path)
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(res.Body, make([]byte, api.HeaderLen+4)); err != nil {
			t.Fatal(err)
		}
		cancel()
		_ = res.Body.Close()
		c.CloseIdleConnections()
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

func TestShutdownEndsStreams(t *testing.T) {
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	s := New(&fake{}, Config{})
	go func() { _ = s.Serve(l) }()
	res, err := unixClient(t, l.Addr().String()).Get("http://docker/events")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if b, err := io.ReadAll(res.Body); err != nil || !strings.Contains(string(b), `"Action":"start"`) {
		t.Errorf("%q, %v", b, err)
	}
}

// flooded is a connection to a server of that patience, which
// was asked for a flood of events.
func flooded(t *testing.T, f *fake, patience time.Duration) net.Conn {
	t.Helper()
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, f, Config{Patience: patience})
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, "GET /events?until=1 HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestReaderThatStopsIsCut(t *testing.T) {
	f := &fake{flood: 1 << 30}
	c := flooded(t, f, 50*time.Millisecond)
	if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); f.ended.Load() == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a client that does not read holds its request for ever")
		}
	}
	if _, err := io.Copy(io.Discard, c); err != nil { // what was sent, then the end
		t.Log(err)
	}
}

func TestSlowReaderGetsEverything(t *testing.T) {
	const patience = 400 * time.Millisecond
	f := &fake{flood: 6000} // 1.3 MB
	res, err := http.ReadResponse(bufio.NewReaderSize(&slowReader{flooded(t, f, patience), patience / 20}, 16<<10), nil)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	b, err := io.ReadAll(res.Body)
	if n := bytes.Count(b, []byte("\n")); err != nil || n != f.flood {
		t.Errorf("%d of %d events in %v, %v", n, f.flood, time.Since(began), err)
	}
	if time.Since(began) < patience {
		t.Errorf("read in %v, which proves nothing", time.Since(began))
	}
}

// slowReader takes 16 KB at a time.
type slowReader struct {
	io.Reader
	pause time.Duration
}

func (s *slowReader) Read(b []byte) (int, error) {
	time.Sleep(s.pause) // its slowness
	return s.Reader.Read(b[:min(len(b), 16<<10)])
}

func TestEventsSpeakTheTypeAskedFor(t *testing.T) {
	c := unixClient(t, newServer(t, &fake{}))
	tests := []struct{ version, accept, want, prefix string }{
		{"1.56", "", "application/json", "{"},
		{"1.56", "application/json-seq", "application/json-seq", "\x1e{"},
		{"1.56", "text/html, application/jsonl;q=0.9", "application/jsonl", "{"},
		{"1.56", "application/jsonl;q=0, application/x-ndjson", "application/x-ndjson", "{"},
		{"1.52", "application/jsonl", "application/json", "{"},
		{"1.51", "application/json-seq", "application/json", `{"status":"start","id":"` + fakeID + `","from":"img"`},
	}
	for _, tt := range tests {
		req, _ := http.NewRequest("GET", "http://docker/v"+tt.version+"/events?until=1", nil)
		req.Header.Set("Accept", tt.accept)
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if got := res.Header.Get("Content-Type"); got != tt.want || !bytes.HasPrefix(b, []byte(tt.prefix)) || !bytes.HasSuffix(b, []byte("}\n")) {
			t.Errorf("%s %q: %s %q", tt.version, tt.accept, got, b)
		}
	}
}

// TestLastDescriptorsGoToTheAnswer runs with few descriptors in a process of
// its own.
func TestLastDescriptorsGoToTheAnswer(t *testing.T) {
	if os.Getenv("FEW_DESCRIPTORS") == "" {
		inChild(t, "FEW_DESCRIPTORS=1")
		return
	}
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, &fake{}, Config{MaxConns: 1 << 20})
	path := l.Addr().String()
	client, err := net.Dial("unix", path) // the client's end, while there are descriptors
	if err != nil {
		t.Fatal(err)
	}
	answer := func(c net.Conn) string {
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = io.WriteString(c, "GET /_ping HTTP/1.1\r\nHost: a\r\n\r\n")
		line, _ := bufio.NewReader(c).ReadString('\n')
		return line
	}
	if got := answer(client); !strings.Contains(got, "200") {
		t.Fatalf("with descriptors: %q", got)
	}
	release := eatDescriptors(t)
	late, err := dialWithLast(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := answer(late); !strings.Contains(got, "503") {
		t.Errorf("without descriptors: %q", got)
	}
	release()
	fine, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if got := answer(fine); !strings.Contains(got, "200") {
		t.Errorf("with descriptors again: %q", got)
	}
}
