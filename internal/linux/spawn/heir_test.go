package spawn

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

const heirVar = "TARE_HEIR_TEST"

// TestHeir has a process killed, and the next, and the next: each has the descriptors
// that are for it, and no others.
func TestHeir(t *testing.T) {
	if os.Getenv(heirVar) != "" {
		beHeir()
		return
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	note, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer note.Close()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestHeir$")
	cmd.Env = append(os.Environ(), heirVar+"=1")
	cmd.ExtraFiles = []*os.File{w, note, self}
	out, err := cmd.CombinedOutput()
	w.Close()
	if x, ok := err.(*exec.ExitError); !ok || x.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("%v: %s", err, out)
	}
	said, err := io.ReadAll(r) // until all of them have ended
	if err != nil {
		t.Fatal(err)
	}
	want := "1 27:open 28:none\n2 27:open 28:none\n3 27:open 28:none\n"
	if string(said) != want {
		t.Errorf("%q, want %q", said, want)
	}
}

// beHeir is each of the processes: descriptors are the pipe, the note, the program,
// and one (27) that is inherited and one (28) that is not.
func beHeir() {
	const pipe, note, program = 3, 4, 5
	var generation int
	fmt.Sscan(os.Getenv(heirVar), &generation)
	if generation == 1 {
		_ = syscall.Dup3(pipe, 27, 0)
		h, err := NewHeir(Will{Program: program, Argv: []string{"x", "-test.run=^TestHeir$"}, Env: []string{heirVar + "=2"}, Note: note})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		_ = syscall.Dup3(pipe, 28, syscall.O_CLOEXEC) // after it: the table is shared
		_ = syscall.Dup3(pipe, 29, 0)
		_ = h
	}
	if generation == 2 { // the heir's child, once and once more
		var b [8]byte
		_, _ = syscall.Pread(note, b[:], 8)
		generation += int(b[0])
		b[0]++
		_, _ = syscall.Pwrite(note, b[:], 8)
	}
	state := func(fd uintptr) string {
		var st syscall.Stat_t
		if syscall.Fstat(int(fd), &st) != nil || generation == 1 && fd == 28 {
			return "none"
		}
		return "open"
	}
	line := fmt.Sprintf("%d 27:%s 28:%s\n", generation, state(27), state(28))
	if generation > 1 && state(29) != "open" {
		line = "what was opened later is not there\n"
	}
	_, _ = syscall.Write(pipe, []byte(line))
	if generation == 3 {
		var b [8]byte
		_, _ = syscall.Pread(note, b[:], 0)
		pid := int(b[0]) | int(b[1])<<8 | int(b[2])<<16
		if err := KillParent(pid); err != nil || !strings.Contains(line, "3") {
			_, _ = syscall.Write(pipe, []byte(fmt.Sprint(err)))
		}
		os.Exit(0)
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}
