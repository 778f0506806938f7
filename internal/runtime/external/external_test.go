package external

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/keeper/wire"
	"github.com/tare-engine/tare/internal/linux/spawn"
	"github.com/tare-engine/tare/internal/runtime"
)

// program is a runtime that notes its arguments and does what body says.
func program(t *testing.T, body string) (Runtime, func() string) {
	t.Helper()
	dir := t.TempDir()
	path, said := filepath.Join(dir, "rt"), filepath.Join(dir, "args")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho \"$@\" >> "+said+"\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return Runtime{Name: "rt", Path: path, Args: []string{"--own"}}, func() string {
		b, err := os.ReadFile(said)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

func newContainer(t *testing.T, r Runtime) (Home, *Container) {
	t.Helper()
	h := Home(t.TempDir())
	c, err := h.New(r, "c1")
	if err != nil {
		t.Fatal(err)
	}
	return h, c
}

func TestCommands(t *testing.T) {
	r, said := program(t, "")
	h, c := newContainer(t, r)
	limit := int64(7)
	for _, err := range []error{c.Kill(syscall.SIGTERM), c.Pause(), c.Resume(), c.Update(&specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &limit}})} {
		if err != nil {
			t.Error(err)
		}
	}
	global := "--own --root " + string(h) + "/runtimes/rt --log " + string(h) + "/bundles/c1/log.json --log-format json "
	want := global + "kill c1 15\n" + global + "pause c1\n" + global + "resume c1\n" + global + "update --resources " + string(h) + "/bundles/c1/resources.json c1\n"
	if got := said(); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	b, err := os.ReadFile(c.path("resources.json"))
	if err != nil || !strings.Contains(string(b), `"limit":7`) {
		t.Errorf("resources: %s, %v", b, err)
	}
}

func TestWhatARuntimeSaysReachesTheCaller(t *testing.T) {
	for body, want := range map[string]string{
		`echo '{"level":"error","msg":"old"}{' >> "$5"; echo '{"level":"warning","msg":"w"}' >> "$5"; echo '{"level":"error","msg":"it is so"}' >> "$5"; echo no >&2; exit 1`: "OCI runtime pause failed: it is so",
		`echo plain words >&2; exit 1`: "OCI runtime pause failed: plain words",
		`exit 4`:                       "OCI runtime pause failed: exit status 4",
	} {
		r, _ := program(t, body)
		_, c := newContainer(t, r)
		if err := c.Pause(); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %q", body, err, want)
		}
	}
}

func TestPlans(t *testing.T) {
	r, _ := program(t, "")
	h, c := newContainer(t, r)
	root, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	s, err := c.Start(&specs.Spec{Version: specs.Version, Process: &specs.Process{Terminal: true}, Linux: &specs.Linux{}}, root)
	if err != nil {
		t.Fatal(err)
	}
	create, start := s.plans[0].String(), s.plans[1].String()
	for _, want := range []string{"unshare(", "mount root: move_mount(", `"` + string(h) + `/bundles/c1/rootfs"`, "execve " + r.Path} {
		if !strings.Contains(create, want) {
			t.Errorf("create has no %q:\n%s", want, create)
		}
	}
	if strings.Contains(create, "tmpfs") {
		t.Errorf("a home is made that all may enter:\n%s", create)
	}
	if strings.Contains(start, "unshare(") || !strings.Contains(start, "execve "+r.Path) {
		t.Errorf("start:\n%s", start)
	}
	var spec specs.Spec
	b, err := os.ReadFile(c.path("config.json"))
	if err != nil || json.Unmarshal(b, &spec) != nil || spec.Version != specVersion {
		t.Errorf("config.json: %s, %v", b, err)
	}
	s.Close()
	if _, err := root.Stat(); err != nil {
		t.Errorf("the caller's root was closed: %v", err)
	}
	x, err := c.Exec("x1", &specs.Process{})
	if err != nil {
		t.Fatal(err)
	}
	x.Close()
	if left, _ := filepath.Glob(c.path("exec-*")); len(left) > 0 || x.Second.Bytes != nil {
		t.Errorf("an exec leaves %q, second plan of %d bytes", left, len(x.Second.Bytes))
	}
}

