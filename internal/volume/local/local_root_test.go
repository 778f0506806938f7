//go:build root

package local

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tare-engine/tare/internal/linux/mount"
)

func mounted(t *testing.T, dir string, options map[string]string) string {
	t.Helper()
	at := filepath.Join(dir, "_data")
	if err := os.MkdirAll(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := (Driver{}).Mount(t.Context(), dir, at, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Driver{}.Unmount(at) })
	return at
}

func TestASizeIsALimit(t *testing.T) {
	d, dir, options := Driver{}, t.TempDir(), map[string]string{"size": "4m"}
	if err := errors.Join(d.MakeFiles(dir+"/_data", options), d.Make(t.Context(), dir, options)); err != nil {
		t.Fatal(err)
	}
	at := mounted(t, dir, options)
	if list, err := os.ReadDir(at); err != nil || len(list) != 0 {
		t.Errorf("a new volume has %v, %v", list, err)
	}
	if err := os.WriteFile(at+"/f", make([]byte, 8<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
	// Mounted again while somebody still looks it is the same file system, not a second
	// one on the same blocks.
	f, err := os.Open(at + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := d.Unmount(at); err != nil {
		t.Fatal(err)
	}
	mounted(t, dir, options)
	var a, b syscall.Stat_t
	if err := errors.Join(syscall.Fstat(int(f.Fd()), &a), syscall.Stat(at+"/f", &b)); err != nil || a.Dev != b.Dev || a.Ino != b.Ino {
		t.Errorf("device %d and %d: %v", a.Dev, b.Dev, err)
	}
	if size, ok := d.Size(dir, options); !ok || size < 1<<20 || size > 5<<20 {
		t.Errorf("%d, %v", size, ok)
	}
	f.Close()
	if err := d.Unmount(at); err != nil {
		t.Fatal(err)
	}
	mounted(t, dir, options)
	if _, err := os.Stat(at + "/f"); err != nil {
		t.Error(err)
	}
}

func TestTypeDeviceAndOptions(t *testing.T) {
	host := t.TempDir()
	for _, c := range []struct {
		options map[string]string
		want    string // in /proc/self/mountinfo
	}{
		{map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=64k,uid=5,noexec"}, "rw,noexec,relatime - tmpfs tmpfs rw,size=64k,uid=5"},
		{map[string]string{"type": "none", "device": host, "o": "bind"}, "rw"},
		{map[string]string{"type": "none", "device": host, "o": "bind,ro,nosuid"}, "ro,nosuid"},
	} {
		at := mounted(t, t.TempDir(), c.options)
		b, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil || !strings.Contains(string(b), " "+at+" "+c.want) {
			t.Errorf("%v: not mounted as %q: %v", c.options, c.want, err)
		}
	}
}

func TestAMountThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	err := Driver{}.Mount(t.Context(), dir, dir, map[string]string{"type": "none", "device": "/not/there", "o": "bind,ro"})
	if want := "failed to mount local volume: mount /not/there:" + dir + ", flags: 0x1001: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	err = Driver{}.Mount(t.Context(), dir, dir, map[string]string{"type": "tmpfs", "device": "t", "o": "nonsense=1"})
	if want := "failed to mount local volume: mount t:" + dir + ", data: nonsense=1: invalid argument"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if err := mount.Unmount(dir); err == nil {
		t.Error("it has been mounted")
	}
}
