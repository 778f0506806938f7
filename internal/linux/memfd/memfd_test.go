package memfd

import (
	"os"
	"os/exec"
	"strings"
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
