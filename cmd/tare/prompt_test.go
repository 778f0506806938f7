//go:build linux

package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// programEnv makes the test's own program be tare, for tests that need a
// process of its own.
const programEnv = "TARE_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programEnv) != "" {
		os.Exit(execute(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// console is a command line in a terminal of its own.
type console struct {
	t    *testing.T
	file *os.File
	cmd  *exec.Cmd
	out  chan []byte
	seen []byte
}

func newConsole(t *testing.T, rows, cols uint16, host string, args ...string) *console {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), programEnv+"=1", "TARE_HOST="+host, "DOCKER_CONFIG="+t.TempDir(), "PATH="+t.TempDir())
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: rows, Cols: cols})
	if err != nil {
		t.Fatal(err)
	}
	c := &console{t: t, file: f, cmd: cmd, out: make(chan []byte)}
	go func() {
		defer close(c.out)
		for {
			b := make([]byte, 4096)
			n, err := f.Read(b)
			if n > 0 {
				c.out <- b[:n]
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		f.Close()
		for range c.out {
		}
	})
	return c
}

// see waits until the output has a text, and forgets what came before.
func (c *console) see(text string) {
	c.t.Helper()
	limit := time.After(time.Minute)
	for {
		if i := bytes.Index(c.seen, []byte(text)); i >= 0 {
			c.seen = c.seen[i+len(text):]
			return
		}
		select {
		case b, more := <-c.out:
			if !more {
				c.t.Fatalf("the output ends without %q: %q", text, c.seen)
			}
			c.seen = append(c.seen, b...)
		case <-limit:
			c.t.Fatalf("no %q in a minute: %q", text, c.seen)
		}
	}
}

func (c *console) enter(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.file, text); err != nil {
		c.t.Fatal(err)
	}
}

// end is the rest of the output and the exit code.
func (c *console) end() (rest string, code int) {
	c.t.Helper()
	for b := range c.out {
		c.seen = append(c.seen, b...)
	}
	if err := c.cmd.Wait(); err != nil {
		if _, exited := errors.AsType[*exec.ExitError](err); !exited {
			c.t.Fatal(err)
		}
	}
	return string(c.seen), c.cmd.ProcessState.ExitCode()
}

// echoes reports whether the terminal shows what is typed.
func (c *console) echoes() bool {
	c.t.Helper()
	var m syscall.Termios
	if err := termios(c.file, &m); err != nil {
		c.t.Fatal(err)
	}
	return m.Lflag&syscall.ECHO != 0
}

func TestLoginAsks(t *testing.T) {
	e := newFakeEngine(t)
	e.registry(t, "")
	c := newConsole(t, 24, 80, e.host, "login", "h:5000")
	c.see("Username: ")
	c.enter("alice\n")
	c.see("alice\r\n")
	c.see("Password: ")
	if c.echoes() {
		t.Error("the password would be shown")
	}
	c.enter("right\n")
	rest, code := c.end()
	if code != 0 || !strings.Contains(rest, "stored unencrypted") || !strings.HasSuffix(rest, "Login Succeeded\r\n") || strings.Contains(rest, "right") {
		t.Errorf("exit code %d, output %q", code, rest)
	}
	if !c.echoes() {
		t.Error("the terminal does not show what is typed afterwards")
	}
}

func TestInterruptedLoginLeavesTheTerminalAsItWas(t *testing.T) {
	c := newConsole(t, 24, 80, "unix:///nonexistent", "login", "-u", "alice", "h:5000")
	c.see("Password: ")
	c.enter("\x03")
	if rest, code := c.end(); code != 130 || rest != "\r\n" {
		t.Errorf("exit code %d, output %q", code, rest)
	}
	if !c.echoes() {
		t.Error("the terminal does not show what is typed afterwards")
	}
}

func TestLoginWantsANameAndAPassword(t *testing.T) {
	c := newConsole(t, 24, 80, "unix:///nonexistent", "login", "h:5000")
	c.see("Username: ")
	c.enter("\n")
	if rest, code := c.end(); code != 1 || rest != "\r\nError: Non-null Username Required\r\n" {
		t.Errorf("exit code %d, output %q", code, rest)
	}
	c = newConsole(t, 24, 80, "unix:///nonexistent", "login", "-u", "alice", "h:5000")
	c.see("Password: ")
	c.enter("\n")
	if rest, code := c.end(); code != 1 || rest != "\r\nError: Password Required\r\n" {
		t.Errorf("exit code %d, output %q", code, rest)
	}
}

func TestProgressInATerminal(t *testing.T) {
	e := newFakeEngine(t)
	e.stream("POST /images/create", func(string, string) {}, pulled...)
	out, code := newConsole(t, 24, 60, e.host, "pull", "x:1").end()
	want := "1: Pulling from x\r\n" +
		"\r\x1b[2Kaaa: Pulling fs layer\r\n" +
		"\x1b[1A\r\x1b[2Kaaa: Downloading [=============>              ]       1B/2B\r\n" +
		"\x1b[1A\r\x1b[2Kaaa: Pull complete\r\n" +
		"Digest: sha256:d\r\ndocker.io/library/x:1\r\n"
	if code != 0 || out != want {
		t.Errorf("exit code %d, output\n%q, want\n%q", code, out, want)
	}
}

// TestLoadAndPushInATerminal: load and push show their progress in the same way.
func TestLoadAndPushInATerminal(t *testing.T) {
	e := newFakeEngine(t)
	var query string
	e.stream("POST /images/load", func(q, _ string) { query = q }, `{"status":"Loading layer","progressDetail":{"current":1,"total":2},"id":"aaa"}`, `{"stream":"Loaded image: x\n"}`)
	out, _ := newConsole(t, 24, 60, e.host, "load", "-i", os.DevNull).end()
	e.mu.Lock()
	asked := query
	e.mu.Unlock()
	if want := "\r\x1b[2Kaaa: Loading layer [============>             ]       1B/2B\r\nLoaded image: x\r\n"; out != want || asked != "" {
		t.Errorf("load: asked for %q, output\n%q, want\n%q", asked, out, want)
	}
	e.stream("POST /images/x/push", func(string, string) {}, `{"status":"Preparing","progressDetail":{},"id":"aaa"}`, `{"status":"Pushed","progressDetail":{},"id":"aaa"}`)
	out, _ = newConsole(t, 24, 60, e.host, "push", "x:1").end()
	if want := "\r\x1b[2Kaaa: Preparing\r\n\x1b[1A\r\x1b[2Kaaa: Pushed\r\n"; out != want {
		t.Errorf("push: output\n%q, want\n%q", out, want)
	}
}
