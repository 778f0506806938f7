//go:build root

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestManyClients: many clients at once get right answers; those that do not read
// cost little and make nobody wait; those that vanish leave nothing.
func TestManyClients(t *testing.T) {
	e := newEngine(t)
	n := counted("TARE_SOAK_CLIENTS", 100)
	e.must("run", "-d", "--name", "counted", "--network", "none", "--rootfs", e.path("root"), "/probe", "sleep")
	t.Run("busy", func(t *testing.T) {
		defer row(t, "clients at once, ten operations each", n)
		testBusyClients(t, e, n)
	})
	t.Run("silent", func(t *testing.T) {
		defer row(t, "clients of events, logs, attach and stats that do not read", n)
		testSilentClients(t, e, n)
	})
	t.Run("vanishing", func(t *testing.T) {
		defer row(t, "clients that vanish", n)
		testVanishingClients(t, e, n)
	})
}

// testBusyClients has each client make, run and remove a container and a volume, and
// ask for what is there and what is not.
func testBusyClients(t *testing.T, e *engine, n int) {
	var all sync.WaitGroup
	var mu sync.Mutex
	var lists []time.Duration
	for i := range n {
		all.Go(func() {
			c := e.client()
			defer c.CloseIdleConnections()
			name := fmt.Sprintf("load-%d", i)
			root := url.QueryEscape(e.path("root"))
			for _, op := range []struct {
				method, path, body string
				want               int
			}{
				{"POST", "/containers/create?name=" + name + "&rootfs=" + root, `{"Cmd":["/probe","true"],"HostConfig":{"NetworkMode":"none"}}`, 201},
				{"POST", "/containers/" + name + "/start", "", 204},
				{"GET", "/containers/json?all=1", "", 200},
				{"POST", "/containers/" + name + "/wait", "", 200},
				{"GET", "/containers/" + name + "/json", "", 200},
				{"POST", "/volumes/create", `{"Name":"` + name + `"}`, 201},
				{"GET", "/containers/" + name + "-nosuch/json", "", 404},
				{"GET", "/containers/" + name + "/logs?stdout=1", "", 200},
				{"DELETE", "/volumes/" + name, "", 204},
				{"DELETE", "/containers/" + name, "", 204},
			} {
				began := time.Now()
				status, answer, err := ask(c, op.method, op.path, op.body)
				if status != op.want {
					t.Errorf("%s %s: %d, want %d: %v %.200s", op.method, op.path, status, op.want, err, answer)
					return
				}
				if strings.HasSuffix(op.path, "all=1") {
					mu.Lock()
					lists = append(lists, time.Since(began))
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	if len(lists) > 0 {
		slices.Sort(lists)
		t.Logf("%d lists of all containers under load: median %s, p99 %s", len(lists), lists[len(lists)/2], lists[len(lists)*99/100])
	}
	if out := e.must("ps", "-aq"); strings.Count(out, "\n") != 0 {
		t.Errorf("containers left:\n%s", out)
	}
}

// testSilentClients: each asks for a stream that does not end, and never reads it.
// There is more in each than a socket holds.
func testSilentClients(t *testing.T, e *engine, n int) {
	const each = 90 // a container may have a hundred clients
	for i := range n/4/each + 1 {
		e.must("run", "-d", "--name", fmt.Sprintf("told-%d", i), "--network", "none", "--rootfs", e.path("root"), "/probe", "tell", "4096", "sleep")
	}
	for i := range n/4/each + 1 {
		e.await(t, "the last line", "logs", "--tail", "1", fmt.Sprintf("told-%d", i))
	}
	before := e.memory(t)
	conns := make([]net.Conn, n)
	for i := range conns {
		told := fmt.Sprintf("told-%d", i/4/each)
		line := []string{
			"GET /events?since=1", "GET /containers/" + told + "/logs?stdout=1&stderr=1&follow=1",
			"POST /containers/" + told + "/attach?logs=1&stream=1&stdout=1&stderr=1", "GET /containers/" + told + "/stats",
		}[i%4]
		conns[i] = e.stream(t, line)
		defer conns[i].Close()
	}
	// Events that nobody takes: more than are kept for those who are behind.
	c := e.client()
	defer c.CloseIdleConnections()
	for i := range 1200 {
		for _, op := range []string{"POST /volumes/create", "DELETE /volumes/silent"} {
			method, path, _ := strings.Cut(op, " ")
			if status, answer, err := ask(c, method, path, `{"Name":"silent"}`); status >= 300 {
				t.Fatalf("%s %d: %d %v %s", op, i, status, err, answer)
			}
		}
	}
	answered(t, e, "counted")
	if out := e.must("logs", "--tail", "1", "told-0"); out != "the last line" {
		t.Errorf("the log ends with %q", out)
	}
	grown := e.memory(t) - before
	t.Logf("%d silent clients: %d KB more of memory", n, grown)
	if bound := 30<<10 + n*70; grown > bound { // 100 MB for a thousand
		t.Errorf("%d KB more of memory, more than %d", grown, bound)
	}
	for _, c := range conns {
		c.Close()
	}
	for i := range n/4/each + 1 {
		e.must("rm", "-f", fmt.Sprintf("told-%d", i))
	}
}

// testVanishingClients: each goes in the middle of something.
func testVanishingClients(t *testing.T, e *engine, n int) {
	e.must("run", "-d", "--name", "speaker", "--network", "none", "--rootfs", e.path("root"), "/probe", "speak")
	vanish := func(n int) {
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				conn, err := net.Dial("unix", e.path("run/tared.sock"))
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				request, answers := e.unfinished(t, i)
				if _, err := io.WriteString(conn, request); err != nil {
					t.Errorf("%q: %v", request, err)
				}
				if answers {
					conn.SetReadDeadline(time.Now().Add(time.Minute))
					if _, err := conn.Read(make([]byte, 1)); err != nil {
						t.Errorf("%q: %v", request, err)
					}
				}
			})
		}
		all.Wait()
	}
	vanish(2 * unfinishedKinds) // what is made once and kept
	before := e.traces(t)
	vanish(n)
	var after map[string]int
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		after = e.traces(t)
		var more []string
		for kind, was := range before {
			// A few: what Go keeps, and what is under way.
			if few := map[string]int{"descriptors": 8, "goroutines": 8}[kind]; after[kind] > was+few {
				more = append(more, fmt.Sprintf("%s: %d before, %d after", kind, was, after[kind]))
			}
		}
		if len(more) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal(strings.Join(more, "; "))
		}
	}
	t.Logf("before %v, after %v", before, after)
	answered(t, e, "counted")
	e.must("rm", "-f", "speaker")
}

