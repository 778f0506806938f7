//go:build root

package main

import (
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestContainment is the intruder: it starts containers on a private engine and
// tries from inside and from outside what must be refused or hidden.
func TestContainment(t *testing.T) {
	e := newEngine(t)
	for _, c := range []struct {
		name string
		run  func(*testing.T, *engine)
	}{
		{"walls", testWalls}, {"matrix", testMatrix}, {"exec is not exposed", testExecExposure}, {"join is not exposed", testJoinExposure}, {"engine's program", testOwnProgram},
		{"users", testUsers}, {"links in images", testLinks}, {"volumes over links", testVolumesOverLinks}, {"devices in images", testDevicesOfImages}, {"host's settings", testHostSettings},
		{"long arguments", testLongArguments}, {"working directories", testDirectories}, {"keeper", testKeeper},
		{"modes", testModes}, {"bombs", testBombs}, {"shared volume", testSharedVolume}, {"tcp", testTCP},
	} {
		t.Run(c.name, func(t *testing.T) {
			e.t = t
			c.run(t, e)
		})
	}
	e.t = t
}

func hostNamespaces(t *testing.T) []string {
	var out []string
	for _, k := range []string{"pid", "net", "mnt", "ipc", "uts", "cgroup"} {
		l, err := os.Readlink("/proc/self/ns/" + k)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, l)
	}
	return out
}

// testWalls runs all of the probe's checks in each kind of ordinary container.
func testWalls(t *testing.T, e *engine) {
	ns := hostNamespaces(t)
	l, err := net.Listen("unix", "@tare-probe-canary") // the probe's own check must be able to fail
	if err != nil {
		t.Fatal(err)
	}
	if out, _ := e.run([]string{"--rm", "--network", "host"}, append([]string{"/probe", "contain", "-nethost"}, ns...)...); !strings.Contains(out, "abstract @tare-probe-canary") {
		t.Errorf("a hole was not seen: %s", out)
	}
	l.Close()
	for _, c := range []struct {
		options []string
		probe   []string
	}{
		{nil, nil},
		{[]string{"--user", "1000"}, []string{"-uid", "1000"}},
		{[]string{"--read-only", "--tmpfs", "/tmp"}, nil},
		{[]string{"--network", "host"}, []string{"-nethost"}},
		{[]string{"--init"}, []string{"-exec"}},
	} {
		args := append(append([]string{"/probe", "contain"}, c.probe...), ns...)
		if out, err := e.run(append([]string{"--rm"}, c.options...), args...); err != nil || out != "" {
			t.Errorf("%q: %v\n%s", c.options, err, out)
		}
	}
	e.must("run", "-d", "--name", "box", "--rootfs", e.path("root"), "/probe", "sleep")
	defer e.tare("rm", "-f", "box")
	if out, err := e.tare(append([]string{"exec", "box", "/probe", "contain", "-exec"}, ns...)...); err != nil || out != "" {
		t.Errorf("exec: %v\n%s", err, out)
	}
	line := fmt.Sprintf("%s -H unix://%s run --rm -t --rootfs %s /probe contain -tty %s", e.path("bin/tare"), e.path("run/tared.sock"), e.path("root"), strings.Join(ns, " "))
	out, err := exec.Command("script", "-qec", line, "/dev/null").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("terminal: %v\n%s", err, out)
	}
}

