package dm

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// asUdev has a goroutine do what udev's rules do: complete the cookies of events.
func asUdev(t *testing.T, f *fake) (events *[]uint32) {
	t.Helper()
	events = new([]uint32)
	f.before = func(op Op, buf []byte) {
		if op != OpResume && op != OpRemove && op != OpRename {
			return
		}
		event := native.Uint32(buf[offEvent:])
		*events = append(*events, event)
		if k := Cookie(event).FromEvent(); k != 0 && !f.quiet && f.find(buf) != nil {
			go func() {
				if err := k.Complete(); err != nil {
					t.Error(err)
				}
			}()
		}
	}
	return events
}

func noCookies(t *testing.T, before []Semaphore) {
	t.Helper()
	after, err := Cookies()
	if err != nil || len(after) > len(before) {
		t.Errorf("cookies left: %v, %v", after, err)
	}
}

func cookies(t *testing.T) []Semaphore {
	t.Helper()
	all, err := Cookies()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A change waits for udev, and leaves no semaphore: also if it fails, or udev is not told.
func TestChangesWaitForUdev(t *testing.T) {
	c, f := newFake(t)
	before := cookies(t)
	f.devices = []*fakeDevice{{name: "a", minor: 7}}
	c.opts.Udev = UdevAuto
	events := asUdev(t, f)
	if _, err := c.Rename(Name("a"), "a"); err != nil && !errors.Is(err, os.ErrPermission) { // the node needs root
		t.Error(err)
	}
	if len(*events) != 1 || (*events)[0]&cookieMask == 0 || (*events)[0]>>udevFlagsShift != udevPrimarySource|udevNoFallback {
		t.Errorf("%x", *events)
	}
	if _, err := c.Rename(Name("nosuch"), "b"); !errors.Is(err, unix.ENXIO) {
		t.Error(err)
	}
	f.quiet = true
	if err := c.Remove(Name("a"), RemoveOptions{}); err != nil {
		t.Error(err)
	}
	noCookies(t, before)
}

// With a cookie of the caller changes do not wait; its Wait does, for all of them.
func TestTransaction(t *testing.T) {
	c, f := newFake(t)
	before := cookies(t)
	f.devices = []*fakeDevice{{name: "a"}, {name: "b", minor: 1}}
	k, err := NewCookie()
	if err != nil {
		t.Fatal(err)
	}
	c.opts.Udev, c.opts.Cookie = UdevAuto, k
	for _, name := range []string{"a", "b"} {
		if err := c.Remove(Name(name), RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range cookies(t) {
		if s.Cookie == k && s.Value != 3 {
			t.Errorf("%+v, not 3", s)
		}
	}
	done := make(chan error)
	go func() { done <- k.Wait() }()
	for range 2 {
		if err := k.Complete(); err != nil {
			t.Error(err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	noCookies(t, before)
}

// Nobody waits for a udev that has ended.
func TestUdevEnds(t *testing.T) {
	newFake(t)
	before := cookies(t)
	old := look
	look = unix.Timespec{Nsec: 1e6}
	t.Cleanup(func() { look = old })
	k, err := NewCookie()
	if err != nil {
		t.Fatal(err)
	}
	if err := k.add(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- k.Wait() }()
	if err := os.Remove(udevControl); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	noCookies(t, before)
}

// What udev is told, by who makes nodes.
func TestWhatUdevIsTold(t *testing.T) {
	for _, x := range []struct {
		udev          Udev
		noRules, runs bool
		flags         uint32
		ours, cookie  bool
	}{
		{UdevAuto, false, true, udevPrimarySource | udevNoFallback, true, true},
		{UdevAuto, true, true, udevPrimarySource | udevNoDeviceRules | udevNoSubsystemRules, true, true},
		{UdevAuto, false, false, udevPrimarySource | udevNoDeviceRules | udevNoSubsystemRules, true, false},
		{UdevNoWait, false, true, udevPrimarySource | udevNoFallback, false, false},
		{UdevOff, false, true, udevPrimarySource | udevNoDeviceRules | udevNoSubsystemRules, true, false},
	} {
		c, _ := newFake(t)
		c.opts.Udev, c.opts.NoRules = x.udev, x.noRules
		if !x.runs {
			if err := os.Remove(udevControl); err != nil {
				t.Fatal(err)
			}
		}
		s, err := c.settle()
		if err != nil {
			t.Fatal(err)
		}
		if s.flags != x.flags || s.ours != x.ours || s.own != x.cookie || (s.cookie != 0) != x.cookie {
			t.Errorf("%+v: %+v", x, s)
		}
		if err := s.undo(); err != nil {
			t.Error(err)
		}
	}
}

func TestParseCookie(t *testing.T) {
	for in, want := range map[string]Cookie{"0x0D4D1234": 0x0d4d1234, "223154740": 0x0d4d1234} {
		if k, err := ParseCookie(in); err != nil || k != want || k.String() != "0x0D4D1234" {
			t.Errorf("%s: %s, %v", in, k, err)
		}
	}
	for _, in := range []string{"", "0", "x", "0x100000000", "-1"} {
		if k, err := ParseCookie(in); err == nil {
			t.Errorf("%q: %s", in, k)
		}
	}
	if k := Cookie(0x00610000).FromEvent(); k != 0 {
		t.Error(k)
	}
	if err := Cookie(0x12341234).Complete(); err == nil {
		t.Error("a key that is no cookie")
	}
}
