//go:build root

package loop

import (
	"os"
	"testing"
	"time"
)

// A file has one device, however often it is asked for, which ends with its last
// descriptor.
func TestAttach(t *testing.T) {
	path := t.TempDir() + "/disk"
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	wantAttached(t, f, false)
	a, err := Attach(f)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := Attach(f)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if a.Name() != b.Name() {
		t.Errorf("two devices: %s and %s", a.Name(), b.Name())
	}
	if _, err := b.WriteAt([]byte("text"), 4096); err != nil {
		t.Fatal(err)
	}
	a.Close()
	wantAttached(t, f, true)
	if err := b.Sync(); err != nil {
		t.Error(err)
	}
	b.Close()
	wantAttached(t, f, false)
	if got, err := os.ReadFile(path); err != nil || string(got[4096:4100]) != "text" {
		t.Errorf("%q, %v", got[4096:4100], err)
	}
}

// wantAttached waits: the kernel lets go of a device in the background.
func wantAttached(t *testing.T, f *os.File, want bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		got, err := Attached(f)
		if err != nil {
			t.Fatal(err)
		}
		if got == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("attached: %v", got)
		}
	}
}
