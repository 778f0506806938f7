//go:build root

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestFlagsWithoutMeaningAreRefused(t *testing.T) {
	l := newLab(t)
	l.fails("--rootless=true is not supported", "--rootless=true", "list")
	l.fails("--rootless=true is not supported", "--rootless", "1", "list")
	l.fails(`invalid value \"perhaps\" for --rootless`, "--rootless=perhaps", "list")
	l.fails("--criu is not supported", "--criu=/usr/sbin/criu", "list")
	for _, v := range []string{"auto", "false"} {
		l.must("--rootless", v, "--criu=", "list")
	}
}

func TestDebugTellsWhatIsDone(t *testing.T) {
	l := newLab(t)
	t.Setenv("SECRET", "hidden")
	b := l.bundle("d", func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, "PASSWORD=hidden") }, "true")
	for _, flags := range [][]string{{"--debug", "--log", l.dir + "/log"}, {"--log", l.dir + "/quiet"}} {
		if out := l.must(append(flags, "run", "--bundle", b, "d")...); out != "" {
			t.Errorf("%q", out)
		}
	}
	text, err := os.ReadFile(l.dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"level=debug", "bundle " + b, "cgroup " + l.parent + "/d, made true", "the first process does: ", "has executed the program", "is removed"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "hidden") {
		t.Errorf("the environment is in the log:\n%s", text)
	}
	if text, err := os.ReadFile(l.dir + "/quiet"); err != nil || len(text) > 0 {
		t.Errorf("%q %v", text, err)
	}
	if out := l.must("--debug", "list"); !strings.Contains(out, "level=debug") {
		t.Errorf("%q", out)
	}
}

func TestExecIntoASubCgroup(t *testing.T) {
	l := newLab(t)
	if err := l.create("g", l.bundle("g", nil, "sleep", "1000")); err != nil {
		t.Fatal(err)
	}
	l.must("start", "g")
	dirs := l.cgroups("g")
	var subs []string
	for _, d := range dirs {
		if err := os.Mkdir(d+"/sub", 0755); err != nil {
			t.Fatal(err)
		}
		subs = append(subs, d+"/sub")
	}
	defer func() {
		for _, d := range subs {
			_ = os.Remove(d) // delete has done it, unless the test has failed
		}
	}()
	if len(subs) == 0 {
		t.Fatal("no cgroups")
	}
	pidfile := l.dir + "/pid"
	in := func(cgroup ...string) (n int) {
		t.Helper()
		args := []string{"exec", "--detach", "--pid-file", pidfile}
		for _, c := range cgroup {
			args = append(args, "--cgroup", c)
		}
		cmd := l.command(append(args, "g", "sleep", "1000")...)
		if err := cmd.Run(); err != nil {
			t.Fatal(cgroup, err)
		}
		pid, err := os.ReadFile(pidfile)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range subs {
			b, err := os.ReadFile(d + "/cgroup.procs")
			if err != nil {
				t.Fatal(err)
			}
			if slices.Contains(strings.Fields(string(b)), strings.TrimSpace(string(pid))) {
				n++
			}
		}
		return n
	}
	if n := in(); n != 0 {
		t.Errorf("without the flag in %d", n)
	}
	if n := in("sub"); n != len(subs) {
		t.Errorf("in %d of %v", n, subs)
	}
	if n := in("/sub/"); n != len(subs) {
		t.Errorf("in %d of %v", n, subs)
	}
	if v1 := filepath.Base(filepath.Dir(filepath.Dir(dirs[0]))) != "cgroup"; v1 {
		if n := in("pids:sub"); n != 1 {
			t.Errorf("by its controller in %d", n)
		}
		if n := in("pids:sub", "memory:/sub"); n != 2 {
			t.Errorf("by two controllers in %d", n)
		}
		l.fails("is given twice", "exec", "--cgroup", "pids:sub", "--cgroup", "pids:/", "g", "true")
	}
	l.fails("does not exist", "exec", "--cgroup", "nosuch", "g", "true")
	l.fails("is not a sub cgroup path", "exec", "--cgroup", "../..", "g", "true")
	l.fails("missing <controller>: prefix", "exec", "--cgroup", "sub", "--cgroup", "sub", "g", "true")
	l.fails("no such controller", "exec", "--cgroup", "nosuch:sub", "g", "true")
	l.must("delete", "--force", "g")
	l.gone("g")
}

// What runc leaves without effect runs here too, and a warning says so.
func TestIgnoredPartsOfASpec(t *testing.T) {
	l := newLab(t)
	out := l.sh("w", func(s *specs.Spec) {
		s.Linux.MountLabel = "system_u:object_r:x_t:s0"
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/m", Type: "bind", Source: "/etc", Options: []string{"rbind", "ro", "mistake"}})
	}, "ls /m/passwd")
	for _, want := range []string{"/m/passwd\n", "level=warning", "linux.mountLabel is ignored", `they are ignored: [\"mistake\"]`} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
}
