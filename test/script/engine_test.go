//go:build root

package script

import (
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// engine is one that runs for the tests.
type engine struct {
	cmd       *exec.Cmd
	socket    string
	images    string // directory of image archives
	bin       string // directory of Tare's programs
	docker    string // the command line
	makeImage string // the script that makes image archives
	reference bool   // dockerd
	group     string // parent of Tare's control groups
	cdi       string // directory of descriptions of devices
	plugins   string // directory of docker's plugins for builds; "": there are none
}

// programs is the directory that `make build` fills, or a copy of it.
func programs(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("TARE_TEST_BIN"); dir != "" {
		return dir
	}
	dir, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "tared")); err != nil {
		t.Fatalf("%v: run make build first", err)
	}
	return dir
}

func dockerCLI(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("docker")
	if err != nil {
		t.Fatalf("%v: run make deps first", err)
	}
	return path
}

// workdir is a short path: a socket's name may have 107 bytes.
func workdir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "tare-script-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func startTared(t *testing.T) *engine {
	t.Helper()
	return startTaredIn(t, workdir(t))
}

// startTaredIn starts an engine with its files in dir and these options.
func startTaredIn(t *testing.T, dir string, options ...string) *engine {
	t.Helper()
	bin := programs(t)
	cdi := dir + "/cdi"
	if err := os.Mkdir(cdi, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/daemon.json", []byte(`{"cdi-spec-dirs": ["`+cdi+`"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--data-root", dir + "/data", "--exec-root", dir + "/run", "--config-file", dir + "/daemon.json"}
	t.Cleanup(func() {
		if out, err := exec.Command(filepath.Join(bin, "tared"), append(args, "--uninstall")...).CombinedOutput(); err != nil {
			t.Errorf("uninstall: %v: %s", err, out)
		}
	})
	e := start(t, &engine{socket: dir + "/engine.sock", bin: bin, cdi: cdi}, dir, filepath.Join(bin, "tared"), append(append(args, "--log-level", "warn"), options...)...)
	e.group = groupOf(t, dir+"/run")
	return e
}

// startDockerd starts Debian's engine.
func startDockerd(t *testing.T) *engine {
	t.Helper()
	dir := workdir(t)
	if err := os.WriteFile(dir+"/daemon.json", []byte("{}"), 0600); err != nil {
		t.Fatal(err)
	}
	return start(t, &engine{socket: dir + "/engine.sock", bin: programs(t), reference: true}, dir, "dockerd",
		"--data-root", dir+"/data", "--exec-root", dir+"/run", "--pidfile", dir+"/pid", "--config-file", dir+"/daemon.json")
}

// start starts a program that serves the API, and stops it at the end.
func start(t *testing.T, e *engine, dir, program string, args ...string) *engine {
	t.Helper()
	log, err := os.Create(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	e.cmd = exec.Command(program, append(args, "-H", "unix://"+e.socket)...)
	e.cmd.Stdout, e.cmd.Stderr = log, log
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.stop(t, log) })
	for end := time.Now().Add(90 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if exec.Command("docker", "-H", "unix://"+e.socket, "version").Run() == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not answer", program)
		}
	}
	e.images = dir + "/images"
	script, err := filepath.Abs("../images/make.sh")
	if err != nil {
		t.Fatal(err)
	}
	e.makeImage = script
	if out, err := exec.Command(script, "busybox", e.images).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return e
}

// stop ends the engine. What a session that failed has left running goes before:
// an engine that stops leaves its containers alone.
func (e *engine) stop(t *testing.T, log *os.File) {
	if t.Failed() {
		host := []string{"-H", "unix://" + e.socket}
		ids, _ := exec.Command("docker", append(host, "ps", "-aq")...).Output()
		for _, id := range strings.Fields(string(ids)) {
			exec.Command("docker", append(host, "rm", "-f", id)...).Run()
		}
	}
	e.cmd.Process.Signal(syscall.SIGTERM)
	if err := e.cmd.Wait(); err != nil {
		t.Errorf("the engine: %v", err)
	}
	if e.reference { // dockerd leaves its bridge, and with it the subnet that ours prefers too
		_ = exec.Command("ip", "link", "del", "docker0").Run()
	}
	if !t.Failed() {
		return
	}
	if _, err := log.Seek(0, io.SeekStart); err != nil {
		t.Error(err)
	}
	text, _ := io.ReadAll(log)
	t.Logf("the engine's log:\n%s", text[max(0, len(text)-4000):])
}

func (e *engine) load(t *testing.T, name string) {
	t.Helper()
	e.output(t, "load", "-q", "-i", filepath.Join(e.images, name))
}

func (e *engine) output(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(e.docker, append([]string{"-H", "unix://" + e.socket}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// removeOf takes away what a session made: containers and images whose names begin with
// its own, and not with that of another session as well, such as exec and exec-detach.
func (e *engine) removeOf(session string) {
	host := []string{"-H", "unix://" + e.socket}
	var others []string
	for _, pattern := range []string{"testdata/", "../clients/"} {
		files, _ := filepath.Glob(pattern + session + "-*.txtar")
		for _, f := range files {
			others = append(others, strings.TrimSuffix(filepath.Base(f), ".txtar")+"-")
		}
	}
	for _, list := range [][]string{
		{"ps", "-a", "--format", "{{.Names}}", "--filter", "name=^/?" + session + "-"},
		{"images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "reference=" + session + "-*", "--filter", "reference=*/" + session + "-*"},
	} {
		out, _ := exec.Command(e.docker, append(host, list...)...).Output()
		remove := "rm"
		if list[0] == "images" {
			remove = "rmi"
		}
		objects := slices.DeleteFunc(strings.Fields(string(out)), func(name string) bool {
			return slices.ContainsFunc(others, func(o string) bool { return strings.HasPrefix(path.Base(name), o) })
		})
		if len(objects) > 0 {
			exec.Command(e.docker, append(append(host, remove, "-f"), objects...)...).Run()
		}
	}
}
