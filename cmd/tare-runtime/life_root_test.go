//go:build root

package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestLifeCycle(t *testing.T) {
	l := newLab(t)
	b := l.bundle("c", nil, "sleep", "1000")
	if err := l.create("c", b); err != nil {
		t.Fatal(err)
	}
	if s := l.state("c"); s.Status != "created" || s.Pid == 0 {
		t.Fatalf("%+v", s)
	}
	if err := l.create("c", b); err == nil || !strings.Contains(err.Error(), "container with given ID already exists") {
		t.Error(err)
	}
	// What the bundle says later is nothing to a container that exists.
	l.bundle("c", nil, "false")
	l.must("start", "c")
	l.fails("cannot start an already running container", "start", "c")
	if s := l.state("c"); s.Status != "running" {
		t.Fatalf("%+v", s)
	}
	if out := l.must("exec", "c", "sh", "-c", "echo $$; hostname"); out != "2\ntare\n" {
		t.Errorf("%q", out)
	}
	l.fails(`exec: \"nosuch\": executable file not found in $PATH`, "exec", "c", "nosuch")
	l.fails("process args cannot be empty", "exec", "c")
	if _, err := l.run("exec", "c", "sh", "-c", "exit 7"); code(err) != 7 {
		t.Error(err)
	}
	l.must("pause", "c")
	if s := l.state("c"); s.Status != "paused" {
		t.Errorf("%+v", s)
	}
	l.fails("cannot exec in a paused container", "exec", "c", "true")
	l.fails("container not running", "pause", "c")
	l.must("resume", "c")
	l.fails("container not paused", "resume", "c")
	l.must("update", "--pids-limit", "77", "c")
	if out := l.must("list", "-q"); out != "c\n" {
		t.Errorf("%q", out)
	}
	if out := l.must("ps", "--format", "json", "c"); out != fmt.Sprintf("[%d]\n", l.state("c").Pid) {
		t.Errorf("%q", out)
	}
	if out := l.must("events", "--stats", "c"); !strings.Contains(out, `"pids":{"current":1,"limit":77}`) {
		t.Errorf("%q", out)
	}
	l.fails("cannot delete container c that is not stopped: running", "delete", "c")
	l.must("kill", "c", "KILL")
	l.await("c", "stopped")
	l.fails("container not running", "kill", "c")
	l.fails("cannot exec in a stopped container", "exec", "c", "true")
	l.fails("cannot start a container that has stopped", "start", "c")
	l.must("delete", "c")
	l.gone("c")
	l.fails("container does not exist", "state", "c")
	l.fails("container does not exist", "delete", "c")
	l.must("delete", "--force", "c")
}

func code(err error) int {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode()
	}
	return 0
}

func TestRunShowsTheExitCode(t *testing.T) {
	l := newLab(t)
	for script, want := range map[string]int{"exit 3": 3, "kill -9 $$": 0, "true": 0} {
		_, err := l.run("run", "--bundle", l.bundle("r", nil, "sh", "-c", script), "r")
		if code(err) != want {
			t.Errorf("%s: %v", script, err)
		}
		l.gone("r")
	}
	l.fails(`exec: \"nosuch\": executable file not found in $PATH`, "run", "--bundle", l.bundle("r", nil, "nosuch"), "r")
	l.fails("JSON specification file config.json not found", "run", "--bundle", l.rootfs, "r")
	l.gone("r")
}

func TestRunForwardsSignals(t *testing.T) {
	l := newLab(t)
	cmd := l.command("run", "--bundle", l.bundle("s", nil, "sh", "-c", "trap 'exit 5' TERM; touch /tmp/ready; while true; do sleep 0.01; done"), "s")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if _, err := os.Stat(l.rootfs + "/tmp/ready"); err == nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); code(err) != 5 {
		t.Error(err)
	}
	l.gone("s")
}

func TestHooksRunInOrder(t *testing.T) {
	l := newLab(t)
	log := l.dir + "/log"
	hook := func(name string) []specs.Hook {
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "read state; echo " + name + ` "$state" >>` + log}}}
	}
	all := func(s *specs.Spec) {
		s.Hooks = &specs.Hooks{CreateRuntime: hook("createRuntime"), CreateContainer: hook("createContainer"), Poststart: hook("poststart"), Poststop: hook("poststop")}
		//lint:ignore SA1019 prestart hooks are deprecated, and still used
		s.Hooks.Prestart = hook("prestart")
		s.Hooks.StartContainer = []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "cat >/tmp/state"}}}
	}
	if out := l.sh("h", all, "cat /tmp/state"); !strings.Contains(out, `"status":"created","pid":1`) {
		t.Errorf("%q", out)
	}
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	want := []string{`prestart`, `createRuntime`, `createContainer`, `poststart`, `poststop`}
	states := []string{"created", "creating", "creating", "running", "stopped"}
	for i, w := range want {
		if i >= len(lines) || !strings.HasPrefix(lines[i], w+" {") || !strings.Contains(lines[i], `"status":"`+states[i]+`"`) {
			t.Fatalf("got\n%s", b)
		}
	}
}

