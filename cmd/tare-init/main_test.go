package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// initProgram builds tare-init as the Makefile does.
func initProgram(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "tare-init")
	cmd := exec.Command("go", "build", "-ldflags", "-E main.start", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

func TestStatusIsTheProgrammes(t *testing.T) {
	bin := initProgram(t)
	for _, c := range []struct {
		args []string
		want int
		out  string
	}{
		{[]string{"--", "true"}, 0, ""},
		{[]string{"/bin/sh", "-c", "echo $0 $1; exit 7", "a", "b"}, 7, "a b\n"},
		{[]string{"--", "sh", "-c", "kill -9 $$"}, 137, ""},
		{[]string{"--", "sh", "-c", "(sleep 0.01 &) ; exit 3"}, 3, ""},
		{[]string{"--", "no-such-program"}, 127, "tare-init: exec no-such-program: no such file or directory\n"},
		{[]string{"--", "/etc/passwd"}, 126, "tare-init: exec /etc/passwd: cannot be executed"},
		{[]string{"--", "/no/such"}, 127, "tare-init: exec /no/such: no such file or directory\n"},
		{[]string{"--"}, 125, ""},
		{nil, 125, ""},
	} {
		out, err := exec.Command(bin, c.args...).CombinedOutput()
		code := 0
		if x, ok := errors.AsType[*exec.ExitError](err); ok {
			code = x.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if code != c.want || string(out) != c.out {
			t.Errorf("%q: status %d, want %d; output %q, want %q", c.args, code, c.want, out, c.out)
		}
	}
}

func TestSignalsArePassedOn(t *testing.T) {
	bin := initProgram(t)
	cmd := exec.Command(bin, "--", "sh", "-c", `trap 'echo usr1; exit 5' USR1; echo ready; while :; do sleep 0.01; done`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	n, err := out.Read(buf)
	if err != nil || string(buf[:n]) != "ready\n" {
		t.Fatal(string(buf[:n]), err)
	}
	if err := cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	n, _ = out.Read(buf)
	if string(buf[:n]) != "usr1\n" {
		t.Errorf("got %q", buf[:n])
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 5 {
		t.Error(err)
	}
}

// TestItIsSmall holds the reason for writing it in assembly.
func TestItIsSmall(t *testing.T) {
	cmd := exec.Command(initProgram(t), "--", "sleep", "10")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Signal(syscall.SIGTERM)
	children := fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if b, err := os.ReadFile(children); err != nil || len(b) > 0 { // err: a kernel that does not tell
			break
		}
	}
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); f[0] == "VmRSS:" {
			t.Log(line)
			if len(f[1]) > 3 || f[1] > "200" && len(f[1]) == 3 {
				t.Errorf("it takes %s kB, more than 200", f[1])
			}
		}
	}
}
