//go:build root

package script

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestBadRequests sends the requests of testdata/requests, which are all wrong in
// some way. Each is refused with the status and in the words that stand there, and
// leaves everything as it was.
func TestBadRequests(t *testing.T) {
	e := startTared(t)
	cases := readRequests(t)
	if len(cases) < 500 {
		t.Errorf("%d requests, not 500", len(cases))
	}
	e.refuses(t, cases)
}

// TestBadRequestsReference asks Debian's dockerd: where it is not the client's
// fault in its eyes, or it takes what is wrong, the answer of ours is our own.
func TestBadRequestsReference(t *testing.T) {
	if os.Getenv("TARE_REFERENCE") == "" {
		t.Skip("runs with make reference-test")
	}
	e := startDockerd(t)
	names := e.furnish(t)
	same, other := 0, 0
	for _, c := range readRequests(t) {
		if c.slow() { // dockerd waits for minutes
			continue
		}
		got := e.ask(t, c.named(names))
		if c.matches(got) {
			same++
			continue
		}
		other++
		t.Logf("%s: %s\n  here: %s\n  dockerd: %s", c.at, c.line, c.want, got)
		e.tidy(names)
	}
	t.Logf("%d answers are the same, %d differ", same, other)
	e.tidy(nil)
}

// patient is how long an answer may take before it counts as missing.
const patient = 60 * time.Second

func (e *engine) refuses(t *testing.T, cases []badRequest) {
	names := e.furnish(t)
	defer e.tidy(nil)
	before, slowest, slow := e.inventory(t), time.Duration(0), ""
	ask := func(c badRequest) {
		if got := e.ask(t, c.named(names)); !c.matches(got) {
			t.Errorf("%s: %s\n want %s\n  got %s", c.at, c.line, c.want, got)
		}
	}
	var slowly sync.WaitGroup
	defer slowly.Wait()
	for _, c := range cases {
		if c.slow() {
			slowly.Go(func() { ask(c) })
			continue
		}
		began := time.Now()
		ask(c)
		if took := time.Since(began); took > slowest {
			slowest, slow = took, c.line
		}
		// What is taken away in the background is gone soon.
		after := e.inventory(t)
		for end := time.Now().Add(patience); after != before && time.Now().Before(end) && e.transient(t, before, after); after = e.inventory(t) {
			time.Sleep(10 * time.Millisecond)
		}
		if after != before {
			t.Errorf("%s: %s\nchanged -before +after:\n%s", c.at, c.line, cmp.Diff(before, after))
			before = after
		}
	}
	t.Logf("%d requests; the slowest answer took %s: %.200s", len(cases), slowest, slow)
}

// transient reports whether objects are as before and only files or mounts differ.
func (e *engine) transient(t *testing.T, before, after string) bool {
	t.Helper()
	objects := func(s string) string { o, _, _ := strings.Cut(s, "\nfiles"); return o }
	return objects(before) == objects(after)
}

// furnish makes what the requests name, and returns their ids by name.
func (e *engine) furnish(t *testing.T) *strings.Replacer {
	t.Helper()
	e.docker = dockerCLI(t)
	e.load(t, "busybox.tar")
	e.output(t, "volume", "create", "vol")
	e.output(t, "network", "create", "--subnet", "10.77.0.0/24", "net")
	e.output(t, "network", "create", "free")
	running := e.output(t, "run", "-d", "--name", "running", "--network", "net", "-v", "vol:/vol", "-p", "127.0.0.1:18977:80", "busybox", "sleep", "100000")
	terminal := e.output(t, "run", "-d", "-t", "--name", "terminal", "busybox", "sleep", "100000")
	paused := e.output(t, "run", "-d", "--name", "paused", "busybox", "sleep", "100000")
	e.output(t, "pause", "paused")
	created := e.output(t, "create", "--name", "created", "busybox", "true")
	exited := e.output(t, "run", "-d", "--name", "exited", "busybox", "true")
	e.output(t, "wait", "exited")
	nologs := e.output(t, "run", "-d", "--name", "nologs", "--log-driver", "none", "busybox", "sleep", "100000")
	e.output(t, "tag", "busybox", "other:tag")
	// The first build makes the place where builds are kept.
	e.ask(t, badRequest{line: `POST /build @tar {"Dockerfile":"FROM nosuch:UPPER"}`}.named(strings.NewReplacer()))
	execOf := func(container string) string {
		var made struct{ ID string }
		body := e.post(t, "/v1.40/containers/"+container+"/exec", `{"Cmd":["true"],"AttachStdout":true}`)
		if err := json.Unmarshal([]byte(body), &made); err != nil || made.ID == "" {
			t.Fatalf("exec: %v: %s", err, body)
		}
		return made.ID
	}
	fresh, ended := execOf("running"), execOf("running")
	e.post(t, "/v1.40/exec/"+ended+"/start", `{}`)
	image := e.output(t, "images", "-q", "--no-trunc", "busybox")
	return strings.NewReplacer(
		"$running", running, "$terminal", terminal, "$paused", paused, "$created", created, "$exited", exited, "$nologs", nologs,
		"$fresh", fresh, "$ended", ended, "$image", image, "$net", e.output(t, "network", "inspect", "-f", "{{.Id}}", "net"), "$socket", e.socket)
}

