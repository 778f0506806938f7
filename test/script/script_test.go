//go:build root

// Package script runs terminal sessions (testdata/*.txtar) against a private
// engine, each with three pairs of a command line and an engine: tare and
// tared, docker and tared, docker and Debian's dockerd. A session that says
// what Tare alone does begins with `[reference] skip`.
//
// Beside testscript's own commands a session has
//
//	docker ARG...          the command line at hand
//	exits CODE docker ...  that one, which must end with this code
//	sh COMMAND             a line of shell
//	terminal FILE ARG...   the command line in a terminal; FILE says what is typed
//	poll COMMAND           repeats a line of shell until it succeeds
//
// Sessions run at the same time on one engine: the names of containers and
// images begin with the session's name, and go with it.
package script

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tare-engine/tare/test/fixture/plugin"
)

// TestMain runs the tests in a network and mount namespace of their own.
func TestMain(m *testing.M) {
	if os.Getenv("TARE_SCRIPT_BOX") == "" {
		self, err := os.Executable()
		if err != nil {
			panic(err)
		}
		args := append([]string{"-n", "-m", "--propagation", "private", "--", self}, os.Args[1:]...)
		cmd := exec.Command("unshare", args...)
		cmd.Env = append(os.Environ(), "TARE_SCRIPT_BOX=1")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		panic(string(out))
	}
	if err := os.MkdirAll(pluginSockets, 0o755); err != nil { // it is seen only by what runs here
		panic(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "tare-plugins", pluginSockets).CombinedOutput(); err != nil {
		panic(string(out))
	}
	os.Exit(m.Run())
}

// pluginSockets is where engines look for plugins.
const pluginSockets = "/run/docker/plugins"

func TestTare(t *testing.T) {
	e := startTared(t)
	run(t, e, filepath.Join(programs(t), "tare"), nil)
}

func TestDocker(t *testing.T) {
	e := startTared(t)
	run(t, e, dockerCLI(t), nil)
}

// TestReference shows that the sessions say what Docker does. That changes
// only with them, and dockerd takes three minutes: `make reference-test`.
func TestReference(t *testing.T) {
	if os.Getenv("TARE_REFERENCE") == "" {
		t.Skip("runs with make reference-test")
	}
	e := startDockerd(t)
	run(t, e, dockerCLI(t), nil)
}

// run runs the sessions of these files, nil for all, then checks that they left
// nothing behind.
func run(t *testing.T, e *engine, cli string, files []string) {
	bin := t.TempDir()
	if err := os.Symlink(cli, filepath.Join(bin, "docker")); err != nil {
		t.Fatal(err)
	}
	e.docker = filepath.Join(bin, "docker")
	e.load(t, "busybox.tar")
	sites := startRegistries(t)
	startPlugin(t)
	t.Run("sessions", func(t *testing.T) {
		dir := "testdata"
		if files != nil {
			dir = ""
		}
		testscript.Run(t, testscript.Params{
			Dir: dir, Files: files,
			Setup: func(env *testscript.Env) error {
				sites.name(env)
				return setup(env, e, bin)
			},
			Condition: func(c string) (bool, error) {
				switch c {
				case "tare":
					return filepath.Base(cli) == "tare", nil
				case "apparmor":
					b, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
					return err == nil && b[0] == 'Y', nil
				case "reference":
					return e.reference, nil
				case "stacked": // layers lie in directories of their own
					driver := e.output(t, "info", "-f", "{{.Driver}}")
					return driver == "union" || strings.HasPrefix(driver, "overlay"), nil
				case "overlay":
					return strings.HasPrefix(e.output(t, "info", "-f", "{{.Driver}}"), c), nil
				case "btrfs", "union", "vfs", "devicemapper":
					return e.output(t, "info", "-f", "{{.Driver}}") == c, nil
				}
				return false, fmt.Errorf("unknown condition %q", c)
			},
			Cmds: map[string]func(*testscript.TestScript, bool, []string){
				"docker": dockerCommand, "exits": exitsCommand, "sh": shCommand,
				"poll": pollCommand, "terminal": terminalCommand,
			},
			RequireUniqueNames: true,
		})
	})
	// A client may end before its container does.
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		left := e.output(t, "ps", "-aq")
		if left == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("containers left behind: %s", left)
		}
	}
}

// startPlugin starts the volume plugin "fixture", whose volumes are below /var/tmp.
func startPlugin(t *testing.T) *plugin.Plugin {
	t.Helper()
	p, err := plugin.Start(pluginSockets+"/fixture.sock", workdir(t), "global")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop() })
	return p
}

func setup(env *testscript.Env, e *engine, bin string) error {
	home := filepath.Join(env.WorkDir, "home")
	if err := os.Mkdir(home, 0700); err != nil {
		return err
	}
	env.Setenv("HOME", home)
	env.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	env.Setenv("DOCKER_HOST", "unix://"+e.socket)
	env.Setenv("PLUGINS", e.plugins)
	env.Setenv("SOCKET", e.socket)
	env.Setenv("ENGINE_PID", strconv.Itoa(e.cmd.Process.Pid))
	env.Setenv("IMAGES", e.images)
	env.Setenv("BIN", e.bin)
	if !e.reference {
		env.Setenv("GROUP", e.group)
		env.Setenv("CDI", e.cdi)
	}
	env.Setenv("MAKE_IMAGE", e.makeImage)
	name := strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")
	env.Defer(func() { e.removeOf(name) })
	return nil
}

// dockerCommand is `docker ARG...`.
func dockerCommand(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec("docker", args...)
	if (err != nil) != neg {
		ts.Fatalf("docker %s: %v", strings.Join(args, " "), err)
	}
}

// exitsCommand is `exits CODE PROGRAM ARG...`.
func exitsCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	code := 0
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("%s ended with %d, not %s", strings.Join(args[1:], " "), code, args[0])
	}
}

// shCommand is `sh COMMAND`.
func shCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: sh COMMAND")
	}
	if err := ts.Exec("sh", "-c", args[0]); (err != nil) != neg {
		ts.Fatalf("%s: %v", args[0], err)
	}
}

// patience is how long what must come may take: an emulated machine is ten times
// slower than this one, a loaded one as well.
const patience = time.Minute

// pollCommand is `poll COMMAND`.
func pollCommand(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: poll COMMAND")
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err := ts.Exec("sh", "-c", args[0]); (err != nil) == neg {
			return
		}
	}
	ts.Fatalf("%s: not within a minute", args[0])
}
