//go:build root

package main

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sameLines are command lines whose output, errors and exit code are the same
// from docker's command line and from ours, on one engine. %C is a running
// container, %X one that exited with code 3, %I an image.
var sameLines = []string{
	"ps -a", "ps -as", "ps -aq", "ps -a --no-trunc", "ps -l", "ps -n 1", "ps -a --format json", "ps -f status=exited", "ps -f foo=bar", "ps -f foo",
	`ps -a --format table_{{.ID}}\t{{.Names}}\t{{.Label_"a"}}`, "ps x", "ps --foo", "container ls -a",
	"images", "images -q", "images --no-trunc", "images --digests", "images --format json", "image ls", "images nosuch",
	"inspect %C", "inspect %C %I", "inspect nosuch", "inspect -f {{.State.ExitCode}} %X", "inspect -f {{json_.State}} %C", "inspect --type image nosuch", "inspect -s -f {{.SizeRw}} %X",
	"logs %X", "logs -n 1 %X", "logs nosuch", "port %C", "port %C 80", "port %C 81", "top %C -o comm", "diff %X", "diff %C", "diff nosuch", "diff", "container diff %X", "history %I", "history -q --no-trunc %I", "history --format json %I",
	"run", "run --rm %I sh -c exit_9", "run --rm %I nosuch", "run --rm %I /etc", "run -p xx %I", "run --name cmp-running %I", "run -i --rm %I cat", "run --rm -it %I sh",
	"run --pull never nosuch", "run --restart foo %I", "run --rm --restart always %I", "create --network none --network host %I",
	"create -v v:/v:ro %I", "create -v a::b %I", "create -v vv:/v: %I", "create -v :/v %I", "create -v ::: %I", "create -v /a:/b:ro:z %I", "create -v v:/v:ro:z:q %I", "create -v /a:/b:ro: %I", "create --volume= %I",
	"exec %C echo hi", "exec %C sh -c exit_4", "exec nosuch ls", "exec %X ls", "exec %C",
	"wait %X", "start nosuch", "start -a %X", "stop nosuch", "kill nosuch", "rm nosuch", "rm %C", "rm -f nosuch", "rename %C %C", "rename nosuch x", "pause nosuch", "unpause %C",
	"pull", "pull -a x:1", "pull -q nosuch.invalid/x:1", "pull nosuch.invalid/x", "push", "push -a x:1", "push nosuch.invalid/x", "image pull", "image push -q nosuch.invalid/x:1",
	"search", "search -f foo x", "search --limit x y", "login", "login -u a h", "login --password-stdin h", "login -u a -p b --password-stdin h", "logout", "logout h:5000",
	"run --rm nosuch.invalid/x:1", "create -q nosuch.invalid/x:1",
	"rmi nosuch", "rmi %I", "tag nosuch x", "tag x", "version --format {{.Server.Version}}", "system df --format json", "events --since 1m --until 0s --filter event=create --format {{.Action}}", "events -f foo",
	"export nosuch", "save nosuch", "save -o /nosuch/x %I", "commit nosuch", "commit -c RUN_x %X", "commit", "save", "export", "import", "import /nosuch",
	"manifest create x", "manifest create UP x", "manifest inspect UP", "manifest inspect h.x/x h.x/y", "manifest annotate x UP", "manifest annotate x y", "manifest push h.x/nosuch", "manifest rm h.x/nosuch UP", "manifest rm",
	"plugin ls", "plugin ls -q", "plugin ls --no-trunc --format json", "plugin ls -f foo=bar", "plugin inspect cmp/plugin", "plugin inspect nosuch", "plugin enable nosuch", "plugin disable nosuch",
	"plugin rm nosuch", "plugin set nosuch a=b", "plugin set cmp/plugin DEBUG=1", "plugin install", "plugin install UP", "plugin push nosuch", "plugin push a@b", "plugin upgrade nosuch", "plugin create x", "plugin create x /nosuch", "plugin create x /etc", "inspect --type plugin nosuch",
	"checkpoint ls %C", "checkpoint create %C x", "checkpoint rm %C x", "start --checkpoint x %X", "image rmi nosuch",
	"context show", "foo", "container foo", "--bogus", "help nosuch",
}

