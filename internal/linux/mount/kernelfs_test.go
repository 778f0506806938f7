package mount

import (
	"os"
	"testing"
)

func TestKernelFS(t *testing.T) {
	for path, want := range map[string]string{"/proc/sys": "proc", "/sys": "sysfs", t.TempDir(): "", "/dev/shm": ""} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if got, err := KernelFS(f, true); got != want || err != nil {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
}
