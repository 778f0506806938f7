//go:build root

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain runs the tests in a network and mount namespace of their own.
func TestMain(m *testing.M) {
	if os.Getenv("TARE_PROBE_BOX") != "" {
		os.Exit(m.Run())
	}
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command("unshare", append([]string{"-n", "-m", "--propagation", "private", "--", self}, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), "TARE_PROBE_BOX=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// engine is a private engine and a root directory with the probe in it.
type engine struct {
	t     *testing.T
	dir   string // bin/ data/ run/ root/
	tared *exec.Cmd
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "tare-probe-")
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{t: t, dir: dir}
	t.Cleanup(e.close)
	e.command("ip", "link", "set", "lo", "up")
	for _, d := range []string{"root/tmp", "root/etc"} {
		if err := os.MkdirAll(e.path(d), 0755); err != nil {
			t.Fatal(err)
		}
	}
	e.programs()
	e.write("root/etc/passwd", "root:x:0:0::/root:/probe\n1000:x:0:0::/:/probe\n")
	e.write("root/etc/group", "root:x:0:\n")
	e.up()
	return e
}

// programs brings the engine's programs and the probe: new ones, or those of
// the directory that TARE_TEST_BIN names (where there is no compiler).
func (e *engine) programs() {
	e.t.Helper()
	if made := os.Getenv("TARE_TEST_BIN"); made != "" {
		e.command("cp", "-r", made, e.path("bin"))
		e.command("mv", e.path("bin/probe"), e.path("root/probe"))
		return
	}
	e.command("go", "build", "-trimpath", "-o", e.path("bin")+"/", "../../cmd/tared", "../../cmd/tare-keeper", "../../cmd/tare")
	e.command("go", "build", "-trimpath", "-ldflags", "-E main.start", "-o", e.path("bin/tare-init"), "../../cmd/tare-init")
	e.command("go", "build", "-trimpath", "-o", e.path("root/probe"), ".")
}

func (e *engine) path(name string) string { return filepath.Join(e.dir, name) }

func (e *engine) write(name, text string) {
	e.t.Helper()
	if err := os.WriteFile(e.path(name), []byte(text), 0644); err != nil {
		e.t.Fatal(err)
	}
}

func (e *engine) command(args ...string) {
	e.t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		e.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (e *engine) up() {
	e.t.Helper()
	log, err := os.Create(e.path("log"))
	if err != nil {
		e.t.Fatal(err)
	}
	defer log.Close()
	e.tared = exec.Command(e.path("bin/tared"), "-H", "unix://"+e.path("run/tared.sock"), "--data-root", e.path("data"), "--exec-root", e.path("run"))
	e.tared.Stdout, e.tared.Stderr = log, log
	// What a container must not inherit.
	e.tared.Env = append(os.Environ(), "TARE_CANARY=secret")
	if err := e.tared.Start(); err != nil {
		e.t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, err := e.tare("version"); err == nil {
			return
		}
	}
	e.t.Fatal("the engine does not answer")
}

// tare runs the command line and returns all of its output.
func (e *engine) tare(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, e.path("bin/tare"), append([]string{"-H", "unix://" + e.path("run/tared.sock")}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+e.dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return strings.TrimSpace(out.String()), err
}

func (e *engine) must(args ...string) string {
	e.t.Helper()
	out, err := e.tare(args...)
	if err != nil {
		e.t.Fatalf("tare %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// run is `tare run` on the probe's root.
func (e *engine) run(options []string, args ...string) (string, error) {
	return e.tare(append(append([]string{"run", "--rootfs", e.path("root")}, options...), args...)...)
}

// close ends all that the engine made.
func (e *engine) close() {
	if out, err := e.tare("ps", "-aq"); err == nil && out != "" {
		e.tare(append([]string{"rm", "-f"}, strings.Fields(out)...)...)
	}
	if e.tared != nil && e.tared.Process != nil {
		e.tared.Process.Signal(syscall.SIGTERM)
		e.tared.Wait()
	}
	for end := time.Now().Add(time.Minute); len(keepers(e.path("run"))) > 0 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for _, p := range keepers(e.path("run")) {
			syscall.Kill(p, syscall.SIGTERM)
		}
	}
	if out, err := exec.Command(e.path("bin/tared"), "--data-root", e.path("data"), "--exec-root", e.path("run"), "--uninstall").CombinedOutput(); err != nil {
		e.t.Errorf("uninstall: %v\n%s", err, out)
	}
	os.RemoveAll(e.dir)
}

// keepers are the pids of processes that name the exec root.
func keepers(root string) (pids []int) {
	list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range list {
		b, _ := os.ReadFile(p)
		if bytes.Contains(b, []byte(root)) && bytes.Contains(b, []byte("keeper")) {
			pids = append(pids, atoi(strings.Split(p, "/")[2]))
		}
	}
	return pids
}
