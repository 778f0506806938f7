package memfd

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func TestSealedFileCannotChange(t *testing.T) {
	f, err := New("x")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("abc"); err != nil || Sealed(f) {
		t.Fatal("before", err, Sealed(f))
	}
	if err := Seal(f); err != nil || !Sealed(f) {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("written to")
	}
	if err := f.Truncate(0); err == nil {
		t.Error("truncated")
	}
}

func TestProgramRuns(t *testing.T) {
	sh, err := os.Open("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	defer sh.Close()
	f, err := Program("sh", sh)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !Sealed(f) {
		t.Error("not sealed")
	}
	c := exec.Command("/proc/self/fd/3", "-c", "readlink /proc/$$/exe")
	c.ExtraFiles = []*os.File{f}
	out, err := c.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "/memfd:sh") {
		t.Errorf("%v %q", err, out)
	}
}

// TestFailedExecKeepsTheLimitOfFiles begins with a soft limit that Go raises.
func TestFailedExecKeepsTheLimitOfFiles(t *testing.T) {
	if os.Getenv("TARE_TEST_EXEC") == "" {
		c := exec.Command("/bin/sh", "-c", "ulimit -Sn 200; exec \"$0\" -test.run ^TestFailedExecKeepsTheLimitOfFiles$", os.Args[0])
		c.Env = append(os.Environ(), "TARE_TEST_EXEC=1")
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	f, err := Program("garbage", strings.NewReader("no program"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var before, after syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil || before.Cur <= 200 {
		t.Fatalf("%+v, %v", before, err)
	}
	if err := Exec(f, []string{"garbage"}, nil); !errors.Is(err, syscall.ENOEXEC) {
		t.Errorf("%v", err)
	}
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &after); err != nil || after != before {
		t.Errorf("the limit was %+v and is %+v, %v", before, after, err)
	}
}

func TestOrdinaryFileIsNotSealed(t *testing.T) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if Sealed(f) {
		t.Error("sealed")
	}
}
