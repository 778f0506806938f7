package host

import (
	"os"
	"strings"
	"testing"
)

func TestHost(t *testing.T) {
	if r := KernelRelease(); !strings.Contains(r, ".") {
		t.Error(r)
	}
	if m := Memory(); m < 64<<20 {
		t.Error(m)
	}
	before := OpenFiles()
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if after := OpenFiles(); after != before+1 {
		t.Error(before, after)
	}
}

func TestBootIDIsTheKernels(t *testing.T) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	if id, err := BootID(); err != nil || id+"\n" != string(b) || len(id) != 36 {
		t.Errorf("%q, %v, want %q", id, err, b)
	}
}
