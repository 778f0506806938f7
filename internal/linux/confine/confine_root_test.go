//go:build root

package confine

import (
	"errors"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// place is a directory that may be used, beside a file that may not.
func place(t *testing.T) (dir *os.File, outside string) {
	t.Helper()
	base := t.TempDir()
	outside = base + "/outside"
	if err := errors.Join(os.Mkdir(base+"/dir", 0755), os.WriteFile(outside, []byte("canary"), 0666)); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(base + "/dir")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir, outside
}

func refused(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EXDEV) {
		t.Errorf("%s: %v", what, err)
	}
}

func TestOnlyTheDirectoryIsThere(t *testing.T) {
	if Landlock() < minLandlock {
		t.Skip("this kernel has no Landlock of the second ABI")
	}
	dir, outside := place(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = Run(Options{Dir: dir, Keep: []Capability{Chown, DACOverride, FOwner}}, func() error {
		_, err := os.ReadFile(outside)
		refused(t, "read", err)
		refused(t, "write", os.WriteFile(outside, []byte("x"), 0))
		refused(t, "make", os.WriteFile(outside+"2", nil, 0600))
		refused(t, "remove", os.Remove(outside))
		refused(t, "list", func() error { _, err := os.ReadDir("/etc"); return err }())
		refused(t, "truncate", os.Truncate(outside, 0))
		refused(t, "link in", os.Link(outside, dir.Name()+"/in"))
		refused(t, "rename out", func() error {
			return errors.Join(os.WriteFile(dir.Name()+"/out", nil, 0600), os.Rename(dir.Name()+"/out", outside))
		}())
		refused(t, "run", syscall.Exec("/bin/true", []string{"true"}, nil))
		if Landlock() >= 4 {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			refused(t, "connect", unix.Connect(fd, &unix.SockaddrInet4{Port: l.Addr().(*net.TCPAddr).Port, Addr: [4]byte{127, 0, 0, 1}}))
		}
		in := dir.Name() + "/d"
		return errors.Join(os.MkdirAll(in+"/e", 0755), os.WriteFile(in+"/e/f", nil, 0600), os.Link(in+"/e/f", in+"/f"),
			os.Chown(in+"/f", 1, 2), os.Truncate(in+"/f", 10), os.Symlink("/etc", in+"/l"), os.RemoveAll(in+"/e"))
	})
	if err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(outside); string(b) != "canary" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestCapabilitiesAreLessAndTheProcessKeepsItsOwn(t *testing.T) {
	dir, _ := place(t)
	t.Setenv("TARE_PROBE", "5.10") // no help of Landlock, if it was not asked for before
	status := func() string {
		b, _ := os.ReadFile("/proc/thread-self/status")
		_, s, _ := strings.Cut(string(b), "CapInh:")
		s, _, _ = strings.Cut(s, "Seccomp:")
		return s
	}
	before := status()
	err := Run(Options{Dir: nil, Keep: []Capability{Chown}, Reserve: []Capability{SysAdmin}}, func() error {
		s := status()
		for _, want := range []string{"CapPrm:\t0000000000200001\n", "CapEff:\t0000000000000001\n", "NoNewPrivs:\t1\n"} {
			if !strings.Contains(s, want) {
				t.Errorf("no %q in %s", want, s)
			}
		}
		refused(t, "mount", unix.Mount("x", dir.Name(), "tmpfs", 0, ""))
		refused(t, "setuid", func() error { _, _, e := syscall.RawSyscall(unix.SYS_SETUID, 1, 0, 0); return e }())
		refused(t, "mknod", unix.Mknod(dir.Name()+"/sda", unix.S_IFBLK|0600, int(unix.Mkdev(8, 0))))
		trusted := func() error { return unix.Setxattr(dir.Name(), "trusted.test", []byte("x"), 0) }
		refused(t, "attribute", trusted())
		if err := Raise(SysAdmin, trusted); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			t.Error(err)
		}
		refused(t, "attribute afterwards", trusted())
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for range 100 { // whichever thread it is
		if s := status(); s != before {
			t.Fatalf("the process has %s, had %s", s, before)
		}
	}
}

// The first thread of the process cannot end: it must never be the one.
func TestTheFirstThreadIsSpared(t *testing.T) {
	spared := func() error {
		if unix.Gettid() == unix.Getpid() {
			t.Error("it is the first thread")
		}
		return nil
	}
	for range 50 {
		runtime.LockOSThread()
		err := errors.Join(Run(Options{}, spared), OnThread(spared))
		runtime.UnlockOSThread()
		if err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile("/proc/self/status")
	if err != nil || !strings.Contains(string(b), "NoNewPrivs:\t0") {
		t.Errorf("%v %s", err, b)
	}
}

func TestThreadsEnd(t *testing.T) {
	threads := func() int { e, _ := os.ReadDir("/proc/self/task"); return len(e) }
	for range 20 {
		_ = Run(Options{}, func() error { return nil })
	}
	before := threads()
	for range 200 {
		_ = Run(Options{}, func() error { return nil })
	}
	if now := threads(); now > before+20 {
		t.Errorf("%d threads, %d before", now, before)
	}
}

func TestErrorsAndPanicsComeBack(t *testing.T) {
	mine := errors.New("mine")
	if err := Run(Options{}, func() error { return mine }); err != mine {
		t.Error(err)
	}
	defer func() {
		if p := recover(); p == nil || !strings.Contains(p.(string), "ours") {
			t.Error(p)
		}
	}()
	_ = Run(Options{}, func() error { panic("ours") })
}
