//go:build root

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestNobodyWaitsForTheSick: a container whose files do not answer, or whose
// client does not read, makes neither other requests about it wait nor those about
// others; a keeper that does not answer makes no process another's.
func TestNobodyWaitsForTheSick(t *testing.T) {
	e := newEngine(t)
	t.Run("files", func(t *testing.T) { testSickFiles(t, e) })
	t.Run("client", func(t *testing.T) { testSickClient(t, e) })
	t.Run("keeper", func(t *testing.T) { testSickKeeper(t, e) })
}

// testSickFiles: /etc, where an exec's user is looked up, is served by a program in
// the container that does not answer.
func testSickFiles(t *testing.T, e *engine) {
	if _, err := os.Stat("/dev/fuse"); errors.Is(err, os.ErrNotExist) {
		t.Skip("this kernel has no FUSE")
	}
	out, err := e.run([]string{"-d", "--name", "sick", "--device", "/dev/fuse", "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"}, "/probe", "hang", "/etc")
	if err != nil {
		t.Fatal(out, err)
	}
	e.await(t, "mounted", "logs", "sick")
	told := make(chan string, 1)
	go func() {
		out, _ := e.tare("exec", "sick", "/probe", "true")
		told <- out
	}()
	e.await(t, "exec_create", "events", "--since", "1h", "--until", fmt.Sprint(time.Now().Add(time.Second).Unix()), "--filter", "container=sick")
	answered(t, e, "sick")
	// Not more than so many look: the others are told so as well.
	if out := <-told; !strings.Contains(out, "do not answer within") {
		t.Errorf("exec: %s", out)
	}
	e.must("stop", "--time", "0", "sick")
	e.must("rm", "sick")
}

// testSickClient: a client wants the log before the stream, and does not read.
func testSickClient(t *testing.T, e *engine) {
	for _, c := range []struct{ name, after string }{{"running", "sleep"}, {"ended", "true"}} {
		if out, err := e.run([]string{"-d", "--name", c.name}, "/probe", "tell", "8192", c.after); err != nil {
			t.Fatal(out, err)
		}
		e.await(t, "the last line", "logs", "--tail", "1", c.name)
		if c.after == "true" {
			e.must("wait", c.name)
		}
		conn, err := net.Dial("unix", e.path("run/tared.sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /v1.41/containers/%s/attach?logs=1&stream=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: tare\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", c.name)
		if _, err := conn.Read(make([]byte, 1)); err != nil { // now it is answered
			t.Fatal(err)
		}
		answered(t, e, c.name)
		if c.after == "true" { // the start hands the client over
			e.must("start", c.name)
			e.must("wait", c.name)
			if n := strings.Count(rest(t, conn), "the last line"); n != 2 {
				t.Errorf("%d last lines", n)
			}
		}
		e.must("rm", "-f", c.name)
	}
}

// testSickKeeper: who joins a container that has ended while nobody has told so yet
// is told what Docker tells.
func testSickKeeper(t *testing.T, e *engine) {
	e.must("run", "-d", "--name", "ends", "--ipc", "shareable", "--rootfs", e.path("root"), "/probe", "sleep")
	pid, err := strconv.Atoi(e.must("inspect", "-f", "{{.State.Pid}}", "ends"))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keepers(e.path("run")) {
		if err := syscall.Kill(k, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer syscall.Kill(k, syscall.SIGCONT)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); !strings.Contains(string(b), ") R") && !strings.Contains(string(b), ") S") {
			break
		}
	}
	for kind, option := range map[string]string{"network": "--network", "PID": "--pid", "IPC": "--ipc"} {
		out, err := e.run([]string{"--rm", option, "container:ends"}, "/probe", "true")
		if err == nil || !strings.Contains(out, "cannot join "+kind+" namespace of a non running container") {
			t.Errorf("%s: %v %s", option, err, out)
		}
	}
}

// answered fails if a question about the container or others is not answered.
func answered(t *testing.T, e *engine, name string) {
	t.Helper()
	for _, question := range []string{"ps -a", "inspect " + name, "stats --no-stream", "update --cpu-shares 512 " + name, "rename " + name + " " + name + "2", "rename " + name + "2 " + name} {
		if out, err := e.tare(strings.Fields(question)...); err != nil {
			t.Fatalf("tare %s: %v %s", question, err, out)
		}
	}
}

// await asks until the answer has what is wanted.
func (e *engine) await(t *testing.T, want string, args ...string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		out, err := e.tare(args...)
		if strings.Contains(out, want) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("tare %s: %v %s", strings.Join(args, " "), err, out)
		}
	}
}

// rest is what is still to be read.
func rest(t *testing.T, conn net.Conn) string {
	t.Helper()
	var all strings.Builder
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	for b := make([]byte, 64<<10); ; {
		n, err := conn.Read(b)
		all.Write(b[:n])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the stream does not end")
		}
		if err != nil {
			return all.String()
		}
	}
}