// testMatrix: each option gives what it says and no more.
func testMatrix(t *testing.T, e *engine) {
	e.write("profile.json", `{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X32"],"syscalls":[{"names":["keyctl"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}`)
	none := "0000000000000000"
	for _, c := range []struct {
		options string
		want    []string
		not     []string
	}{
		{"", []string{"CapEff=" + dockerCaps, "NoNewPrivs=0", "Seccomp=2", "calls=\n", "core_pattern=false", "root=true"}, []string{"opens="}},
		{"--cap-add SYS_ADMIN", []string{"CapEff=00000000a82425fb", "mount,", "bpf,", "core_pattern=false"}, []string{"io_uring", "keyctl", "open_by_handle_at", "opens="}},
		{"--cap-add ALL", []string{"core_pattern=false"}, []string{"io_uring", "keyctl", "userfaultfd", "opens="}},
		{"--cap-drop ALL", []string{"CapEff=" + none, "CapBnd=" + none, "calls=\n"}, nil},
		{"--cap-drop ALL --cap-add CHOWN", []string{"CapEff=0000000000000001", "CapBnd=0000000000000001"}, nil},
		{"--user 1000:1000 --security-opt no-new-privileges", []string{"CapEff=" + none, "CapBnd=" + dockerCaps, "NoNewPrivs=1", "Groups=1000\n"}, nil},
		{"--user 1000", []string{"uid=1000 gid=0"}, nil},
		{"--read-only", []string{"root=false"}, nil},
		{"--security-opt seccomp=unconfined", []string{"Seccomp=0", "io_uring_setup", "CapEff=" + dockerCaps, "core_pattern=false"}, []string{"open_by_handle_at", "opens="}},
		{"--security-opt seccomp=" + e.path("profile.json"), []string{"Seccomp=2", "io_uring_setup", "keyring=-1"}, []string{"keyctl,"}},
		{"--privileged", []string{"Seccomp=0", "NoNewPrivs=0", "mount,", "core_pattern=true"}, nil},
	} {
		out, err := e.run(append([]string{"--rm"}, strings.Fields(c.options)...), "/probe", "facts")
		if err != nil {
			t.Errorf("%s: %v\n%s", c.options, err, out)
		}
		for _, w := range append(c.want, "CapInh="+none, "CapAmb="+none) {
			if !strings.Contains(out+"\n", w) {
				t.Errorf("%s: no %q in\n%s", c.options, w, out)
			}
		}
		for _, n := range c.not {
			if strings.Contains(out, n) {
				t.Errorf("%s: %q in\n%s", c.options, n, out)
			}
		}
	}
	keyring := func() string {
		out, _ := e.run([]string{"--rm", "--security-opt", "seccomp=unconfined"}, "/probe", "facts")
		_, rest, _ := strings.Cut(out, "keyring=")
		return strings.Fields(rest + " -")[0]
	}
	if a, b := keyring(), keyring(); a == b {
		t.Errorf("two containers have the session keyring %s", a)
	}
}

// testExecExposure: a container with CAP_SYS_PTRACE looks at all that appears
// in it while processes are started there; and one that stops all it sees
// delays only its own execs.
func testExecExposure(t *testing.T, e *engine) {
	watched(t, e, 75, nil, []string{"watch"}, "exec", "watcher", "/probe", "true")
}

// testJoinExposure: the same by root of a user namespace in which others are born
// that join its PID namespace.
func testJoinExposure(t *testing.T, e *engine) {
	watched(t, e, 20, []string{"--userns", "auto"}, []string{"watch", "joined"}, "run", "--rm", "--userns", "auto", "--pid", "container:watcher", "--rootfs", e.path("root"), "/probe", "true")
}

// watched does something by four at once, so many times each, while a container
// made with these options watches, as the probe's arguments say.
func watched(t *testing.T, e *engine, times int, options, watches []string, args ...string) {
	watch := append([]string{"-H", "unix://" + e.path("run/tared.sock"), "run", "--rm", "-i", "--name", "watcher", "--cap-add", "SYS_PTRACE", "--rootfs", e.path("root")}, options...)
	cmd := exec.Command(e.path("bin/tare"), append(append(watch, "/probe"), watches...)...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if s, _ := e.tare("ps", "-q", "--filter", "name=watcher"); s != "" {
			break
		}
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range times {
				if out, err := e.tare(args...); err != nil {
					t.Errorf("%s: %v %s", args[0], err, out)
					return
				}
			}
		})
	}
	wg.Wait()
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v", err)
	}
	if strings.Contains(out.String(), "HOLE") || !strings.Contains(out.String(), "watched") {
		t.Error(out.String())
	}
	t.Log(out.String())
}

