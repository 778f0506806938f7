package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestPipesOfArchivesHoldMore(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	widen(w)
	const getPipeSize = 1032 // F_GETPIPE_SZ
	if size, _, errno := syscall.Syscall(syscall.SYS_FCNTL, r.Fd(), getPipeSize, 0); errno != 0 || size != pipeSize {
		t.Errorf("the pipe holds %d bytes: %v", size, errno)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	widen(f)
	if _, err := f.WriteString("as before"); err != nil {
		t.Error(err)
	}
}
