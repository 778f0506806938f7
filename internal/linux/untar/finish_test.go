package untar

import (
	"archive/tar"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A file that cannot be finished is named, soon; all others are finished, and none
// stays open.
func TestFinisherNamesTheFirstError(t *testing.T) {
	dir := t.TempDir()
	done := map[string]bool{}
	bad := errors.New("bad")
	f := newFinisher(func(fd int, h *tar.Header) error {
		if h.Name == "5" || h.Name == "7" {
			return bad
		}
		done[h.Name] = true
		return unix.Fchmod(fd, 0o640)
	})
	var fds []int
	var err error
	for err == nil {
		if len(fds) > 4*perBatch {
			t.Fatal("nobody tells of the error")
		}
		name := strconv.Itoa(len(fds))
		fd, e := unix.Open(filepath.Join(dir, name), unix.O_CREAT|unix.O_WRONLY, 0o600)
		if e != nil {
			t.Fatal(e)
		}
		fds = append(fds, fd)
		err = f.add(fd, &tar.Header{Name: name})
	}
	for _, err := range []error{err, f.close()} {
		if !errors.Is(err, bad) || !strings.HasPrefix(err.Error(), `entry "5": `) {
			t.Error(err)
		}
	}
	if len(done) != len(fds)-2 {
		t.Errorf("%d of %d files are finished", len(done), len(fds))
	}
	for i, fd := range fds {
		if err := unix.Close(fd); err != unix.EBADF {
			t.Errorf("%d is open: %v", i, err)
		}
		if st, err := os.Stat(filepath.Join(dir, strconv.Itoa(i))); err != nil || st.Mode() == 0o640 != done[strconv.Itoa(i)] {
			t.Errorf("%d: %v, %v", i, st, err)
		}
	}
}
