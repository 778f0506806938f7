//go:build root

package stream

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/tare-engine/tare/internal/keeper/wire"
)

// The user of the process may open its standard streams again by their names.
func TestUserReopensItsStreams(t *testing.T) {
	r := newRig(t)
	const uid = 12345
	child, err := r.Streams.Open("c1", wire.Stdio{UID: uid, GID: uid, Log: testLog})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", "echo one; echo two > /dev/stderr; echo three >> /proc/self/fd/1")
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = child[0], child[1], child[2]
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c, _, _ := r.dial(both())
	if err := r.Started("c1"); err != nil {
		t.Fatal(err)
	}
	out, errText := frames(t, c) // ends by itself: end of file is exact
	if out != "one\nthree\n" || errText != "two\n" {
		t.Errorf("client got %q, %q", out, errText)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// A full disk costs lines, which are counted; it stops neither the process nor
// its clients, and when there is room again the log goes on.
func TestFullDisk(t *testing.T) {
	r := newRig(t)
	runtime.LockOSThread() // never unlocked: its mount namespace ends with it
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(r.dir, "containers")
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Unmount(disk, syscall.MNT_DETACH) })
	for _, d := range []string{"c1/log"} {
		if err := os.MkdirAll(filepath.Join(disk, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 600<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	r.SetDirs(r.open0("containers"), r.open0("spool")) // a client that falls behind must not lose anything here

	p := r.start(wire.Stdio{Log: &wire.Log{Dir: "c1/log", MaxSize: 100 << 20, MaxFiles: 2}})
	c, _, _ := r.dial(both())
	text := strings.Repeat("0123456789abcdef0123456789abcde\n", 1<<15)
	done := make(chan string)
	go func() {
		out, _ := frames(t, c)
		done <- out
	}()
	say(t, p.out, text)
	eventually(t, "the engine hears of it", func() bool { return strings.HasPrefix(r.told.String(), "dropped c1 ") })
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	say(t, p.out, "the end\n")
	p.out.(io.Closer).Close()
	p.err.Close()
	r.Drain("c1", nil)
	if got := <-done; got != text+"the end\n" {
		t.Errorf("the client got %d bytes of %d", len(got), len(text)+8)
	}
	got := r.logText()
	if !strings.HasSuffix(got, "|stdout:the end|") || strings.Contains(got, "||") {
		t.Errorf("log ends with %q", got[max(0, len(got)-80):])
	}
	// Lines and notes of lost ones make up what was written.
	lines := 0
	for l := range strings.SplitSeq(strings.Trim(got, "|"), "|") {
		note, ok := strings.CutPrefix(l, "stderr:")
		n := 1
		if ok {
			var rest string
			if count, err := fmt.Sscanf(note, "%d lines of output were %s", &n, &rest); count != 2 || err != nil || !strings.HasSuffix(note, "lost: no space left on device") {
				t.Errorf("note %q", note)
			}
		}
		lines += n
	}
	if notes := strings.Count(got, "lines of output were lost"); lines != 1<<15+1 || notes == 0 {
		t.Errorf("log speaks of %d lines in %d notes", lines, notes)
	}
	b, err := os.ReadFile(filepath.Join(disk, "c1/log/c1-json.log"))
	if err != nil || !bytes.HasSuffix(b, []byte("}\n")) {
		t.Errorf("log file ends torn, %v", err)
	}
}
