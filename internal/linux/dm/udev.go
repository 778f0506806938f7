package dm

import "os"

// Udev says who makes the nodes of devices.
type Udev int

const (
	// UdevAuto leaves them to udev where that runs, and waits until it has made
	// them. It needs udev's System V semaphores: a process with an IPC namespace of
	// its own that sees the host's udev uses another value.
	UdevAuto Udev = iota
	// UdevNoWait leaves them to udev where that runs, and does not wait.
	UdevNoWait
	// UdevOff makes them here; udev, if it runs, is told to leave the devices alone.
	UdevOff
)

// Flags that go with a change to udev's rules, above the cookie.
const (
	udevNoDeviceRules    = 1 << 0
	udevNoSubsystemRules = 1 << 1
	udevNoFallback       = 1 << 5 // nobody else makes the node
	udevPrimarySource    = 1 << 6 // the event comes from a change, not from a trigger

	udevFlagsShift = 16
)

// udevControl is there while udev runs. Tests have another one.
var udevControl = "/run/udev/control"

// UdevRuns reports whether there is a udev, which makes nodes and completes cookies.
func UdevRuns() bool {
	_, err := os.Stat(udevControl)
	return err == nil
}

func (c *Conn) udevMakesNodes() bool {
	return c.opts.Udev != UdevOff && !c.opts.NoRules && UdevRuns()
}

// settle is the end of one change: what udev does with it, and who waits for that.
type settle struct {
	flags  uint32
	cookie Cookie
	own    bool // nobody else waits
	ours   bool // nodes are made, or seen to be made, here
}

func (c *Conn) settle() (*settle, error) {
	s := &settle{flags: udevPrimarySource}
	if !c.udevMakesNodes() {
		s.flags |= udevNoDeviceRules | udevNoSubsystemRules
		s.ours = true
	} else {
		s.flags |= udevNoFallback
	}
	if c.opts.Udev != UdevAuto || !UdevRuns() {
		return s, nil
	}
	s.cookie = c.opts.Cookie
	if s.cookie == 0 {
		var err error
		if s.cookie, err = NewCookie(); err != nil {
			return nil, err
		}
		s.own, s.ours = true, true
	}
	if err := s.cookie.add(); err != nil {
		if s.own {
			err = joined(err, s.cookie.Destroy())
		}
		return nil, err
	}
	return s, nil
}

// field is what the request carries to udev.
func (s *settle) field() uint32 { return s.flags<<udevFlagsShift | uint32(s.cookie)&cookieMask }

// undo is for a request that failed: udev will not hear of it.
func (s *settle) undo() error {
	if s.cookie == 0 {
		return nil
	}
	err := s.cookie.Complete()
	if s.own {
		err = joined(err, s.cookie.Destroy())
	}
	return err
}

// wait waits until udev is done, if it was told.
func (s *settle) wait(told bool) error {
	if s.cookie == 0 {
		return nil
	}
	if !told {
		if err := s.cookie.Complete(); err != nil {
			return err
		}
	}
	if !s.own {
		return nil
	}
	return s.cookie.Wait()
}