const unfinishedKinds = 8

// unfinished is a request after which its client goes, and whether it waits for the
// beginning of the answer.
func (e *engine) unfinished(t *testing.T, i int) (request string, answers bool) {
	const rest = " HTTP/1.1\r\nHost: tare\r\n\r\n"
	switch i % unfinishedKinds {
	case 0:
		return "GET /containers/json HTTP/1.1\r\nHo", false
	case 1:
		return "POST /containers/create HTTP/1.1\r\nHost: tare\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{\"Cmd\":", false
	case 2:
		return "GET /events" + rest, true
	case 3:
		return "GET /containers/speaker/logs?stdout=1&follow=1" + rest, true
	case 4:
		return "GET /containers/speaker/stats" + rest, true
	case 5:
		return "POST /containers/counted/wait" + rest, false
	case 6:
		return "POST /containers/speaker/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: tare\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", true
	}
	c := e.client()
	defer c.CloseIdleConnections()
	_, answer, err := ask(c, "POST", "/containers/speaker/exec", `{"Cmd":["/probe","true"],"AttachStdout":true}`)
	var made struct{ ID string }
	if json.Unmarshal(answer, &made) != nil || made.ID == "" {
		t.Errorf("exec: %v %s", err, answer)
	}
	return "POST /exec/" + made.ID + "/start HTTP/1.1\r\nHost: tare\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", true
}

// traces is what clients may leave: of the engine and of its keeper.
func (e *engine) traces(t *testing.T) map[string]int {
	t.Helper()
	var info struct{ NGoroutines int }
	c := e.client()
	defer c.CloseIdleConnections()
	if _, answer, err := ask(c, "GET", "/info", ""); json.Unmarshal(answer, &info) != nil {
		t.Fatal(err)
	}
	n := e.left()
	n["goroutines"] = info.NGoroutines
	n["processes"] = strings.Count(e.must("top", "speaker", "-o", "pid"), "\n")
	return n
}

// memory is that of the engine and its keeper, in KB.
func (e *engine) memory(t *testing.T) (kb int) {
	t.Helper()
	for _, pid := range append(keepers(e.path("run")), e.tared.Process.Pid) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), "VmRSS:")
		n := 0
		if _, err := fmt.Sscan(rest, &n); err != nil {
			t.Fatal(err)
		}
		kb += n
	}
	return kb
}

// stream asks for a stream, and returns once its answer has begun.
func (e *engine) stream(t *testing.T, line string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", e.path("run/tared.sock"))
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: tare\r\nUser-Agent: Tare-Client/test\r\n\r\n", line)
	b := make([]byte, 12)
	if _, err := io.ReadFull(conn, b); err != nil || !strings.HasSuffix(string(b), " 200") {
		t.Fatalf("%s: %v %q", line, err, b)
	}
	return conn
}

func (e *engine) client() *http.Client {
	return &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", e.path("run/tared.sock"))
	}}}
}

func ask(c *http.Client, method, path, body string) (status int, answer []byte, err error) {
	r, err := http.NewRequest(method, "http://tare"+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}