// testOwnProgram: a container whose program is /proc/self/exe runs the keeper's
// and cannot write to it.
func testOwnProgram(t *testing.T, e *engine) {
	sums := func() (s []string) {
		for _, n := range []string{"tared", "tare-keeper", "tare-init"} {
			b, err := os.ReadFile(e.path("bin/" + n))
			if err != nil {
				t.Fatal(err)
			}
			s = append(s, fmt.Sprintf("%x", sha256.Sum256(b)))
		}
		return s
	}
	before := sums()
	// The keeper cannot serve in a container and ends soon, so the tries are made
	// where process 1 is the engine's other program.
	if out, err := e.run([]string{"--rm"}, "/proc/self/exe", "--exec-root", "/tmp/x"); err == nil {
		t.Errorf("/proc/self/exe: %s", out)
	}
	e.must("run", "-d", "--name", "own", "--init", "--rootfs", e.path("root"), "/probe", "sleep")
	defer e.tare("rm", "-f", "own")
	if out, err := e.tare("exec", "own", "/probe", "overwrite", "1000"); err != nil {
		t.Errorf("%v %s", err, out)
	}
	if after := sums(); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("programs were %v, are %v", before, after)
	}
	for _, pid := range keepers(e.path("run")) {
		f, err := os.OpenFile(fmt.Sprintf("/proc/%d/exe", pid), os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if _, err := f.Write([]byte{0}); err == nil {
			t.Error("the keeper's program can be written to")
		}
		f.Close()
	}
}