// TestOutputIsDockers runs both command lines against Debian's dockerd.
func TestOutputIsDockers(t *testing.T) {
	host := startDockerd(t)
	docker := func(args ...string) result { return commandLine(t, "docker", host, args) }
	load(t, host)
	if r := docker("run", "-d", "--name", "cmp-running", "-l", "a=b", "-p", "8080:80", "cmp/busybox", "sleep", "1000"); r.code != 0 {
		t.Fatal(r.err)
	}
	docker("run", "--name", "cmp-exited", "cmp/busybox", "sh", "-c", "echo out; echo err >&2; exit 3")
	t.Cleanup(func() { docker("rm", "-f", "cmp-running", "cmp-exited") })
	makePlugin(t, host)
	names := strings.NewReplacer("%C", "cmp-running", "%X", "cmp-exited", "%I", "cmp/busybox", "_", " ")
	for _, line := range sameLines {
		args := strings.Fields(line)
		for i := range args {
			args[i] = names.Replace(args[i])
		}
		t.Run(line, func(t *testing.T) {
			var diff string
			for range 3 { // "5 seconds ago" may change in between
				want := docker(args...)
				want.err = regexp.MustCompile(`\bdocker\b`).ReplaceAllString(want.err, "tare")
				got := tare(t, host, "", args...)
				if diff = cmp.Diff(want, got, cmp.AllowUnexported(result{})); diff == "" {
					return
				}
			}
			t.Errorf("-docker +tare:\n%s", diff)
		})
	}
}

// makePlugin has our command line make a plugin, which is a directory with a socket
// that nobody serves.
func makePlugin(t *testing.T, host string) {
	t.Helper()
	dir := t.TempDir()
	config := `{"description":"A plugin\nof tests whose description is longer than what is shown","env":[{"name":"DEBUG","settable":["value"],"value":"0"}],
		"interface":{"types":["docker.volumedriver/1.0"],"socket":"x.sock"}}`
	if err := os.MkdirAll(dir+"/rootfs/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/config.json", []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, line := range [][]string{{"plugin", "create", "cmp/gone", dir}, {"plugin", "rm", "cmp/gone"}, {"plugin", "create", "cmp/plugin", dir}} {
		if r := tare(t, host, "", line...); r.code != 0 || r.out != line[len(line)-1]+"\n" && r.out != line[len(line)-2]+"\n" {
			t.Fatalf("%q: %+v", line, r)
		}
	}
}

// commandLine runs another program's command line.
func commandLine(t *testing.T, name, host string, args []string) result {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+host, "DOCKER_CONFIG="+t.TempDir())
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return result{out.String(), errOut.String(), cmd.ProcessState.ExitCode()}
}

// load makes an image of busybox.
func load(t *testing.T, host string) {
	t.Helper()
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal("install busybox-static: ", err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, dir := range []string{"bin/", "etc/"} {
		w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755})
	}
	w.WriteHeader(&tar.Header{Name: "bin/busybox", Mode: 0o755, Size: int64(len(program))})
	w.Write(program)
	for _, name := range []string{"sh", "echo", "cat", "sleep", "ls"} {
		w.WriteHeader(&tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox"})
	}
	w.Close()
	cmd := exec.Command("docker", "import", "-c", "CMD sh", "-", "cmp/busybox")
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+host)
	cmd.Stdin = io.Reader(&b)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// cgroupParent is where the containers' control groups are made, so that what
// is left can be told from others'.
const cgroupParent = "tare-compare"

// startDockerd starts a private engine in namespaces of its own.
func startDockerd(t *testing.T) (host string) {
	t.Helper()
	if _, err := exec.LookPath("dockerd"); err != nil {
		t.Fatal("install docker.io: ", err)
	}
	dir, err := os.MkdirTemp("", "dockerd")
	if err != nil {
		t.Fatal(err)
	}
	host = "unix://" + dir + "/s"
	script := `ip link set lo up && exec dockerd -H ` + host + ` --data-root ` + dir + `/data --exec-root ` + dir + `/run --pidfile ` + dir + `/pid --cgroup-parent ` + cgroupParent
	cmd := exec.Command("unshare", "-n", "-m", "sh", "-c", script)
	log, err := os.Create(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		left, _ := filepath.Glob("/sys/fs/cgroup/*/" + cgroupParent)
		for _, g := range append(left, "/sys/fs/cgroup/"+cgroupParent) {
			os.Remove(g)
		}
		os.RemoveAll(dir)
	})
	for range 600 {
		if commandLine(t, "docker", host, []string{"version"}).code == 0 {
			return host
		}
		time.Sleep(100 * time.Millisecond)
	}
	text, _ := os.ReadFile(dir + "/log")
	t.Fatalf("dockerd does not answer: %s", text)
	return ""
}
