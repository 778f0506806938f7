package fifo

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

func TestEndOfFileIsExact(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for range 2 { // the second replaces the first
		if err := Make(path, os.Geteuid(), os.Getegid()); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Reader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(r)
	w, err := Both(path)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 10)
	if _, err := syscall.Read(r, b); err != syscall.EAGAIN {
		t.Errorf("empty: %v", err)
	}
	syscall.Write(w, []byte("abc"))
	syscall.Close(w)
	if n, err := syscall.Read(r, b); n != 3 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
	if n, err := syscall.Read(r, b); n != 0 || err != nil {
		t.Errorf("no end of file: %d, %v", n, err)
	}
}

func TestOthersAreRefused(t *testing.T) {
	dir := t.TempDir()
	plain, link := filepath.Join(dir, "plain"), filepath.Join(dir, "link")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(plain, link); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{plain, link} {
		if fd, err := Reader(p); err == nil {
			syscall.Close(fd)
			t.Errorf("%s was opened", p)
		}
	}
}

func TestGrow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := Make(path, os.Geteuid(), os.Getegid()); err != nil {
		t.Fatal(err)
	}
	fd, err := Both(path)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := Grow(fd, 1<<18); err != nil {
		t.Fatal(err)
	}
	if n, err := Size(fd); n != 1<<18 || err != nil {
		t.Errorf("size %d, %v", n, err)
	}
}

// What waits in a pipe of Input is read by whoever opens it again, also when
// nobody writes any more.
func TestInputCanBeOpenedAgain(t *testing.T) {
	r, w, err := Input(os.Geteuid(), os.Getegid())
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(r)
	syscall.Write(w, []byte("abc"))
	syscall.Close(w)
	got := make(chan string, 1)
	go func() {
		b, err := os.ReadFile("/proc/self/fd/" + strconv.Itoa(r))
		if err != nil {
			b = []byte(err.Error())
		}
		got <- string(b)
	}()
	select {
	case s := <-got:
		if s != "abc" {
			t.Errorf("read %q", s)
		}
	case <-time.After(10 * time.Second):
		t.Error("the open waits for a writer")
	}
}
