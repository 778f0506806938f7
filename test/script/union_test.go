//go:build root

package script

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// unionServer is the process that serves the root of a container.
func (e *engine) unionServer(t *testing.T, dir, container string) int {
	t.Helper()
	id := e.output(t, "inspect", "-f", "{{.Id}}", container)
	upper := filepath.Join(dir, "data/containers", id, "rw") + "=rw"
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		args, _ := os.ReadFile(p)
		if bytes.Contains(args, []byte("\x00serve\x00")) && bytes.Contains(args, []byte("\x00"+upper+"\x00")) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(p)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("nobody serves the root of %s", container)
	return 0
}

// TestUnionServers: a server does not notice that the engine dies; a container
// whose server was killed goes on, can be started again, with all that it had written, and
// removed; and servers end with their containers.
func TestUnionServers(t *testing.T) {
	dir := workdir(t)
	e := startTaredIn(t, dir, "--storage-driver", "union")
	e.docker = filepath.Join(programs(t), "tare")
	e.load(t, "busybox.tar")
	e.output(t, "run", "-d", "--name", "one", "busybox", "sh", "-c", "echo written >/file; sleep 1000")
	e.output(t, "exec", "one", "sh", "-c", "until [ -s /file ]; do :; done")
	server := e.unionServer(t, dir, "one")
	e.kill(t)
	e.rise(t)
	if now := e.unionServer(t, dir, "one"); now != server {
		t.Errorf("server %d, before the engine died %d", now, server)
	}
	e.output(t, "exec", "one", "sh", "-c", "echo more >>/file")
	e.output(t, "layer", "ls", "one")

	if err := syscall.Kill(server, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "the server has ended", func() bool { return gone(server) })
	e.shows(t, "more", "exec", "one", "cat", "/file") // its heir serves it
	e.output(t, "layer", "ls", "one")
	e.output(t, "restart", "-t", "0", "one")
	e.shows(t, "written", "exec", "one", "cat", "/file")

	server = e.unionServer(t, dir, "one")
	if err := syscall.Kill(server, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	e.output(t, "rm", "-f", "one")
	e.output(t, "run", "--name", "two", "busybox", "true")
	e.output(t, "rm", "two")
	await(t, "no server is left", func() bool {
		all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, p := range all {
			if args, _ := os.ReadFile(p); bytes.Contains(args, []byte(dir+"/data/")) && bytes.Contains(args, []byte("\x00serve\x00")) {
				return false
			}
		}
		return true
	})
}

// gone reports whether a process has ended, if nobody has waited for it yet too.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(b, []byte(") Z "))
}
