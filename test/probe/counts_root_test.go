//go:build root

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// counted is how often a counted run does its thing: few times, or as often as
// make soak asks for.
func counted(env string, few int) int {
	if n, err := strconv.Atoi(os.Getenv(env)); err == nil {
		return n
	}
	return few
}

// left is what an engine has of each kind: what a use must not add to for good.
func (e *engine) left() map[string]int {
	n := map[string]int{}
	count := func(name, pattern string) {
		all, _ := filepath.Glob(pattern)
		n[name] += len(all)
	}
	count("in the exec root", e.path("run/*/*"))
	count("in the exec root", e.path("run/live/*/*"))
	count("in the data root", e.path("data/*/*"))
	count("in the data root", e.path("data/containers/*/*"))
	for _, depth := range []string{"*", "*/*", "*/*/*", "*/*/*/*"} {
		count("control groups", "/sys/fs/cgroup/"+depth+"/"+e.id()+"*")
		count("control groups", "/sys/fs/cgroup/"+depth+"/"+e.id()+"*/*/")
	}
	for _, pid := range append(keepers(e.path("run")), e.tared.Process.Pid) {
		count("descriptors", fmt.Sprintf("/proc/%d/fd/*", pid))
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	n["mounts"] = strings.Count(string(mounts), "\n")
	return n
}

// id is that of the container in the background.
func (e *engine) id() string { return e.must("inspect", "-f", "{{.Id}}", "counted") }

// TestExecsLeaveNothing: promise 7 for execs.
func TestExecsLeaveNothing(t *testing.T) {
	e := newEngine(t)
	e.must("run", "-d", "--name", "counted", "--rootfs", e.path("root"), "/probe", "sleep")
	execs := func(n int) {
		var all sync.WaitGroup
		for worker := range 4 {
			all.Go(func() {
				for i := worker; i < n; i += 4 {
					if out, err := e.tare("exec", "counted", "/probe", "true"); err != nil || out != "" {
						t.Errorf("exec: %v %s", err, out)
						return
					}
				}
			})
		}
		all.Wait()
	}
	execs(20) // what is made once and kept
	before := e.left()
	n := counted("TARE_SOAK_EXECS", 60)
	defer row(t, "execs of a container that leave nothing", n)
	execs(n)
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		var more []string
		after := e.left()
		for kind, was := range before {
			// A few: connections that are kept open, and what Go keeps.
			if now := after[kind]; now > was+8 || kind != "descriptors" && now > was {
				more = append(more, fmt.Sprintf("%s: %d before, %d after", kind, was, now))
			}
		}
		if len(more) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal(strings.Join(more, "; "))
		}
	}
	if out := e.must("inspect", "-f", "{{.ExecIDs}}", "counted"); out != "[]" && out != "<no value>" {
		t.Errorf("execs: %s", out)
	}
	if out := e.must("top", "counted", "-o", "pid"); strings.Count(out, "\n") != 1 {
		t.Errorf("processes:\n%s", out)
	}
}

// row prints a row of docs/soak.md. One failure is all that such a test tells.
func row(t *testing.T, what string, n int) {
	bad := 0
	if t.Failed() {
		bad = 1
	}
	fmt.Printf("SOAK | %s | %d | %d | |\n", what, n, bad)
}

// TestStatsOfMany: one call tells of all containers, and takes no thread each;
// goroutines are counted in container/stats.
func TestStatsOfMany(t *testing.T) {
	e := newEngine(t)
	n := counted("TARE_SOAK_STATS", 10)
	defer row(t, "containers in one call of stats", n)
	for range n {
		e.must("run", "-d", "--network", "none", "--rootfs", e.path("root"), "/probe", "sleep")
	}
	tasks := func() int {
		all, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", e.tared.Process.Pid))
		return len(all)
	}
	before := tasks()
	out := e.must("stats", "--no-stream", "--format", "{{.ID}} {{.PIDs}}")
	after := tasks()
	lines := strings.Split(out, "\n")
	for _, l := range lines {
		if f := strings.Fields(l); len(f) != 2 || f[1] == "0" {
			t.Errorf("%q", l)
		}
	}
	if len(lines) != n || after > before+16 {
		t.Errorf("%d containers of %d; %d tasks, before %d", len(lines), n, after, before)
	}
}