// root makes another root directory.
func (e *engine) root(t *testing.T, change func(dir string) error) string {
	t.Helper()
	dir, err := os.MkdirTemp(e.dir, "root-")
	if err != nil {
		t.Fatal(err)
	}
	e.command("cp", e.path("root/probe"), dir+"/probe")
	if err := os.Mkdir(dir+"/tmp", 0777); err != nil {
		t.Fatal(err)
	}
	if err := change(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// testUsers: files of an image cannot hold a start up, nor say who a number is.
func testUsers(t *testing.T, e *engine) {
	for name, place := range map[string]func(path string) error{
		"FIFO":   func(p string) error { return syscall.Mkfifo(p, 0644) },
		"huge":   func(p string) error { return firstOf(os.WriteFile(p, nil, 0644), os.Truncate(p, 1<<30)) },
		"zeros":  func(p string) error { return os.Symlink("/dev/zero", p) },
		"host's": func(p string) error { return os.Symlink("../../../../../../etc/shadow", p) },
		"loop":   func(p string) error { return os.Symlink(filepath.Base(p), p) },
		"dir":    func(p string) error { return os.Mkdir(p, 0755) },
	} {
		dir := e.root(t, func(dir string) error {
			return firstOf(os.Mkdir(dir+"/etc", 0755), place(dir+"/etc/passwd"), place(dir+"/etc/group"))
		})
		for _, user := range []string{"0", "root", "5:5", "5:wheel"} {
			begun := time.Now()
			e.tare("run", "--rm", "--user", user, "--rootfs", dir, "/probe", "true")
			if d := time.Since(begun); d > 20*time.Second { // it would hang for ever
				t.Errorf("%s, user %s: %v", name, user, d)
			}
		}
	}
	for _, user := range []string{"4294967296", "-1", "2147483648"} {
		if out, err := e.run([]string{"--rm", "--user", user}, "/probe", "facts"); err == nil {
			t.Errorf("user %s: %s", user, out)
		}
	}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// testLinks: links of an image lead nowhere else.
func testLinks(t *testing.T, e *engine) {
	canary := e.path("canary")
	if err := os.Mkdir(canary, 0777); err != nil {
		t.Fatal(err)
	}
	up := "../../../../../../../../../.." + canary
	for _, name := range []string{"dev", "proc", "sys"} {
		for _, to := range []string{"tmp", canary, up} {
			dir := e.root(t, func(dir string) error { return os.Symlink(to, dir+"/"+name) })
			if out, err := e.tare("run", "--rm", "--rootfs", dir, "/probe", "true"); err == nil || !strings.Contains(out, "must be mounted on ordinary directory") {
				t.Errorf("/%s -> %s: %v %s", name, to, err, out)
			}
		}
	}
	for _, to := range []string{canary, up} {
		dir := e.root(t, func(dir string) error {
			return firstOf(os.Symlink(to, dir+"/etc"), os.Symlink(to, dir+"/vol"), os.Symlink("/proc", dir+"/p"))
		})
		if out, err := e.tare("run", "--rm", "-w", "/vol/work", "-v", e.path("root/tmp")+":/vol/a/b", "--rootfs", dir, "/probe", "true"); err != nil {
			t.Errorf("%v %s", err, out)
		}
		for _, m := range []string{"/p", "/p/sys", "/proc", "/proc/sys", "/p/../p/1"} {
			if out, err := e.tare("run", "--rm", "-v", e.path("root/tmp")+":"+m, "--rootfs", dir, "/probe", "true"); err == nil {
				t.Errorf("mounted at %s: %s", m, out)
			}
		}
	}
	if left, _ := os.ReadDir(canary); len(left) > 0 {
		t.Errorf("outside: %v", left)
	}
}

// testVolumesOverLinks: CVE-2022-23648. What a volume gets of the image is the image's,
// whatever links the image has where the volume is mounted; and a part of a volume
// lies in it.
func testVolumesOverLinks(t *testing.T, e *engine) {
	canary := e.path("volume-canary")
	if err := firstOf(os.MkdirAll(canary+"/sub", 0777), os.WriteFile(canary+"/secret", nil, 0666), os.WriteFile(canary+"/sub/secret", nil, 0666)); err != nil {
		t.Fatal(err)
	}
	up := "../../../../../../../../../.." + canary
	for _, to := range []string{canary, up, "/proc/self/root" + canary, "loop"} {
		dir := e.root(t, func(dir string) error { return firstOf(os.Symlink(to, dir+"/vol"), os.Symlink("loop", dir+"/loop")) })
		for _, at := range []string{"/vol", "/vol/sub", "/vol/../vol/sub"} {
			// Such a container starts or not: there is nothing at the end of the link.
			out, _ := e.tare("run", "--rm", "-v", "stolen:"+at, "--rootfs", dir, "/probe", "true")
			if list, err := os.ReadDir(e.path("data/volumes/stolen/_data")); len(list) > 0 || err != nil && !os.IsNotExist(err) {
				t.Errorf("%s -> %s: the volume has %v, %v\n%s", at, to, list, err, out)
			}
			e.tare("volume", "rm", "-f", "stolen")
		}
	}
	if _, err := e.tare("volume", "create", "parts"); err != nil {
		t.Fatal(err)
	}
	links := e.path("data/volumes/parts/_data/")
	if err := firstOf(os.Symlink(canary, links+"absolute"), os.Symlink(up, links+"up"), os.Symlink("/proc/self/root"+canary, links+"magic")); err != nil {
		t.Fatal(err)
	}
	dir := e.root(t, func(string) error { return nil })
	for _, part := range []string{"absolute", "up", "magic", "absolute/sub", "up/secret"} {
		out, err := e.tare("run", "--rm", "--mount", "type=volume,src=parts,dst=/x,volume-subpath="+part, "--rootfs", dir, "/probe", "true")
		if err == nil || !strings.Contains(out, "cannot access path") {
			t.Errorf("%s: %v %s", part, err, out)
		}
	}
	if out, err := e.tare("volume", "rm", "parts"); err != nil {
		t.Error(err, out)
	}
	if left, _ := os.ReadDir(canary); len(left) != 2 {
		t.Errorf("outside: %v", left)
	}
}

// testDevicesOfImages: CVE-2025-31133 and CVE-2025-52565. Devices of an image are
// links to files of procfs, which masks would otherwise be made of.
func testDevicesOfImages(t *testing.T, e *engine) {
	for _, to := range []string{"/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "../../../../../.." + e.path("root/etc/passwd"), "/proc/self/fd/3"} {
		dir := e.root(t, func(dir string) error {
			err := os.Mkdir(dir+"/dev", 0755)
			for _, name := range []string{"null", "zero", "console", "tty", "ptmx", "shm"} {
				err = firstOf(err, os.Symlink(to, dir+"/dev/"+name))
			}
			return err
		})
		for _, o := range [][]string{nil, {"--read-only", "--tmpfs", "/tmp"}} {
			args := append([]string{"run", "--rm", "--rootfs", dir}, o...)
			if out, err := e.tare(append(append(args, "/probe", "contain"), hostNamespaces(t)...)...); err != nil || out != "" {
				t.Errorf("devices -> %s, %q: %v\n%s", to, o, err, out)
			}
		}
	}
}

// testHostSettings: what a request can set is its container's, or is refused before
// anything is done.
func testHostSettings(t *testing.T, e *engine) {
	settings := func() string {
		t.Helper()
		var all string
		for _, name := range []string{"kernel/core_pattern", "kernel/shmmax", "kernel/pid_max", "vm/overcommit_memory"} {
			b, err := os.ReadFile("/proc/sys/" + name)
			if err != nil {
				t.Fatal(err)
			}
			all += name + "=" + string(b)
		}
		return all
	}
	before := settings()
	for _, option := range []string{
		"--sysctl=kernel.core_pattern=|/probe", "--sysctl=net/../kernel.core_pattern=x", "--sysctl=net.ipv4.ip_forward=1\nkernel.pid_max=400",
		"--sysctl=kernel.shmmax=1\n2", "--sysctl=vm.overcommit_memory=2", "--sysctl=kernel.shm_rmid_forced+x=1", "--sysctl=net.ipv4/../../kernel/pid_max=400",
		"-v/:/h:z", "-v/etc:/h:Z", "-v/usr/../etc/:/h:ro,z", "-v/proc:/h:z",
	} {
		if out, err := e.tare("create", "--rootfs", e.path("root"), option, "/probe"); err == nil || !strings.Contains(out, "sysctl") && !strings.Contains(out, "SELinux relabeling of") {
			t.Errorf("%q: %v %s", option, err, out)
		}
	}
	if out, err := e.run([]string{"--rm", "--sysctl", "kernel.shmmax=4096"}, "/probe", "true"); err != nil {
		t.Errorf("a setting of its own: %v %s", err, out)
	}
	if after := settings(); after != before {
		t.Errorf("before:\n%safter:\n%s", before, after)
	}
}

// testLongArguments: CVE-2021-43784. What is too long for the kernel is refused, and
// lengths do not wrap.
func testLongArguments(t *testing.T, e *engine) {
	long := strings.Repeat("x", 100_000)
	for _, c := range []struct {
		n    int
		good bool
	}{{10, true}, {60, false}} {
		var body strings.Builder
		for i := range c.n {
			fmt.Fprintf(&body, "V%d=%s\n", i, long)
		}
		e.write("long.env", body.String())
		out, err := e.run([]string{"--rm", "--env-file", e.path("long.env")}, "/probe", "true")
		if err == nil != c.good {
			t.Errorf("%d variables of 100,000 bytes: %v %.300s", c.n, err, out)
		}
	}
	if out, err := e.run([]string{"--rm"}, "/probe", "true"); err != nil {
		t.Errorf("after it: %v %s", err, out)
	}
}

// testDirectories: CVE-2024-21626, run and exec.
func testDirectories(t *testing.T, e *engine) {
	e.must("run", "-d", "--name", "dirs", "--rootfs", e.path("root"), "/probe", "sleep")
	defer e.tare("rm", "-f", "dirs")
	for _, n := range []int{3, 4, 5, 7, 8, 9, 10, 12} {
		for _, tail := range []string{"", "/..", "/../../.."} {
			dir := fmt.Sprintf("/proc/self/fd/%d%s", n, tail)
			if out, err := e.run([]string{"--rm", "-w", dir}, "/probe", "true"); err == nil && tail == "" {
				t.Errorf("run -w %s: %s", dir, out)
			}
			if out, err := e.tare("exec", "-w", dir, "dirs", "/probe", "true"); err == nil && tail == "" {
				t.Errorf("exec -w %s: %s", dir, out)
			}
		}
	}
}

// testKeeper: a container that has the exec root cannot command the keeper.
func testKeeper(t *testing.T, e *engine) {
	for _, o := range [][]string{{"-v", e.path("run") + ":/r"}, {"-v", e.path("run") + ":/r", "--privileged"}, {"-v", e.path("run") + ":/r", "--network", "host"}, {"-v", e.path("run") + ":/r", "--pid", "host"}} {
		out, err := e.run(append([]string{"--rm"}, o...), "/probe", "keeper", "/r/keeper/keeper.sock")
		if err != nil || !strings.Contains(out, "refused") {
			t.Errorf("%q: %v %s", o, err, out)
		}
	}
}

// testModes: other users of the host see nothing of the engine's.
func testModes(t *testing.T, e *engine) {
	for _, root := range []string{e.path("data"), e.path("run")} {
		filepath.Walk(root, func(p string, st os.FileInfo, err error) error {
			if err != nil {
				return nil
			}
			if strings.Contains(p, "/layers/") && st.IsDir() && st.Mode().Perm()&0077 == 0 {
				return filepath.SkipDir // an image's own files, behind a closed door
			}
			limit := os.FileMode(0600)
			switch {
			case st.IsDir():
				limit = 0710
			case st.Mode()&os.ModeSocket != 0:
				limit = 0660
			}
			if strings.Contains(p, "/containers/") || st.Mode()&os.ModeSymlink != 0 {
				return nil // what a container writes, or is shown
			}
			if extra := st.Mode().Perm() &^ limit; extra != 0 {
				t.Errorf("%s has mode %v", p, st.Mode())
			}
			return nil
		})
	}
	out, _ := exec.Command("su", "-s", "/bin/sh", "nobody", "-c", "ls -d "+e.path("data")+"/* "+e.path("run")+"/* "+e.path("run/keeper")+"; find "+e.path("data")+" "+e.path("run")+" -mindepth 1").CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, "ermission denied") && !strings.Contains(line, "annot access") && strings.TrimSpace(line) != "" {
			t.Errorf("nobody sees %s", line)
		}
	}
}

// testBombs: a fork bomb and a memory bomb stay in their containers.
func testBombs(t *testing.T, e *engine) {
	e.must("run", "-d", "--name", "speaker", "--rootfs", e.path("root"), "/probe", "speak")
	defer e.tare("rm", "-f", "speaker", "forks", "memory")
	e.must("run", "-d", "--name", "forks", "--pids-limit", "60", "--rootfs", e.path("root"), "/probe", "forks")
	for end := time.Now().Add(time.Minute); !strings.Contains(e.must("logs", "forks"), "stopped after"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("forks: %s", e.must("logs", "forks"))
		}
	}
	begun := time.Now()
	e.must("exec", "speaker", "/probe", "true")
	if _, err := e.run([]string{"--rm"}, "/probe", "true"); err != nil || time.Since(begun) > time.Minute {
		t.Errorf("beside a fork bomb: %v after %v", err, time.Since(begun))
	}
	if out, err := e.run([]string{"--name", "memory", "-m", "48m"}, "/probe", "memory", "400"); err == nil {
		t.Errorf("memory: %s", out)
	}
	if out := e.must("inspect", "--format", "{{.State.OOMKilled}} {{.State.ExitCode}}", "memory"); out != "true 137" {
		t.Errorf("memory: %s", out)
	}
	if out := e.must("inspect", "--format", "{{.State.Running}} {{.State.OOMKilled}}", "speaker"); out != "true false" {
		t.Errorf("speaker: %s", out)
	}
}

