package proc

import (
	"os"
	"syscall"
	"testing"
)

func TestOpenNamespaceChecksTheType(t *testing.T) {
	f, err := OpenNamespace("/proc/self/ns/net", syscall.CLONE_NEWNET)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, path := range []string{"/proc/self/ns/uts", "/dev/null", "/no/such"} {
		if _, err := OpenNamespace(path, syscall.CLONE_NEWNET); err == nil {
			t.Error(path, "was taken")
		}
	}
}

func TestCheckRefusesOtherFileSystems(t *testing.T) {
	for path, want := range map[string]bool{"/proc/sys": true, os.TempDir(): false} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := Check(f); (err == nil) != want {
			t.Error(path, err)
		}
		f.Close()
	}
}
