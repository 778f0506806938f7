//go:build root

package script

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// copyRounds is how many copies there are each way against a container that
// swaps what is copied; the races of internal/archive are counted.
const copyRounds = 60

// TestHostileCopies copies out of and into containers that mean harm.
func TestHostileCopies(t *testing.T) {
	e := startTared(t)
	e.docker = filepath.Join(e.bin, "tare")
	e.load(t, "busybox.tar")
	for name, attack := range map[string]func(*testing.T, *engine){
		"links that come and go": testCopiesOfSwappedNames, "programs of the container": testCopiesRunNothing, "files that wait": testCopiesDoNotWait,
	} {
		t.Run(name, func(t *testing.T) { attack(t, e) })
	}
}

// copying runs a copy, which may fail but not hang.
func (e *engine) copying(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "timeout", append([]string{"60", e.docker, "-H", "unix://" + e.socket, "cp"}, args...)...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() == 124 {
		t.Fatalf("cp %q does not end", args)
	}
	return string(out), err
}

// hostile starts a container that does something all the time.
func (e *engine) hostile(t *testing.T, name, script string, options ...string) {
	t.Helper()
	args := append([]string{"run", "-d", "--name", name}, options...)
	e.output(t, append(args, "busybox", "sh", "-c", script)...)
	t.Cleanup(func() { e.output(t, "rm", "-f", name) })
}

// testCopiesOfSwappedNames: the container exchanges a directory for links to the
// host's (CVE-2018-15664).
func testCopiesOfSwappedNames(t *testing.T, e *engine) {
	host := t.TempDir()
	secret := filepath.Join(host, "secret")
	if err := os.WriteFile(secret, []byte("the host's"), 0o600); err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("../", 12)
	e.hostile(t, "swapper", `mkdir -p /real; echo own >/real/secret; while :; do for to in `+host+` `+up+host[1:]+` /proc/1/root`+host+` /proc/self/fd; do
		rm -rf /a; ln -s $to /a; rm -f /a; mkdir /a; echo own >/a/secret; done; done`, "--cap-add", "ALL")
	brought := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(brought, []byte("brought"), 0o644); err != nil {
		t.Fatal(err)
	}
	went := 0
	for n := range copyRounds {
		out := filepath.Join(t.TempDir(), "out"+strconv.Itoa(n))
		if _, err := e.copying(t, []string{"swapper:/a/secret", "swapper:/a/"}[n%2], out); err == nil {
			went++
		}
		if b, err := exec.Command("grep", "-rs", "the host's", out).Output(); err == nil {
			t.Fatalf("round %d: %s", n, b)
		}
		if _, err := e.copying(t, brought, "swapper:/a/"); err == nil {
			went++
		}
	}
	names, _ := os.ReadDir(host)
	if b, err := os.ReadFile(secret); err != nil || string(b) != "the host's" || len(names) != 1 {
		t.Errorf("the host's file is %q, %v, beside %v", b, err, names)
	}
	if st, err := os.Stat(secret); err != nil || st.Mode() != 0o600 { // CVE-2021-41089
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if went == 0 {
		t.Error("no copy went through")
	}
}

// testCopiesRunNothing: neither programs nor libraries of the container are used
// for a copy (CVE-2019-14271, CVE-2026-41567).
func testCopiesRunNothing(t *testing.T, e *engine) {
	// A library that somebody opens would hold him up: it is a pipe.
	e.hostile(t, "trap", `for p in tar xz gzip unpigz igzip zstd getent unxz bzip2; do for d in /bin /usr/bin /usr/local/bin /sbin; do mkdir -p $d
		[ $p = gzip ] && [ $d = /bin ] && continue; rm -f $d/$p; printf '#!/bin/sh\n/bin/busybox touch /canary\n' >$d/$p; chmod 755 $d/$p; done; done
		mkdir -p /lib/x86_64-linux-gnu /lib64; for l in libnss_files.so.2 libnss_dns.so.2 libc.so.6; do mkfifo /lib/x86_64-linux-gnu/$l /lib64/$l; done
		echo 'passwd: files evil' >/etc/nsswitch.conf; echo >/ready; exec sleep 1000`, "--user", "0")
	for range 1000 {
		if _, err := e.copying(t, "trap:/ready", filepath.Join(t.TempDir(), "ready")); err == nil {
			break
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("data"), 0o644); err != nil {
		t.Fatal(err)
	}
	for flag, name := range map[string]string{"-J": "xz", "-z": "gzip", "-j": "bzip2", "": "plain"} {
		line := "tar c " + flag + " -C " + dir + " f | timeout 60 " + e.docker + " -H unix://" + e.socket + " cp -a - trap:/tmp"
		if out, err := exec.Command("sh", "-c", line).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
	if _, err := e.copying(t, "trap:/usr", filepath.Join(dir, "usr")); err != nil {
		t.Error(err)
	}
	if out, err := e.copying(t, "trap:/canary", filepath.Join(dir, "canary")); err == nil || !strings.Contains(out, "Could not find the file /canary") {
		t.Errorf("a program of the container ran: %s, %v", out, err)
	}
}

// testCopiesDoNotWait: pipes, sockets and devices are described, not opened.
func testCopiesDoNotWait(t *testing.T, e *engine) {
	e.hostile(t, "waiter", `mkdir -p /w; mkfifo /w/pipe; mknod /w/tty c 5 0; mknod /w/zero c 1 5; nc -l -s /w/sock local:/w/sock 2>/dev/null & (echo >/w/pipe; echo >/opened) & echo >/ready; exec sleep 1000`)
	for range 1000 {
		if _, err := e.copying(t, "waiter:/ready", filepath.Join(t.TempDir(), "ready")); err == nil {
			break
		}
	}
	out := filepath.Join(t.TempDir(), "w")
	if text, err := e.copying(t, "waiter:/w", out); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for name, want := range map[string]os.FileMode{"pipe": os.ModeNamedPipe, "zero": os.ModeDevice | os.ModeCharDevice} {
		if st, err := os.Lstat(filepath.Join(out, name)); err != nil || st.Mode().Type() != want {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	if text, err := e.copying(t, "waiter:/opened", out); err == nil || !strings.Contains(text, "Could not find") {
		t.Errorf("the pipe was opened: %v, %s", err, text)
	}
}