// testSharedVolume: CVE-2021-30465. One container swaps a directory of a volume
// for a link out of it while others mount there.
func testSharedVolume(t *testing.T, e *engine) {
	for _, d := range []string{"shared/a/b", "elsewhere"} {
		if err := os.MkdirAll(e.path(d), 0777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../../../../../../.."+e.path("elsewhere"), e.path("shared/c")); err != nil {
		t.Fatal(err)
	}
	e.must("run", "-d", "--name", "swapper", "-v", e.path("shared")+":/v", "--rootfs", e.path("root"), "/probe", "swap", "/v/a", "/v/c")
	defer e.tare("rm", "-f", "swapper")
	for range 40 {
		e.run([]string{"--rm", "-v", e.path("shared") + ":/v", "--tmpfs", "/v/a/b", "-w", "/v/a/new"}, "/probe", "true")
	}
	if left, _ := os.ReadDir(e.path("elsewhere")); len(left) > 0 {
		t.Errorf("outside: %v", left)
	}
}

// testTCP: the API does not open to the network by accident.
func testTCP(t *testing.T, e *engine) {
	for _, host := range []string{"tcp://127.0.0.1:0", "tcp://0.0.0.0:0"} {
		cmd := exec.Command("timeout", "5", e.path("bin/tared"), "-H", host, "--data-root", e.path("d2"), "--exec-root", e.path("r2"))
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "--insecure-tcp") {
			t.Errorf("%s: %v %s", host, err, out)
		}
	}
}
