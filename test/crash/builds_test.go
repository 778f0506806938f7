//go:build root && failpoint

package crash

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/test/fixture"
)

// TestStepsEndWithTheEngine ends the engine while a step of a build runs: the step is
// gone with all that it needed, at once or when the next engine is there, and builds
// go on.
func TestStepsEndWithTheEngine(t *testing.T) {
	for name, end := range map[string]func(*box){
		"killed":  func(b *box) { b.kill(); b.up() },
		"stopped": func(b *box) { b.down() },
	} {
		for _, group := range []string{"", "/tare-test-" + ident.New()[:12]} {
			t.Run(name+" "+group, func(t *testing.T) { stepEnds(t, group, end) })
		}
	}
}

func stepEnds(t *testing.T, group string, end func(*box)) {
	b := newBox(t)
	b.up()
	loadHello(b)
	b.context("FROM " + fixture.Image + "\nRUN true\n")
	b.must("build", "-q", b.path("context"))
	b.down()
	base := b.snapshot()
	b.up()

	mark := ident.New()
	b.context("FROM " + fixture.Image + "\nRUN sleep 1000; : " + mark + "\n")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	args := []string{"-H", "unix://" + b.socket(), "build", "-q", "--cgroup-parent", group, b.path("context")}
	client := exec.CommandContext(ctx, filepath.Join(bin, "tare"), args...)
	client.Env = append(os.Environ(), "HOME="+b.dir)
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	b.soon(func() bool { return len(runs(t, mark)) > 0 })
	if len(runs(t, mark)) == 0 {
		t.Fatal("the step does not run\n" + b.tail())
	}
	end(b)
	if err := client.Wait(); err == nil {
		t.Error("the build is said to have succeeded")
	}
	b.soon(func() bool { return len(runs(t, mark)) == 0 })
	if left := runs(t, mark); len(left) > 0 {
		t.Fatalf("the step still runs: %q\n%s", left, b.tail())
	}
	if b.dead() {
		b.settledBut(base, "file ") // at once; a cache may stay
		b.up()
	}
	b.context("FROM " + fixture.Image + "\nRUN echo fine\n")
	b.must("build", "-q", b.path("context"))
	b.down()
	b.settledBut(base, "file ")
	removeGroups(t, group)
}

// context makes a directory with a Dockerfile.
func (b *box) context(dockerfile string) {
	b.t.Helper()
	if err := os.MkdirAll(b.path("context"), 0o700); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(b.path("context/Dockerfile"), []byte(dockerfile), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// runs are the processes, but for clients, whose command line has a word.
func runs(t *testing.T, word string) (list []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, _ := os.ReadFile(f) // which may have ended
		if line := strings.ReplaceAll(string(b), "\x00", " "); strings.Contains(line, word) && strings.HasPrefix(line, "/bin/sh") {
			list = append(list, line)
		}
	}
	return list
}

// settledBut is settled, whatever there is more of one kind.
func (b *box) settledBut(base []string, kind string) {
	b.t.Helper()
	var more []string
	b.soon(func() bool {
		more = slices.DeleteFunc(beyond(b.snapshot(), base), func(s string) bool { return strings.HasPrefix(s, kind) })
		return len(more) == 0
	})
	if len(more) > 0 {
		b.t.Errorf("left over:\n  %s\n%s", strings.Join(more, "\n  "), b.tail())
	}
}

// removeGroups removes the empty groups that a client wanted.
func removeGroups(t *testing.T, group string) {
	t.Helper()
	if group == "" {
		return
	}
	for _, below := range []string{"/buildkit", ""} {
		for _, trees := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
			dirs, err := filepath.Glob(trees + group + below)
			if err != nil {
				t.Fatal(err)
			}
			for _, dir := range dirs {
				if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
					t.Error(err)
				}
			}
		}
	}
}
