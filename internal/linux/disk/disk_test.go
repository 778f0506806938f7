package disk

import (
	"os"
	"testing"
)

func TestOf(t *testing.T) {
	dir := t.TempDir()
	u, err := Of(dir + "/not/there")
	if err != nil || u.Bytes <= 0 || u.Free < 0 || u.Free > u.Bytes {
		t.Fatalf("%+v, %v", u, err)
	}
	if v, err := Of("/proc/self/status"); err != nil || v.Mount != "/proc" {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestAllocate(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Allocate(f, 1<<20); err != nil {
		t.Fatal(err)
	}
	if st, err := f.Stat(); err != nil || st.Size() != 1<<20 {
		t.Error(st, err)
	}
	if err := Allocate(f, 1<<62); !IsFull(err) && err == nil {
		t.Error("exabytes allocated")
	}
}

func TestKind(t *testing.T) {
	for path, want := range map[string]string{"/dev/shm": "tmpfs", "/proc": "<unknown>", "/none": "<unknown>"} {
		if got := Kind(path); got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
}
