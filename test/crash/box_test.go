//go:build root && failpoint

package crash

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/test/fixture/plugin"
)

// bin holds programs built with failpoints, and other the same ones of another
// version.
var bin, other string

// TestMain runs the tests in a mount namespace of their own, with programs that
// have failpoints. Most of the time is spent waiting: four boxes at once.
func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv("TARE_CRASH_BOX") == "" {
		os.Exit(enterBox())
	}
	dir, err := os.MkdirTemp("/var/tmp", "tare-crash-bin-")
	if err != nil {
		panic(err)
	}
	bin, other = dir, filepath.Join(dir, "other")
	code := 1
	if err := errors.Join(flag.Set("test.parallel", "4"), build()); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func enterBox() int {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	args := append([]string{"-m", "--propagation", "private", "--", self}, os.Args[1:]...)
	cmd := exec.Command("unshare", args...)
	cmd.Env = append(os.Environ(), "TARE_CRASH_BOX=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err = cmd.Run()
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

// build makes the programs, and places for the names of network namespaces and
// plugins that end with our mount namespace.
func build() error {
	if err := errors.Join(os.MkdirAll("/run/netns", 0755), os.MkdirAll(pluginSockets, 0755)); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"mount", "-t", "tmpfs", "tare-crash", "/run/netns"},
		{"mount", "-t", "tmpfs", "tare-crash", pluginSockets},
		{"go", "build", "-tags", "failpoint", "-o", bin, "../../cmd/tared", "../../cmd/tare-keeper", "../../cmd/tare", "../../cmd/tare-init", "../../cmd/tare-build", "../../cmd/tare-runtime"},
		{"go", "build", "-tags", "failpoint", "-ldflags", "-X main.version=other", "-o", other + "/", "../../cmd/tared", "../../cmd/tare-keeper", "../../cmd/tare-init"},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// box is one engine's data and network, its processes, and what must be true
// of them.
type box struct {
	t      *testing.T
	dir    string // data/, run/, failpoints.log, armed, tared.log
	netns  string // its name
	bin    string // directory of the engine's and the keeper's program
	image  string // in a registry, of operations that have one
	engine *exec.Cmd
	ended  chan error

	plugin *plugin.Plugin // with volumes, of operations that have one

	damaged  bool          // its images are, by us
	mounts   []string      // of its disk, the last one first to go
	rebooted bool          // what ran has ended with a power cut
	took     time.Duration // an undisturbed operation
}

func newBox(t *testing.T) *box {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "tare-crash-")
	if err != nil {
		t.Fatal(err)
	}
	b := &box{t: t, dir: dir, netns: filepath.Base(dir), bin: bin}
	t.Cleanup(b.close)
	for _, args := range [][]string{{"ip", "netns", "add", b.netns}, {"ip", "-n", b.netns, "link", "set", "lo", "up"}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	return b
}

func (b *box) path(name string) string { return filepath.Join(b.dir, name) }

func (b *box) socket() string { return b.path("run/tared.sock") }

// tared is the engine's program with arguments, in the box's network.
func (b *box) tared(args ...string) *exec.Cmd {
	program := []string{"--net=/run/netns/" + b.netns, "--", filepath.Join(b.bin, "tared"), "--data-root", b.path("data"), "--exec-root", b.path("run"), "-H", "unix://" + b.socket()}
	cmd := exec.Command("nsenter", append(program, args...)...)
	cmd.Env = append(os.Environ(), "TARE_FAILPOINTS_LOG="+b.path("failpoints.log"), "TARE_FAILPOINTS_FILE="+b.path("armed"))
	return cmd
}

// arm has the process that comes to a point first killed there.
func (b *box) arm(point string) {
	b.t.Helper()
	tmp := b.path("armed.new")
	if err := errors.Join(os.WriteFile(tmp, []byte(point), 0600), os.Rename(tmp, b.path("armed"))); err != nil {
		b.t.Fatal(err)
	}
}

// disarm ends that, and reports whether the point has been reached: whoever comes there
// takes the file away before it dies.
func (b *box) disarm() (struck bool) { return os.Remove(b.path("armed")) != nil }

// struck reports whether the armed point has been reached.
func (b *box) struck() bool {
	_, err := os.Stat(b.path("armed"))
	return err != nil
}

// up starts the engine and waits until it answers.
func (b *box) up() {
	b.t.Helper()
	b.begin()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end) && !b.dead(); time.Sleep(10 * time.Millisecond) {
		if b.answers() {
			return
		}
	}
	b.t.Fatalf("the engine does not answer:\n%s", b.tail())
}

// begin starts the engine.
func (b *box) begin() {
	b.t.Helper()
	log, err := os.OpenFile(b.path("tared.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0600)
	if err != nil {
		b.t.Fatal(err)
	}
	defer log.Close()
	fmt.Fprintln(log, "--- up")
	cmd := b.tared("--log-level", "debug")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.engine, b.ended = cmd, make(chan error, 1)
	ended := b.ended
	go func() { ended <- cmd.Wait() }()
}

// answers reports whether somebody accepts on the engine's socket.
func (b *box) answers() bool {
	if fi, err := os.Stat(b.socket()); err != nil || fi.Mode()&os.ModeSocket == 0 {
		return false
	}
	_, err := b.tare("version")
	return err == nil
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

// down stops the engine as an administrator does.
func (b *box) down() {
	b.t.Helper()
	b.engine.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-b.ended:
		b.ended <- err
		if err != nil {
			b.t.Errorf("the engine's end: %v\n%s", err, b.tail())
		}
	case <-time.After(40 * time.Second):
		b.t.Fatalf("the engine does not stop:\n%s", b.tail())
	}
}

// killKeeper ends the keeper by SIGKILL.
func (b *box) killKeeper() {
	for _, p := range b.ours() {
		if p.name == "tare-keeper" && p.ppidName != "tare-keeper" {
			syscall.Kill(p.pid, syscall.SIGKILL)
		}
	}
}

// tare runs the command line against the engine.
func (b *box) tare(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "tare"), append([]string{"-H", "unix://" + b.socket()}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+b.dir)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			b.t.Errorf("tare %s: no answer in 40 s", strings.Join(args, " "))
		}
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
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// story is what engine and keeper had to say since the engine was last
// started, its requests left out.
func (b *box) story() string {
	engine, _ := os.ReadFile(b.path("tared.log"))
	keeper, _ := os.ReadFile(b.path("run/keeper/log"))
	last := string(engine[max(0, strings.LastIndex(string(engine), "--- up")):])
	lines := slices.DeleteFunc(strings.Split(last, "\n"), func(l string) bool { return strings.Contains(l, "msg=request") })
	return strings.Join(lines, "\n") + "\nkeeper:\n" + string(keeper)
}

// close ends everything of the box, whatever state it is in.
func (b *box) close() {
	if b.engine != nil && !b.dead() {
		b.kill()
	}
	b.endAll()
	b.uninstall()
	if out, err := exec.Command("ip", "netns", "del", b.netns).CombinedOutput(); err != nil {
		b.t.Errorf("remove the network namespace: %v\n%s", err, out)
	}
	b.unplug(true)
	os.RemoveAll(b.dir)
}

// endAll kills all processes of the box.
func (b *box) endAll() {
	for range 100 {
		left := b.ours()
		if len(left) == 0 {
			break
		}
		for _, p := range left {
			syscall.Kill(p.pid, syscall.SIGKILL)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// uninstall takes away what the engine has in the kernel.
func (b *box) uninstall() {
	if out, err := b.tared("--uninstall").CombinedOutput(); err != nil {
		b.t.Errorf("uninstall: %v\n%s", err, out)
	}
}
