//go:build root

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tare-engine/tare/internal/union/mnt"
)

// TestMain is also the server program, and runs the tests in mounts of their own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == mnt.ServeVerb {
		if mnt.Serve(os.Args[2:]) != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv("TARE_UNION_MOUNTS") == "" {
		self, err := os.Executable()
		if err != nil {
			panic(err)
		}
		cmd := exec.Command("unshare", append([]string{"--mount", "--propagation", "private", self}, os.Args[1:]...)...)
		cmd.Env = append(os.Environ(), "TARE_UNION_MOUNTS=own")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if cmd.Run() != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// TestSession is a session at a terminal: D is a directory.
func TestSession(t *testing.T) {
	dir := t.TempDir()
	for _, p := range []string{"rw", "base", "patch", "tools", "mnt"} {
		if err := os.Mkdir(filepath.Join(dir, p), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "patch/file"), []byte("patched"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ line, out, err string }{
		{"tare-union ls D/mnt", "", "D/mnt: it is not in a union mount"},
		{"tare-union mount -o br:D/rw=rw:D/no=ro D/mnt", "", "branch D/no: lstat D/no: no such file or directory"},
		{"tare-union mount D/mnt -o br:D/rw=rw:D/base=ro+wh,nosuid", "", ""},
		{"tare-union ls D/mnt", "D/rw=rw\nD/base=ro+wh\n", ""},
		{"tare-union prepend D/mnt D/patch=ro", "", ""},
		{"tare-union append D/mnt D/tools", "", ""},
		{"tare-union ls D/mnt/file", "D/patch=ro\nD/rw=rw\nD/base=ro+wh\nD/tools=ro\n", ""},
		{"tare-union add D/mnt 1:D/tools", "", "branch D/tools: it is a branch of this union already"},
		{"tare-union add D/mnt D/tools", "", `add: "D/tools" is not INDEX:DIR[=PERM]`},
		{"tare-union mod D/mnt D/tools", "", `mod: "D/tools" is not DIR=PERM`},
		{"tare-union mod D/mnt D/tools=rx", "", `branch D/tools: unknown permission "rx"; it is rw, ro or rr`},
		{"tare-union mod D/mnt D/rw=ro", "", ""},
		{"tare-union del D/mnt D/patch", "", ""},
		{"tare-union del D/mnt D/patch", "", "branch D/patch: it is no branch of this union"},
		{"tare-union add D/mnt 1:D/patch=rr", "", ""},
		{"tare-union ls D/mnt", "D/rw=ro\nD/patch=rr\nD/base=ro+wh\nD/tools=ro\n", ""},
		{"tare-union umount D/mnt", "", ""},
		{"/sbin/mount.fuse.tare-union none D/mnt -n -o br:D/rw:D/base,udba=none", "", ""},
		{"tare-union ls D/mnt", "D/rw=rw\nD/base=ro\n", ""},
		{"tare-union umount D/mnt", "", ""},
	} {
		at := func(s string) string { return strings.ReplaceAll(s, "D/", dir+"/") }
		var out bytes.Buffer
		err := run(strings.Fields(at(step.line)), &out)
		if out.String() != at(step.out) || fmt.Sprint(err) != at(step.err) && (step.err != "" || err != nil) {
			t.Errorf("$ %s\n%s%v\nwant %s%s", step.line, &out, err, step.out, step.err)
		}
	}
}
