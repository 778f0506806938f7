//go:build root

package script

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// TestUpgradeOfEngineAndKeeper is the day a user installs another version: the
// engine is stopped, or dies, the next one comes with a keeper of its own, and
// whoever looks into a container, talks to it or waits for it notices nothing.
func TestUpgradeOfEngineAndKeeper(t *testing.T) {
	dir := workdir(t)
	old := dir + "/old"
	buildRelease(t, old, "0.0.9")
	t.Cleanup(func() {
		args := []string{"--data-root", dir + "/data", "--exec-root", dir + "/run", "--uninstall"}
		if out, err := exec.Command(filepath.Join(programs(t), "tared"), args...).CombinedOutput(); err != nil {
			t.Errorf("uninstall: %v: %s", err, out)
		}
	})
	args := []string{"--data-root", dir + "/data", "--exec-root", dir + "/run"}
	e := start(t, &engine{socket: dir + "/engine.sock", bin: old, docker: filepath.Join(old, "tare")}, dir, filepath.Join(old, "tared"), args...)
	e.load(t, "busybox.tar")
	keeper := e.keeper(t, dir)
	u := newUpgraded(t, e)
	for _, next := range []struct {
		bin  string
		kill bool
	}{{programs(t), false}, {old, true}, {programs(t), true}} {
		u.works(t)
		e.replace(t, next.bin, next.kill)
		if pid := e.keeper(t, dir); pid != keeper {
			t.Fatalf("the keeper was %d and is %d", keeper, pid)
		}
		if got, want := digest(t, fmt.Sprintf("/proc/%d/exe", keeper)), digest(t, filepath.Join(next.bin, "tare-keeper")); got != want {
			t.Errorf("the keeper's program is not that of %s: %s", next.bin, e.tail(t, dir))
		}
	}
	u.works(t)
	u.ends(t)
	if n := strings.Count(e.tail(t, dir), "the keeper is upgraded"); n != 3 {
		t.Errorf("%d upgrades are in the engine's log, not 3: %s", n, e.tail(t, dir))
	}
}

// buildRelease builds the programs as those of another version.
func buildRelease(t *testing.T, dir, version string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X main.version="+version, "-o", dir+"/",
		"../../cmd/tared", "../../cmd/tare", "../../cmd/tare-keeper", "../../cmd/tare-init")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
}

// keeper is the pid of the keeper of an engine whose roots lie in dir.
func (e *engine) keeper(t *testing.T, dir string) int {
	t.Helper()
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		b, _ := os.ReadFile(f)
		args := strings.Split(string(b), "\x00")
		if !strings.HasSuffix(args[0], "tare-keeper") || len(args) < 3 || args[2] != dir+"/run" {
			continue
		}
		stat, _ := os.ReadFile(filepath.Dir(f) + "/stat")
		if bytes.Contains(stat, []byte("(tare-keeper)")) { // and no nursery
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(f)))
			return pid
		}
	}
	t.Fatalf("there is no keeper: %s", e.tail(t, dir))
	return 0
}

func (e *engine) tail(t *testing.T, dir string) string {
	t.Helper()
	log, err := os.ReadFile(dir + "/log")
	if err != nil {
		t.Error(err)
	}
	keeper, err := os.ReadFile(dir + "/run/keeper/log")
	if err != nil {
		t.Error(err)
	}
	return "engine:\n" + string(log) + "keeper:\n" + string(keeper)
}

func digest(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// replace ends the engine and starts that of another directory at its place.
func (e *engine) replace(t *testing.T, bin string, kill bool) {
	t.Helper()
	if kill {
		e.cmd.Process.Kill()
		e.cmd.Wait()
	} else {
		e.cmd.Process.Signal(syscall.SIGTERM)
		if err := e.cmd.Wait(); err != nil {
			t.Errorf("the engine: %v", err)
		}
	}
	c := exec.Command(filepath.Join(bin, "tared"), e.cmd.Args[1:]...)
	c.Stdout, c.Stderr = e.cmd.Stdout, e.cmd.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	e.cmd, e.bin, e.docker = c, bin, filepath.Join(bin, "tare")
	for end := time.Now().Add(30 * time.Second); exec.Command(e.docker, "-H", "unix://"+e.socket, "version").Run() != nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the engine does not come back")
		}
	}
}

// upgraded is what goes on over the upgrades.
type upgraded struct {
	e                             *engine
	talk, terminal, exec, counter *talker
	joined                        []*talker
	conn                          net.Conn // to the published port
	rounds                        int
}

const upgradePort = "127.0.0.1:18473"

