package store

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

func TestReserveIsGivenUpOnceAndMadeAgain(t *testing.T) {
	dir := t.TempDir() + "/reserve"
	r := OpenReserve(dir, 1<<20)
	t.Cleanup(r.Close)
	held := func() bool { st, err := os.Stat(dir + "/0"); return err == nil && st.Size() == 1<<20 }
	if !held() {
		t.Fatal("nothing reserved")
	}
	tries := 0
	err := r.Use(func() error {
		if tries++; held() {
			return &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
		}
		return nil
	})
	if err != nil || tries != 2 || !held() {
		t.Errorf("%v after %d tries, held %v", err, tries, held())
	}
	other := errors.New("other")
	if err := r.Use(func() error { tries++; return other }); err != other || tries != 3 {
		t.Errorf("%v after %d tries", err, tries)
	}
	again := OpenReserve(dir, 1<<20)
	t.Cleanup(again.Close)
	if !again.held {
		t.Error("not found by the next run")
	}
}

func TestNoReserve(t *testing.T) {
	var r *Reserve
	n := 0
	if err := r.Use(func() error { n++; return syscall.ENOSPC }); err != syscall.ENOSPC || n != 1 {
		t.Error(err, n)
	}
}
