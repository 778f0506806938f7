package treerm

import (
	"errors"
	"os"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// deep makes a chain of directories, each with a file, below dir.
func deep(t *testing.T, dir string, depth int) {
	t.Helper()
	at, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for range depth {
		if err != nil {
			break
		}
		if err = errors.Join(unix.Mkdirat(at, "d", 0o700), unix.Mknodat(at, "f", unix.S_IFREG|0o600, 0)); err != nil {
			break
		}
		up := at
		at, err = unix.Openat(up, "d", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(up)
	}
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(at)
}

func TestAllRemovesADeepTreeWithFewDescriptors(t *testing.T) {
	dir := t.TempDir() + "/tree"
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Mkdir(dir+"/"+movedName+"1", 0o700), os.WriteFile(dir+"/"+movedName+"2", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	deep(t, dir, 3000)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	few := old
	few.Cur = 200
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	err := All(dir)
	if err := errors.Join(err, unix.Setrlimit(unix.RLIMIT_NOFILE, &old)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// A link is removed, and what it leads to stays.
func TestAllFollowsNoLink(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	if err := errors.Join(os.WriteFile(outside+"/f", nil, 0o600), os.Symlink(outside, dir+"/link"), os.MkdirAll(dir+"/tree/d", 0o700),
		os.Symlink(outside, dir+"/tree/d/link"), syscall.Mkfifo(dir+"/tree/pipe", 0o600)); err != nil {
		t.Fatal(err)
	}
	for i := range 3000 { // more than are read at once
		if err := os.WriteFile(dir+"/tree/d/"+strconv.Itoa(i), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{dir + "/link", dir + "/tree", dir + "/tree", outside + "/f/x"} {
		if err := All(path); err != nil && !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("%s: %v", path, err)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
	if _, err := os.Lstat(outside + "/f"); err != nil {
		t.Error(err)
	}
}
