//go:build root && failpoint

package crash

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

// bin holds programs built with failpoints.
var bin string

// TestMain runs the tests in a network and mount namespace of their own, with
// programs that have failpoints.
func TestMain(m *testing.M) {
	if os.Getenv("TARE_CRASH_BOX") == "" {
		os.Exit(enterBox())
	}
	dir, err := os.MkdirTemp("/var/tmp", "tare-crash-bin-")
	if err != nil {
		panic(err)
	}
	bin = dir
	code := 1
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func enterBox() int {
	args := append([]string{"-n", "-m", "--propagation", "private", "--", "/proc/self/exe"}, os.Args[1:]...)
	args[5], _ = os.Executable()
	cmd := exec.Command("unshare", args...)
	cmd.Env = append(os.Environ(), "TARE_CRASH_BOX=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode()
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func build() error {
	for _, args := range [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"go", "build", "-tags", "failpoint", "-o", bin, "../../cmd/tared", "../../cmd/tare-keeper", "../../cmd/tare", "../../cmd/tare-init"},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// box is one engine's data, its processes, and what must be true of them.
type box struct {
	t      *testing.T
	dir    string // data/, run/, failpoints.log, tared.log
	engine *exec.Cmd
	ended  chan error
}

func newBox(t *testing.T) *box {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "tare-crash-")
	if err != nil {
		t.Fatal(err)
	}
	b := &box{t: t, dir: dir}
	t.Cleanup(b.close)
	return b
}

func (b *box) path(name string) string { return filepath.Join(b.dir, name) }

func (b *box) socket() string { return b.path("run/tared.sock") }

// up starts the engine with failpoints ("" for none) and waits until it
// answers, or has killed itself at one of them.
func (b *box) up(failpoints string) {
	b.t.Helper()
	log, err := os.OpenFile(b.path("tared.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0600)
	if err != nil {
		b.t.Fatal(err)
	}
	defer log.Close()
	fmt.Fprintf(log, "--- up %q\n", failpoints)
	cmd := exec.Command(filepath.Join(bin, "tared"), "--data-root", b.path("data"), "--exec-root", b.path("run"), "--log-level", "debug")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "TARE_FAILPOINTS="+failpoints, "TARE_FAILPOINTS_LOG="+b.path("failpoints.log"))
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.engine, b.ended = cmd, make(chan error, 1)
	ended := b.ended
	go func() { ended <- cmd.Wait() }()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if b.dead() {
			return
		}
		if _, err := b.tare("version"); err == nil {
			return
		}
	}
	b.t.Fatalf("the engine does not answer:\n%s", b.tail())
}

// dead reports whether the engine's process has ended.
func (b *box) dead() bool {
	select {
	case err := <-b.ended:
		b.ended <- err
		return true
	default:
		return false
	}
}

// kill ends the engine by SIGKILL.
func (b *box) kill() {
	b.engine.Process.Kill()
	err := <-b.ended
	b.ended <- err
}

// keeperPid is the process that listens on the keeper's socket, 0 if none does.
func (b *box) keeperPid() int {
	for _, p := range processes() {
		if strings.Contains(p.args, "tare-keeper") && strings.Contains(p.args, b.path("run")) && p.ppidName != "tare-keeper" {
			return p.pid
		}
	}
	return 0
}

// tare runs the command line against the engine.
func (b *box) tare(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "tare"), append([]string{"-H", "unix://" + b.socket()}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+b.dir)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return strings.TrimSpace(out.String()), fmt.Errorf("tare %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// must is tare for what has to work.
func (b *box) must(args ...string) string {
	b.t.Helper()
	out, err := b.tare(args...)
	if err != nil {
		b.t.Fatalf("%v\n%s", err, b.tail())
	}
	return out
}

// tail is the end of the engine's log, for failures.
func (b *box) tail() string {
	log, _ := os.ReadFile(b.path("tared.log"))
	lines := strings.Split(string(log), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// close ends everything of the box, whatever state it is in.
func (b *box) close() {
	if b.engine != nil && !b.dead() {
		b.kill()
	}
	for range 100 {
		left := b.ours()
		if len(left) == 0 {
			break
		}
		for _, p := range left {
			syscall.Kill(p.pid, syscall.SIGKILL)
		}
		time.Sleep(10 * time.Millisecond)
	}
	out, err := exec.Command(filepath.Join(bin, "tared"), "--data-root", b.path("data"), "--exec-root", b.path("run"), "--uninstall").CombinedOutput()
	if err != nil {
		b.t.Errorf("uninstall: %v\n%s", err, out)
	}
	os.RemoveAll(b.dir)
}