func (e *engine) post(t *testing.T, path, body string) string {
	t.Helper()
	resp, err := e.client().Post("http://engine"+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// client is one that does not keep connections.
func (e *engine) client() *http.Client {
	return &http.Client{Timeout: patient, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", e.socket)
	}}}
}

// tidy takes away what furnish made; with names, only what a request has made beside it.
func (e *engine) tidy(names *strings.Replacer) {
	run := func(args ...string) []string {
		out, _ := exec.Command(e.docker, append([]string{"-H", "unix://" + e.socket}, args...)...).Output()
		return strings.Fields(string(out))
	}
	kept := func(name string) bool { return false }
	if names != nil {
		kept = func(name string) bool { return slices.Contains(furniture, name) || strings.Contains(name, "busybox") }
	}
	for _, kind := range []struct{ list, remove []string }{
		{[]string{"ps", "-a", "--format", "{{.Names}}"}, []string{"rm", "-f"}},
		{[]string{"network", "ls", "--format", "{{.Name}}"}, []string{"network", "rm"}},
		{[]string{"volume", "ls", "--format", "{{.Name}}"}, []string{"volume", "rm"}},
		{[]string{"images", "--format", "{{.Repository}}:{{.Tag}}"}, []string{"rmi", "-f"}},
	} {
		for _, name := range run(kind.list...) {
			if !kept(name) && !slices.Contains([]string{"bridge", "host", "none"}, name) {
				run(append(kind.remove, name)...)
			}
		}
	}
}

var furniture = []string{"running", "terminal", "paused", "created", "exited", "nologs", "vol", "net", "free", "other:tag"}

// inventory lists what there is, in a form that may be compared: objects by the
// API, then files and mounts.
func (e *engine) inventory(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	list := func(path string, fields ...string) {
		var all []map[string]any
		body := e.get(t, path)
		var volumes struct{ Volumes []map[string]any }
		if err := json.Unmarshal([]byte(body), &all); err != nil {
			if err := json.Unmarshal([]byte(body), &volumes); err != nil {
				t.Fatalf("%s: %v: %s", path, err, body)
			}
			all = volumes.Volumes
		}
		var lines []string
		for _, o := range all {
			line := path
			for _, f := range fields {
				line += fmt.Sprintf(" %v", o[f])
			}
			lines = append(lines, line)
		}
		slices.Sort(lines)
		b.WriteString(strings.Join(lines, "\n") + "\n")
	}
	list("/containers/json?all=1", "Id", "Names", "State", "Image", "Labels", "Mounts")
	list("/images/json?all=1", "Id", "RepoTags", "Labels")
	list("/volumes", "Name", "Labels", "Options")
	list("/networks", "Id", "Name", "IPAM", "Labels")
	if e.reference {
		return b.String()
	}
	data := filepath.Join(filepath.Dir(e.socket), "data")
	for _, depth := range []string{"*", "*/*", "*/*/*"} {
		files, err := filepath.Glob(filepath.Join(data, depth))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "\nfiles %d", len(files))
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", e.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "\nmounts %d", bytes.Count(mounts, []byte("\n")))
	return b.String()
}

// ask sends a request and returns the status and what the answer says.
func (e *engine) ask(t *testing.T, c badRequest) string {
	t.Helper()
	conn, err := net.Dial("unix", e.socket)
	if err != nil {
		t.Fatalf("%s: the engine has gone: %v", c.line, err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patient))
	sent := make(chan bool)
	go func() { // the answer may come before all is sent
		defer close(sent)
		conn.Write(c.bytes)
		if c.cut {
			conn.(*net.UnixConn).CloseWrite()
		}
	}()
	defer func() { conn.Close(); <-sent }()
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: c.method})
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "closed"
	}
	if err != nil {
		return fmt.Sprint("none ", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Sprintf("%d %v after %.200q", resp.StatusCode, err, b)
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", resp.StatusCode, said(b)))
}

// said is the message of an answer, or the error at the end of a stream.
func said(b []byte) string {
	var doc struct {
		Message string
		Error   string
	}
	last := b
	if i := bytes.LastIndexByte(bytes.TrimSpace(b), '\n'); i >= 0 {
		last = b[i+1:]
	}
	for _, text := range [][]byte{b, last} {
		if json.Unmarshal(text, &doc) == nil && (doc.Message != "" || doc.Error != "") {
			return doc.Message + doc.Error
		}
	}
	return fmt.Sprintf("%.300s", bytes.TrimSpace(b))
}
