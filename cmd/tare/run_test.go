//go:build linux

package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/tare-engine/tare/api"
)

// hijackRun turns a request for a run into its stream and gives it to f.
func hijackRun(t *testing.T, w http.ResponseWriter, r *http.Request, f func(req api.RunRequest, stdin io.Reader, out io.Writer)) {
	var req api.RunRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		t.Error(err)
	}
	conn, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	f(req, buffered, conn)
}

func ended(out io.Writer, code int) {
	api.WriteRunStatus(out, api.RunStatus{ID: "c0ffee", ExitCode: &code})
}

func TestRunAtOnce(t *testing.T) {
	e := newFakeEngine(t)
	e.handle["POST "+api.RunPath] = func(w http.ResponseWriter, r *http.Request) {
		hijackRun(t, w, r, func(req api.RunRequest, stdin io.Reader, out io.Writer) {
			api.WriteRunStatus(out, api.RunStatus{ID: "c0ffee", Warnings: []string{"careful"}})
			io.WriteString(api.NewFrameWriter(out, api.Stderr), "to stderr\n")
			io.Copy(api.NewFrameWriter(out, api.Stdout), stdin)
			ended(out, len(req.Create.Cmd))
		})
	}
	got := tare(t, e.host, "hi\n", "run", "-i", "--rm", "busybox", "a", "b", "c")
	want := result{"hi\n", "WARNING: careful\nto stderr\n", 3}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if len(e.requests) != 1 {
		t.Errorf("requests: %q, want one", e.requests)
	}
}

func TestRunTellsWhyItDidNotStart(t *testing.T) {
	for text, code := range map[string]int{
		`exec: "x": executable file not found in $PATH`: 127,
		`exec: "/etc": permission denied`:               126,
		"out of addresses":                              125,
	} {
		e := newFakeEngine(t)
		e.handle["POST "+api.RunPath] = func(w http.ResponseWriter, r *http.Request) {
			hijackRun(t, w, r, func(_ api.RunRequest, _ io.Reader, out io.Writer) {
				api.WriteRunStatus(out, api.RunStatus{ID: "c0ffee"})
				api.WriteRunStatus(out, api.RunStatus{ID: "c0ffee", Error: text})
			})
		}
		got := tare(t, e.host, "", "run", "busybox")
		want := result{"", "tare: Error response from daemon: " + text + "\n\nRun 'tare run --help' for more information\n", code}
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestRunPullsWhatIsMissing(t *testing.T) {
	e := newFakeEngine(t)
	e.handle["POST "+api.RunPath] = func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusNotFound, "No such image: x:latest")
	}
	e.handle["POST /images/create"] = func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotImplemented, "no registry for "+r.FormValue("fromImage")+":"+r.FormValue("tag"))
	}
	got := tare(t, e.host, "", "run", "x")
	want := "Unable to find image 'x:latest' locally\ntare: Error response from daemon: no registry for x:latest\n\nRun 'tare run --help' for more information\n"
	if got.code != 125 || got.err != want {
		t.Errorf("got %+v, want %q", got, want)
	}
	if got := tare(t, e.host, "", "run", "--pull", "never", "x"); got.code != 125 || strings.Contains(got.err, "Unable to find") {
		t.Errorf("--pull never: %+v", got)
	}
}

// TestRunOutlivesTheEngine ends the stream without an exit code, as an engine
// does that is killed; the next engine knows the code.
func TestRunOutlivesTheEngine(t *testing.T) {
	e := newFakeEngine(t)
	e.handle["POST "+api.RunPath] = func(w http.ResponseWriter, r *http.Request) {
		hijackRun(t, w, r, func(_ api.RunRequest, _ io.Reader, out io.Writer) {
			api.WriteRunStatus(out, api.RunStatus{ID: "c0ffee"})
		})
	}
	e.answer("POST /containers/c0ffee/wait", map[string]any{"StatusCode": 42})
	if got := tare(t, e.host, "", "run", "busybox"); got.code != 42 {
		t.Errorf("got %+v, want code 42", got)
	}
}

// stepsEngine answers Docker's four requests of a run: its process echoes its
// input in capitals and exits with code 7.
func stepsEngine(t *testing.T) *fakeEngine {
	e := newFakeEngine(t)
	const id = "0123456789abcdef"
	done := make(chan struct{})
	e.handle["POST /containers/"+id+"/attach"] = func(w http.ResponseWriter, r *http.Request) {
		conn, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		go func() {
			defer close(done)
			defer conn.Close()
			text, _ := io.ReadAll(buffered)
			io.WriteString(api.NewFrameWriter(conn, api.Stdout), strings.ToUpper(string(text)))
		}()
	}
	e.handle["POST /containers/"+id+"/wait"] = func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-done
		io.WriteString(w, `{"StatusCode":7}`)
	}
	e.handle["POST /containers/"+id+"/start"] = func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) }
	return e
}

func TestRunInSteps(t *testing.T) {
	e := stepsEngine(t)
	got := tare(t, e.host, "hi\n", "run", "-i", "busybox", "cat")
	if want := (result{"HI\n", "", 7}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	var steps []string
	for _, r := range e.requests {
		steps = append(steps, r[strings.LastIndexByte(r, '/')+1:])
	}
	if got := strings.Join(steps, " "); got != "run create attach wait start" {
		t.Errorf("steps: %s", got)
	}
}

func TestDetachedRunPrintsTheID(t *testing.T) {
	e := stepsEngine(t)
	if got, want := tare(t, e.host, "", "run", "-d", "busybox"), (result{"0123456789abcdef\n", "", 0}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestTerminalIsSaneAfterDetach types the detach keys into a real terminal.
func TestTerminalIsSaneAfterDetach(t *testing.T) {
	e := stepsEngine(t)
	const id = "0123456789abcdef"
	typed, over := make(chan string, 1), make(chan struct{})
	t.Cleanup(func() { close(over) })
	e.handle["POST /containers/"+id+"/attach"] = func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nready")
		go func() {
			defer conn.Close()
			text, _ := io.ReadAll(conn)
			typed <- string(text)
		}()
	}
	e.handle["POST /containers/"+id+"/wait"] = func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-over // the process goes on
	}
	t.Setenv("TARE_HOST", e.host)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	before := modes(t, slave)
	code := make(chan int, 1)
	go func() { code <- execute([]string{"run", "-it", "busybox"}, slave, slave, slave) }()
	buf := make([]byte, 64)
	if n, err := master.Read(buf); err != nil || string(buf[:n]) != "ready" {
		t.Fatalf("read %q, %v", buf[:n], err)
	}
	if modes(t, slave) == before {
		t.Error("the terminal is not in raw mode")
	}
	io.WriteString(master, "a\x10b\x10\x11")
	select {
	case c := <-code:
		if c != 0 {
			t.Errorf("exit code %d", c)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the detach keys did not detach")
	}
	if got := <-typed; got != "a\x10b" {
		t.Errorf("the process got %q", got)
	}
	if modes(t, slave) != before {
		t.Error("the terminal was not put back")
	}
}

func modes(t *testing.T, f *os.File) syscall.Termios {
	t.Helper()
	var m syscall.Termios
	if err := termios(f, &m); err != nil {
		t.Fatal(err)
	}
	return m
}
