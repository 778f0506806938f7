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