func TestAMappedRootReachesTheBundleOnly(t *testing.T) {
	r, _ := program(t, "")
	h, c := newContainer(t, r)
	if _, err := h.New(r, "c2"); err != nil {
		t.Fatal(err)
	}
	root, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	spec := &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.UserNamespace, Path: "/proc/1/ns/user"}}}}
	s, err := c.Start(spec, root)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	create := s.plans[0].String()
	for _, want := range []string{"another one over it: mount(", "mount bundles/c1: move_mount(", "mount runtimes: move_mount("} {
		if !strings.Contains(create, want) {
			t.Errorf("no %q in\n%s", want, create)
		}
	}
	if strings.Index(create, "umask") > strings.Index(create, "make bundles") { // the engine's may close it
		t.Errorf("directories are made with the engine's umask:\n%s", create)
	}
	if strings.Contains(create, "c2") {
		t.Errorf("another bundle is shown:\n%s", create)
	}
	for path, want := range map[string]os.FileMode{c.path(): 0o711, c.path("config.json"): 0o600, h.bundles() + "/c2": 0o700} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, st.Mode(), err, want)
		}
	}
}

func TestConsoleSocketFits(t *testing.T) {
	id := strings.Repeat("a", 64)
	for _, home := range []string{"/run/tare", "/var/tmp/" + strings.Repeat("x", 30)} {
		c := &Container{ID: id, home: Home(home)}
		args := c.leaves(id, true)
		socket := args[len(args)-1]
		at := socket
		if !filepath.IsAbs(at) {
			at = filepath.Join(c.path(), at)
		}
		if len(socket) >= maxSocketPath || at != filepath.Join(home, "live", id, wire.RuntimeConsole) {
			t.Errorf("%q of %d bytes is %q", socket, len(socket), at)
		}
	}
}

func TestExplain(t *testing.T) {
	r, _ := program(t, "")
	_, c := newContainer(t, r)
	s := &Start{c: c, plans: [2]*spawn.Plan{spawn.NewPlan(), spawn.NewPlan()}}
	s.plans[0].Exec("/nope", "", []string{"/nope"}, nil)
	failed := func(logged string, e *wire.RuntimeError) error {
		if err := os.WriteFile(c.path("log.json"), []byte(logged), 0o600); err != nil {
			t.Fatal(err)
		}
		return s.Explain(e)
	}
	other := errors.New("other")
	for _, tc := range []struct {
		got  error
		want string
		code int
	}{
		{failed(`{"level":"error","msg":"x: executable file not found in $PATH"}`, &wire.RuntimeError{Status: 1 << 8}), createFailed + "x: executable file not found in $PATH", 127},
		{failed(`{"level":"error","msg":"x: permission denied"}`, &wire.RuntimeError{Status: 1 << 8, Second: true}), startFailed + "x: permission denied", 126},
		{failed("", &wire.RuntimeError{Status: 3 << 8, Stderr: "words\n"}), createFailed + "the runtime did not terminate successfully: exit status 3: words", 128},
		{failed("", &wire.RuntimeError{Status: 9}), createFailed + "the runtime was ended by signal killed", 128},
	} {
		var se *runtime.StartError
		if !errors.As(tc.got, &se) || se.Text != tc.want || se.Code != tc.code {
			t.Errorf("%v (%+v), want %d %q", tc.got, se, tc.code, tc.want)
		}
	}
	if got := s.Explain(other); got != other {
		t.Errorf("another error became %v", got)
	}
	step := s.Explain(&spawn.StepError{Errno: syscall.ENOENT, Step: 0})
	if want := createFailed + `runtime rt: exec: "` + r.Path + `": stat ` + r.Path + ": no such file or directory"; step.Error() != want {
		t.Errorf("%v, want %q", step, want)
	}
}

func TestDeleteGoesOnWhereTheRuntimeHasState(t *testing.T) {
	r, said := program(t, `case "$*" in *delete*) rm -rf "$3/c1";; esac`)
	h, c := newContainer(t, r)
	if err := os.MkdirAll(c.state()+"/c1", 0o700); err != nil {
		t.Fatal(err)
	}
	again, err := h.Open("c1")
	if err != nil || again == nil || again.Runtime.Path != r.Path {
		t.Fatalf("open: %+v, %v", again, err)
	}
	for range 2 {
		if err := again.Delete(); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Count(said(), "delete --force c1"); got != 1 {
		t.Errorf("delete was called %d times", got)
	}
	if ids, err := h.List(); len(ids) > 0 || err != nil {
		t.Errorf("left: %q, %v", ids, err)
	}
}

func TestABundleStaysIfTheRuntimeKeepsItsState(t *testing.T) {
	r, _ := program(t, "echo busy >&2; exit 1")
	h, c := newContainer(t, r)
	if err := os.MkdirAll(c.state()+"/c1", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(); err == nil || err.Error() != "OCI runtime delete failed: busy" {
		t.Errorf("delete: %v", err)
	}
	if ids, _ := h.List(); len(ids) != 1 {
		t.Errorf("the bundle is gone; left: %q", ids)
	}
}
