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

// TestShellsInStepsEndWithTheirClient ends the client, or the engine, while a shell runs in
// what a failed step has left: nothing of it stays.
func TestShellsInStepsEndWithTheirClient(t *testing.T) {
	for name, end := range map[string]func(*box, *exec.Cmd){
		"client killed": func(_ *box, client *exec.Cmd) { _ = client.Process.Kill() },
		"engine killed": func(b *box, _ *exec.Cmd) { b.kill(); b.up() },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.up()
			loadHello(b)
			b.context("FROM " + fixture.Image + "\nRUN true\n")
			b.must("build", "-q", b.path("context"))
			b.down()
			base := b.snapshot()
			b.up()

			mark := ident.New()
			b.context("FROM " + fixture.Image + "\nRUN false\n")
			client := exec.Command(filepath.Join(bin, "tare"), "-H", "unix://"+b.socket(), "build", "-q", "--on-failure", "shell", b.path("context"))
			client.Env = append(os.Environ(), "HOME="+b.dir)
			in, err := client.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := client.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := in.Write([]byte("/bin/sh -c 'sleep 1000; : " + mark + "'\n")); err != nil {
				t.Fatal(err)
			}
			b.soon(func() bool { return len(runs(t, mark)) > 0 })
			if len(runs(t, mark)) == 0 {
				t.Fatal("the shell does not run\n" + b.tail())
			}
			end(b, client)
			if err := client.Wait(); err == nil {
				t.Error("the build is said to have succeeded")
			}
			b.soon(func() bool { return len(runs(t, mark)) == 0 })
			if left := runs(t, mark); len(left) > 0 {
				t.Fatalf("the shell still runs: %q\n%s", left, b.tail())
			}
			b.context("FROM " + fixture.Image + "\nRUN echo fine\n")
			b.must("build", "-q", b.path("context"))
			b.down()
			b.settledBut(base, "file ")
		})
	}
}

// TestDamagedBuildCacheIsBegunAnew damages what a stopped engine has of its build
// cache: the next one builds all the same, and lives.
func TestDamagedBuildCacheIsBegunAnew(t *testing.T) {
	b := newBox(t)
	b.up()
	loadHello(b)
	b.context("FROM " + fixture.Image + "\nRUN true\n")
	for _, name := range []string{"names.db", "records.db", "cache.db", "history.db", "snapshots.db"} {
		for how, damage := range map[string]func([]byte) []byte{
			"half": func(p []byte) []byte { return p[:len(p)/2] },
			"zero": func(p []byte) []byte { return make([]byte, len(p)) },
			"noise": func(p []byte) []byte {
				for i := 8192; i < min(len(p), 20480); i++ {
					p[i] = byte(i * 7)
				}
				return p
			},
		} {
			t.Log(name, how)
			b.must("build", "-q", b.path("context"))
			b.down()
			b.rewrite("data/build/overlay/"+name, damage)
			b.up()
			b.must("build", "-q", "--no-cache", b.path("context"))
		}
	}
	b.down()
}

// TestBuildCacheEndsWithThePower has a cache that was in use when the machine went
// down begun anew: nobody has written it to disk.
func TestBuildCacheEndsWithThePower(t *testing.T) {
	b := newBox(t)
	b.up()
	loadHello(b)
	b.context("FROM " + fixture.Image + "\nRUN cat /proc/sys/kernel/random/uuid >/id\n")
	b.must("build", "-t", "first", b.path("context"))
	b.kill()
	b.up()
	b.must("build", "-t", "killed", b.path("context"))
	b.kill()
	b.rewrite("data/build/overlay/used", func([]byte) []byte { return []byte("another boot") })
	b.up()
	b.must("build", "-t", "cut", b.path("context"))
	id := func(name string) string { return b.must("run", "--rm", name, "cat", "/id") }
	if first := id("first"); id("killed") != first || id("cut") == first {
		t.Errorf("a step gave %q, after a kill %q, after a power cut %q", first, id("killed"), id("cut"))
	}
	b.down()
}

// rewrite changes what is in a file.
func (b *box) rewrite(name string, change func([]byte) []byte) {
	b.t.Helper()
	p, err := os.ReadFile(b.path(name))
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(b.path(name), change(p), 0o600); err != nil {
		b.t.Fatal(err)
	}
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
