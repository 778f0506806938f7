//go:build root

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// program is the runtime under test, and probe the enemy in a container. Both are
// built once.
var program, probe string

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == notifier {
		os.Exit(notify(os.Args[2:]))
	}
	if dir := os.Getenv("TARE_TEST_BIN"); dir != "" { // where there is no compiler
		program, probe = filepath.Join(dir, "tare-runtime"), filepath.Join(dir, "probe")
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", "tare-runtime")
	if err == nil {
		program, probe = filepath.Join(dir, "tare-runtime"), filepath.Join(dir, "probe")
		err = errors.Join(build(program, "."), build(probe, "../../test/probe"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func build(to, from string) error {
	cmd := exec.Command("go", "build", "-o", to, from)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// lab is a root of containers with one root file system for bundles.
type lab struct {
	t              testing.TB
	dir, root      string
	rootfs, parent string // of cgroups
}

func newLab(t testing.TB) *lab {
	t.Helper()
	dir := t.TempDir()
	l := &lab{t: t, dir: dir, root: dir + "/run", rootfs: dir + "/rootfs", parent: fmt.Sprintf("oci-test-%d", os.Getpid())}
	for _, d := range []string{"bin", "etc", "tmp", "dev", "proc", "sys", "m"} {
		if err := os.MkdirAll(filepath.Join(l.rootfs, d), 0755); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal("busybox-static must be installed:", err)
	}
	if err := os.WriteFile(l.rootfs+"/bin/busybox", b, 0755); err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields("sh cat ls id mount hostname readlink stat echo grep head tty sleep true false kill ip pwd touch mknod uname") {
		if err := os.Symlink("busybox", l.rootfs+"/bin/"+name); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(l.clean)
	return l
}

// clean removes what is left, and fails if anything of the cgroups stays.
func (l *lab) clean() {
	entries, _ := os.ReadDir(l.root)
	for _, e := range entries {
		if out, err := l.run("delete", "--force", e.Name()); err != nil {
			l.t.Errorf("delete %s: %v: %s", e.Name(), err, out)
		}
	}
	for _, p := range l.cgroups("") {
		if err := os.Remove(p); err != nil {
			l.t.Errorf("cgroup stays: %v", err)
		}
	}
}

// cgroups are the directories of a container's cgroup, or of the parent.
func (l *lab) cgroups(id string) []string {
	a, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", l.parent, id))
	b, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup", l.parent, id))
	return append(a, b...)
}

func (l *lab) command(args ...string) *exec.Cmd {
	cmd := exec.Command(program, append([]string{"--root", l.root}, args...)...)
	cmd.Dir = l.dir
	return cmd
}

func (l *lab) run(args ...string) (string, error) {
	b, err := l.command(args...).CombinedOutput()
	return string(b), err
}

func (l *lab) must(args ...string) string {
	l.t.Helper()
	out, err := l.run(args...)
	if err != nil {
		l.t.Fatalf("%v: %v: %s", args, err, out)
	}
	return out
}

// fails expects a failure whose text contains want.
func (l *lab) fails(want string, args ...string) {
	l.t.Helper()
	out, err := l.run(args...)
	if err == nil || !strings.Contains(out, want) {
		l.t.Errorf("%v: %v: got %q, want %q", args, err, out, want)
	}
}

// create makes a container: its process would hold the pipes of its output.
func (l *lab) create(id, bundle string, global ...string) error {
	cmd := l.command(append(global, "create", "--bundle", bundle, id)...)
	errs, err := os.CreateTemp(l.dir, "stderr")
	if err != nil {
		l.t.Fatal(err)
	}
	defer errs.Close()
	cmd.Stderr = errs
	if err := cmd.Run(); err != nil {
		b, _ := os.ReadFile(errs.Name())
		return errors.Join(err, errors.New(string(b)))
	}
	return nil
}

func (l *lab) state(id string) (s struct {
	Pid    int
	Status string
}) {
	l.t.Helper()
	if err := json.Unmarshal([]byte(l.must("state", id)), &s); err != nil {
		l.t.Fatal(err)
	}
	return s
}

// await waits for a status that comes without our doing.
func (l *lab) await(id, status string) {
	l.t.Helper()
	for range 500 {
		if l.state(id).Status == status {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	l.t.Fatalf("%s does not become %s", id, status)
}

// bundle writes a bundle that runs the arguments, as changed.
func (l *lab) bundle(id string, change func(*specs.Spec), args ...string) string {
	l.t.Helper()
	s := exampleSpec()
	s.Process.Terminal, s.Process.Args, s.Process.Env = false, args, []string{"PATH=/bin"}
	s.Root = &specs.Root{Path: l.rootfs}
	s.Linux.CgroupsPath = "/" + l.parent + "/" + id
	if change != nil {
		change(s)
	}
	b, err := json.Marshal(s)
	if err != nil {
		l.t.Fatal(err)
	}
	dir := filepath.Join(l.dir, "bundle-"+id)
	if err := os.MkdirAll(dir, 0755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/config.json", b, 0600); err != nil {
		l.t.Fatal(err)
	}
	return dir
}

// withProbe puts the probe into the root file system, at /bin/probe.
func (l *lab) withProbe() {
	l.t.Helper()
	b, err := os.ReadFile(probe)
	if err == nil {
		err = os.WriteFile(l.rootfs+"/bin/probe", b, 0755)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// sh runs a shell script in a container and returns its output.
func (l *lab) sh(id string, change func(*specs.Spec), script string) string {
	l.t.Helper()
	return l.must("run", "--bundle", l.bundle(id, change, "sh", "-c", script), id)
}

// gone fails if anything is left of a container.
func (l *lab) gone(id string) {
	l.t.Helper()
	if _, err := os.Lstat(l.root + "/" + id); err == nil {
		l.t.Errorf("%s: the record stays", id)
	}
	if dirs := l.cgroups(id); len(dirs) > 0 {
		l.t.Errorf("%s: %v stay", id, dirs)
	}
}