func newUpgraded(t *testing.T, e *engine) *upgraded {
	t.Helper()
	u := &upgraded{e: e}
	// One that writes all the time, and a client that gets it all.
	e.output(t, "run", "-d", "--name", "counts", "busybox", "sh", "-c", `i=0; while [ ! -e /end ]; do echo "line $i"; i=$((i+1)); done; echo "last $i"; exit 9`)
	u.counter = e.talk(t, false, "attach", "--no-stdin", "counts")
	// Standard input, a terminal, an exec with input: each answers what is typed.
	u.talk = e.talk(t, false, "run", "-i", "--name", "talks", "busybox", "sh", "-c", `while read l; do echo "heard $l"; done; exit 5`)
	u.terminal = e.talk(t, true, "run", "-it", "--name", "term", "busybox", "sh", "-c", `stty -echo; while read l; do [ "$l" = end ] && exit 6; echo "heard $l"; done`)
	e.shows(t, "running", "inspect", "-f", "{{.State.Status}}", "counts")
	u.exec = e.talk(t, false, "exec", "-i", "counts", "sh", "-c", `while read l; do echo "heard $l"; done; exit 7`)
	// A health check that fails as soon as it is told to.
	e.output(t, "run", "-d", "--name", "healthy", "--health-cmd", "echo checked; test ! -e /ill", "--health-interval", "300ms", "--health-retries", "1", "busybox", "sleep", "1000")
	e.shows(t, "healthy", "inspect", "-f", "{{.State.Health.Status}}", "healthy")
	// A published port with a connection, and a paused container.
	e.output(t, "run", "-d", "--name", "served", "-p", upgradePort+":80", "busybox", "nc", "-ll", "-p", "80", "-e", "cat")
	u.conn = dialSoon(t)
	u.join(t)
	e.output(t, "run", "-d", "--name", "paused", "busybox", "sleep", "1000")
	e.output(t, "pause", "paused")
	return u
}

// join makes containers that are in each other's namespaces, in pairs of donor and
// guest, with an exec in both.
func (u *upgraded) join(t *testing.T) {
	t.Helper()
	for _, kind := range u.donors() {
		u.e.output(t, append([]string{"run", "-d", "--name", kind[0], "--ipc", "shareable"}, append(kind[1:], "busybox", "sleep", "1000")...)...)
		guest := append([]string{"run", "-i", "--name", kind[0] + "-guest"}, append(joins(kind), "busybox", "sh", "-c", `while read l; do echo "heard $l"; done; exit 8`)...)
		u.joined = append(u.joined, u.e.talk(t, false, guest...))
		u.e.shows(t, "running", "inspect", "-f", "{{.State.Status}}", kind[0]+"-guest")
		for _, name := range []string{kind[0], kind[0] + "-guest"} {
			u.joined = append(u.joined, u.e.talk(t, false, "exec", "-i", name, "sh", "-c", `while read l; do echo "heard $l"; done; exit 8`))
		}
	}
}

// donors are their names and flags: with the host's ids, with ids of their own, and
// below another runtime.
func (u *upgraded) donors() [][]string {
	return [][]string{{"plain"}, {"mapped", "--userns", "auto"}, {"external", "--runtime", "runc"}}
}

// joins are the flags of one that is in a donor's namespaces, and has its flags.
func joins(donor []string) []string {
	in := "container:" + donor[0]
	return append([]string{"--network", in, "--pid", in, "--ipc", in}, donor[1:]...)
}

func dialSoon(t *testing.T) net.Conn {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", upgradePort)
		if err == nil {
			t.Cleanup(func() { c.Close() })
			c.SetDeadline(time.Now().Add(5 * time.Minute))
			return c
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// works looks at everything from outside, as its users do.
func (u *upgraded) works(t *testing.T) {
	t.Helper()
	u.rounds++
	said := fmt.Sprintf("round %d", u.rounds)
	for name, x := range map[string]*talker{"run -i": u.talk, "run -it": u.terminal, "exec -i": u.exec} {
		x.say(t, said)
		x.hears(t, name, "heard "+said)
	}
	echo(t, u.conn, said) // on the connection that has been there
	c := dialSoon(t)
	echo(t, c, said)
	c.Close()
	if got := u.e.output(t, "ps", "--filter", "status=paused", "--format", "{{.Names}}"); got != "paused" {
		t.Errorf("paused is %q", got)
	}
	lastCheck := func() string {
		return u.e.output(t, "inspect", "-f", "{{range .State.Health.Log}}{{.Start}}\n{{end}}", "healthy")
	}
	before := lastCheck()
	for end := time.Now().Add(20 * time.Second); lastCheck() == before; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody checks the health any more")
		}
	}
	if got := u.e.output(t, "run", "--rm", "busybox", "echo", "fine"); got != "fine" {
		t.Errorf("run: %q", got)
	}
	for i, x := range u.joined {
		x.say(t, said)
		x.hears(t, fmt.Sprint("joined ", i), "heard "+said)
	}
	for _, kind := range u.donors() {
		args := append([]string{"run", "--rm"}, append(joins(kind), "busybox", "sh", "-c", `tr "\0" " " </proc/1/cmdline`)...)
		if got := u.e.output(t, args...); got != "sleep 1000" {
			t.Errorf("a new guest of %s sees %q", kind[0], got)
		}
		if got := u.e.output(t, "exec", kind[0]+"-guest", "echo", "in"); got != "in" {
			t.Errorf("exec: %q", got)
		}
	}
	if got := u.e.output(t, "exec", "counts", "echo", "in"); got != "in" {
		t.Errorf("exec: %q", got)
	}
}