// TestHookThatChangesItsOwnContainer does not wait for who waits for it.
func TestHookThatChangesItsOwnContainer(t *testing.T) {
	l := newLab(t)
	said := l.dir + "/said"
	hook := func(args ...string) []specs.Hook {
		c := l.command(args...)
		script := `exec >>"$0" 2>&1; "$@"; echo "status $?"`
		return []specs.Hook{{Path: "/bin/sh", Args: append([]string{"sh", "-c", script, said}, c.Args...), Env: os.Environ()}}
	}
	for _, c := range []struct {
		hooks specs.Hooks
		want  string
	}{
		{specs.Hooks{Poststop: hook("delete", "-f", "own")}, "status 0\n"},
		{specs.Hooks{Poststop: hook("delete", "own")}, "container own is being changed by process"},
		{specs.Hooks{CreateRuntime: hook("pause", "own")}, "which waits for this hook of it"},
	} {
		os.Remove(said)
		l.sh("own", func(s *specs.Spec) { s.Hooks = &c.hooks }, "true")
		b, err := os.ReadFile(said)
		if err != nil || !strings.Contains(string(b), c.want) {
			t.Errorf("%q, %v; want %q", b, err, c.want)
		}
		l.gone("own")
	}
}

func TestFailedHookLeavesNothing(t *testing.T) {
	l := newLab(t)
	slow := 1
	for name, h := range map[string]specs.Hooks{
		"exit status 4": {CreateRuntime: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "exit 4"}}}},
		"exit status 5": {CreateContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "exit 5"}}}},
		"timeout":       {CreateRuntime: []specs.Hook{{Path: "/bin/sleep", Args: []string{"sleep", "1000"}, Timeout: &slow}}},
		"no such file":  {CreateRuntime: []specs.Hook{{Path: "/nosuch"}}},
	} {
		err := l.create("f", l.bundle("f", func(s *specs.Spec) { s.Hooks = &h }, "true"))
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		l.gone("f")
	}
}

// TestPoststartHooks: they see the program, and their failure ends it.
func TestPoststartHooks(t *testing.T) {
	l := newLab(t)
	poststart := func(script string) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Hooks = &specs.Hooks{Poststart: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", script}}}}
		}
	}
	log := l.dir + "/log"
	if err := l.create("c", l.bundle("c", poststart("echo called >"+log), "sleep", "1000")); err != nil {
		t.Fatal(err)
	}
	pid := l.state("c").Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	start := l.command("start", "c")
	if err := start.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	if _, err := os.Stat(log); err == nil {
		t.Error("the hook was called before the program was executed")
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := start.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(log); err != nil {
		t.Error(err)
	}

	fails := poststart("exit 4")
	if err := l.create("f", l.bundle("f", fails, "sleep", "1000")); err != nil {
		t.Fatal(err)
	}
	l.fails("exit status 4", "start", "f")
	if s := l.state("f"); s.Status != "stopped" {
		t.Errorf("%+v", s)
	}
	l.must("delete", "f")
	l.fails("exit status 4", "run", "--detach", "--bundle", l.bundle("f", fails, "sleep", "1000"), "f")
	l.gone("f")
}

