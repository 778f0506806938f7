package store

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/tare-engine/tare/internal/linux/disk"
)

func TestReserveIsGivenUpOnceAndMadeAgain(t *testing.T) {
	dir := t.TempDir() + "/reserve"
	r := OpenReserve(dir, 1<<20)
	t.Cleanup(r.Close)
	held := func() bool { size, err := disk.TreeSize(dir); return err == nil && size == 1<<20 }
	if !held() {
		t.Fatal("nothing reserved")
	}
	tries := 0
	err := r.Use(func() error { // gets more each time
		size, err := disk.TreeSize(dir)
		if want := []int64{32, 28, 20, 4, 0}[tries] << 15; size != want {
			t.Errorf("try %d: %d bytes are held, want %d: %v", tries, size, want, err)
		}
		if tries++; size > 0 {
			return &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
		}
		return nil
	})
	if err != nil || tries != 5 || !held() {
		t.Errorf("%v after %d tries, held %v", err, tries, held())
	}
	other := errors.New("other")
	if err := r.Use(func() error { tries++; return other }); err != other || tries != 6 {
		t.Errorf("%v after %d tries", err, tries)
	}
	again := OpenReserve(dir, 1<<20)
	t.Cleanup(again.Close)
	if again.files != reservedFiles {
		t.Error("not found by the next run")
	}
}

// What an operation has taken is missing, and no more.
func TestReserveIsMadeAgainAsFarAsThereIsRoom(t *testing.T) {
	dir := t.TempDir() + "/reserve"
	r := OpenReserve(dir, 1<<20)
	t.Cleanup(r.Close)
	taken := dir + "/30"
	full := &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
	err := r.Use(func() error {
		if _, err := os.Stat(taken); err == nil {
			return full
		}
		return os.MkdirAll(taken+"/in-the-way", 0o700)
	})
	if size, e := disk.TreeSize(dir); err != nil || e != nil || size != 30<<15 {
		t.Errorf("%d bytes are held: %v, %v", size, err, e)
	}
	if err := os.RemoveAll(taken); err != nil {
		t.Fatal(err)
	}
	if err := r.Use(func() error { return nil }); err != nil || r.files != reservedFiles {
		t.Errorf("not made whole: %v", err)
	}
}

func TestNoReserve(t *testing.T) {
	var r *Reserve
	n := 0
	if err := r.Use(func() error { n++; return syscall.ENOSPC }); err != syscall.ENOSPC || n != 1 {
		t.Error(err, n)
	}
}