// ends lets everything end and counts.
func (u *upgraded) ends(t *testing.T) {
	t.Helper()
	u.talk.in.Close()
	u.talk.endsWith(t, "run -i", 5)
	u.exec.in.Close()
	u.exec.endsWith(t, "exec -i", 7)
	for i, x := range slices.Backward(u.joined) { // an exec ends with its container
		x.in.Close()
		x.endsWith(t, fmt.Sprint("joined ", i), 8)
	}
	for _, kind := range u.donors() {
		u.e.output(t, "rm", "-f", kind[0], kind[0]+"-guest")
	}
	u.terminal.say(t, "end")
	u.terminal.endsWith(t, "run -it", 6)
	u.e.output(t, "exec", "healthy", "touch", "/ill")
	u.e.shows(t, "unhealthy", "inspect", "-f", "{{.State.Health.Status}}", "healthy")
	u.e.output(t, "unpause", "paused")
	_, _ = u.e.try("exec", "counts", "touch", "/end") // it may be killed with the container that has seen it
	u.e.shows(t, "exited 9", "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "counts")
	u.counter.endsWith(t, "attach", 9)
	u.whole(t, "the attached client", u.counter.text(), 0)
	u.whole(t, "the log", u.e.output(t, "logs", "--tail", "20000", "counts"), 19000)
	u.e.output(t, "rm", "-f", "counts", "talks", "term", "healthy", "served", "paused")
}

// whole checks that what counts wrote is there without a gap, up to its end.
func (u *upgraded) whole(t *testing.T, who, text string, atLeast int) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) < atLeast || len(lines) < 2 {
		t.Fatalf("%s has %d lines", who, len(lines))
	}
	first := -1
	for i, l := range lines[:len(lines)-1] {
		n, err := strconv.Atoi(strings.TrimPrefix(l, "line "))
		if first < 0 {
			first = n
		}
		if err != nil || n != first+i {
			t.Fatalf("%s: line %d is %q", who, first+i, l)
		}
	}
	if want := fmt.Sprintf("last %d", first+len(lines)-1); lines[len(lines)-1] != want {
		t.Errorf("%s ends with %q, not %q", who, lines[len(lines)-1], want)
	}
}

func echo(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := fmt.Fprint(c, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	for n := 0; n < len(got); {
		k, err := c.Read(got[n:])
		if n += k; err != nil {
			t.Fatalf("the published port: %v", err)
		}
	}
	if string(got) != text {
		t.Errorf("the published port gave %q", got)
	}
}

// talker is a command line that goes on, with what it has written so far.
type talker struct {
	cmd  *exec.Cmd
	in   *os.File
	out  string // a file
	done chan error
}

// talk starts the command line, in a terminal or without.
func (e *engine) talk(t *testing.T, terminal bool, args ...string) *talker {
	t.Helper()
	dir := workdir(t)
	x := &talker{cmd: exec.Command(e.docker, append([]string{"-H", "unix://" + e.socket}, args...)...), out: dir + "/out", done: make(chan error, 1)}
	x.cmd.Env = append(os.Environ(), "TERM=xterm")
	out, err := os.Create(x.out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		x.cmd.Process.Kill()
		out.Close()
	})
	if terminal {
		if x.in, err = pty.Start(x.cmd); err != nil {
			t.Fatal(err)
		}
		go func() {
			out.ReadFrom(x.in)
			x.done <- x.cmd.Wait()
		}()
		return x
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr, x.in = r, out, out, w
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { x.done <- x.cmd.Wait() }()
	return x
}

func (x *talker) text() string {
	b, _ := os.ReadFile(x.out)
	return strings.ReplaceAll(string(b), "\r", "")
}

func (x *talker) say(t *testing.T, line string) {
	t.Helper()
	if _, err := fmt.Fprintln(x.in, line); err != nil {
		t.Fatalf("%v: %q", err, x.text())
	}
}

// hears waits for a line.
func (x *talker) hears(t *testing.T, name, line string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(x.text(), line+"\n"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: no %q in %q", name, line, x.text())
		}
	}
}

// endsWith waits for the end of the command line, and compares its status.
func (x *talker) endsWith(t *testing.T, name string, status int) {
	t.Helper()
	select {
	case err := <-x.done:
		code := 0
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			code = exit.ExitCode()
		}
		if code != status {
			text := x.text()
			t.Errorf("%s ended with %d, not %d: %q", name, code, status, text[max(0, len(text)-300):])
		}
	case <-time.After(30 * time.Second):
		t.Errorf("%s does not end: %q", name, x.text())
	}
}