// TestPoststopHooks: all of them are called, whatever comes of one.
func TestPoststopHooks(t *testing.T) {
	l := newLab(t)
	log := l.dir + "/log"
	b := l.bundle("c", func(s *specs.Spec) {
		for _, script := range []string{"echo 1 >>" + log, "exit 4", "echo 3 >>" + log, "exit 5"} {
			s.Hooks = cmp.Or(s.Hooks, &specs.Hooks{})
			s.Hooks.Poststop = append(s.Hooks.Poststop, specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", script}})
		}
	}, "true")
	if err := l.create("c", b); err != nil {
		t.Fatal(err)
	}
	if out := l.must("delete", "c"); !strings.Contains(out, "level=warning") || !strings.Contains(out, "hook #1: exit status 4") || !strings.Contains(out, "hook #3: exit status 5") {
		t.Errorf("%q", out)
	}
	if b, err := os.ReadFile(log); string(b) != "1\n3\n" {
		t.Errorf("%q %v", b, err)
	}
	l.gone("c")
}

// TestKilledCreator kills "create" and "run" at every moment of their work:
// what they leave is removed by delete --force, and no process survives
// unrecorded.
func TestKilledCreator(t *testing.T) {
	l := newLab(t)
	b := l.bundle("k", nil, "sleep", "12345")
	rounds := 40
	if testing.Short() {
		rounds = 8
	}
	for i := range rounds {
		cmd := l.command("create", "--bundle", b, "k")
		if i%2 == 1 {
			cmd = l.command("run", "--bundle", b, "k")
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 700 * time.Microsecond) // the moment of the kill
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		l.must("delete", "--force", "k")
		l.gone("k")
	}
	for range 200 {
		left := processes(t, "sleep\x0012345")
		if len(left) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("left: %v", processes(t, "sleep\x0012345"))
}

// TestForcedDeleteWaitsForNoHook: whoever a hook holds up is ended with all it has
// started, and nothing is left.
func TestForcedDeleteWaitsForNoHook(t *testing.T) {
	l := newLab(t)
	hangs := []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "sleep 54321 & echo >" + l.dir + "/hangs; wait"}}}
	inside := []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "sleep 54321 & echo >/tmp/hangs; wait"}}}
	prestart := specs.Hooks{}
	//lint:ignore SA1019 prestart hooks are deprecated, and still used
	prestart.Prestart = hangs
	for name, c := range map[string]struct {
		hooks   specs.Hooks
		command string // which hangs
		file    string // that says so
	}{
		"prestart":        {prestart, "create", l.dir + "/hangs"},
		"createRuntime":   {specs.Hooks{CreateRuntime: hangs}, "create", l.dir + "/hangs"},
		"run":             {specs.Hooks{CreateRuntime: hangs}, "run", l.dir + "/hangs"},
		"createContainer": {specs.Hooks{CreateContainer: hangs}, "create", l.dir + "/hangs"},
		"startContainer":  {specs.Hooks{StartContainer: inside}, "start", l.rootfs + "/tmp/hangs"},
		"poststart":       {specs.Hooks{Poststart: hangs}, "start", l.dir + "/hangs"},
	} {
		for _, kill := range []bool{false, true} { // whom the hook holds up, as who called it does in its end
			t.Run(fmt.Sprint(name, kill), func(t *testing.T) { l.deletesHeld(t, c.hooks, c.command, c.file, kill) })
		}
	}
}

// deletesHeld removes a container whose hooks hold a command up; the file says that
// they do.
func (l *lab) deletesHeld(t *testing.T, hooks specs.Hooks, command, file string, kill bool) {
	t.Helper()
	b := l.bundle("h", func(s *specs.Spec) { s.Hooks = &hooks }, "sleep", "54321")
	args := []string{command, "--bundle", b, "h"}
	if command == "start" {
		if err := l.create("h", b); err != nil {
			t.Fatal(err)
		}
		args = []string{"start", "h"}
	}
	held := l.command(args...)
	if err := held.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- held.Wait() }()
	for len(ended) == 0 && os.Remove(file) != nil {
		time.Sleep(5 * time.Millisecond)
	}
	if kill {
		if err := held.Process.Kill(); err != nil {
			t.Error(err)
		}
		<-ended
		ended <- errors.New("killed")
	}
	l.must("delete", "--force", "h")
	l.gone("h")
	if err := <-ended; err == nil {
		t.Error("the command that was held up has succeeded")
	}
	if left := processes(t, "sleep\x0054321"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestForcedDeletesAtOnce end whom a hook holds up, and not each other.
func TestForcedDeletesAtOnce(t *testing.T) {
	l := newLab(t)
	hooks := &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "echo >" + l.dir + "/hangs; exec sleep 54321"}}}}
	held := l.command("create", "--bundle", l.bundle("h", func(s *specs.Spec) { s.Hooks = hooks }, "true"), "h")
	if err := held.Start(); err != nil {
		t.Fatal(err)
	}
	for os.Remove(l.dir+"/hangs") != nil {
		time.Sleep(5 * time.Millisecond)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if out, err := l.run("delete", "--force", "h"); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	all.Wait()
	if err := held.Wait(); err == nil {
		t.Error("the command that was held up has succeeded")
	}
	l.gone("h")
}

// TestForcedDeleteByAHook ends the command whose hook it is, and not itself before
// the container is gone.
func TestForcedDeleteByAHook(t *testing.T) {
	l := newLab(t)
	script := program + " --root " + l.root + " delete --force h"
	hooks := &specs.Hooks{Poststart: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", script + "; sleep 54321"}}}}
	if err := l.create("h", l.bundle("h", func(s *specs.Spec) { s.Hooks = hooks }, "sleep", "54321")); err != nil {
		t.Fatal(err)
	}
	start := l.command("start", "h")
	if err := start.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- start.Wait() }()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the start whose hook removes the container has succeeded")
		}
	case <-time.After(time.Minute):
		t.Fatal("the start does not end")
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, err := os.Lstat(l.root + "/h"); err != nil {
			break
		}
	}
	l.gone("h")
	if left := processes(t, "sleep\x0054321"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// processes are those whose command line begins so.
func processes(t *testing.T, begin string) (out []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, _ := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if n, err := strconv.Atoi(e.Name()); err == nil && strings.HasPrefix(string(b), begin) {
			out = append(out, n)
		}
	}
	return out
}
