package target

import "fmt"

// Linear is part of another device.
type Linear struct{ Area }

// Type is linear.
func (*Linear) Type() string { return "linear" }

// AppendParams appends DEVICE OFFSET.
func (t *Linear) AppendParams(b []byte) []byte { return t.append(b) }

// Validate asks for a device.
func (t *Linear) Validate() error { return t.check() }

func (t *Linear) parse(w *words) { t.Area = w.area("the target") }

// Zero reads as zeros, and takes writes.
type Zero struct{}

// Type is zero.
func (*Zero) Type() string { return "zero" }

// AppendParams appends nothing.
func (*Zero) AppendParams(b []byte) []byte { return b }

// Validate finds nothing.
func (*Zero) Validate() error { return nil }

func (*Zero) parse(*words) {}

// Error answers each request with an error.
type Error struct{}

// Type is error.
func (*Error) Type() string { return "error" }

// AppendParams appends nothing.
func (*Error) AppendParams(b []byte) []byte { return b }

// Validate finds nothing.
func (*Error) Validate() error { return nil }

func (*Error) parse(w *words) { w.rest = nil } // the kernel takes anything, as other targets are exchanged for it

// Delay lets requests wait. One class is for all of them, two for reads, and for
// writes with flushes, three for reads, writes and flushes.
type Delay struct{ Classes []DelayClass }

// DelayClass is what becomes of a kind of requests.
type DelayClass struct {
	Area
	Milliseconds uint64
}

// Type is delay.
func (*Delay) Type() string { return "delay" }

// AppendParams appends DEVICE OFFSET DELAY, once for each class.
func (t *Delay) AppendParams(b []byte) []byte {
	for i, c := range t.Classes {
		if i > 0 {
			b = append(b, ' ')
		}
		b = fmt.Appendf(c.append(b), " %d", c.Milliseconds)
	}
	return b
}

// Validate counts the classes.
func (t *Delay) Validate() error {
	if len(t.Classes) < 1 || len(t.Classes) > 3 {
		return fmt.Errorf("target delay: %d classes, not 1 to 3", len(t.Classes))
	}
	for _, c := range t.Classes {
		if err := c.check(); err != nil {
			return fmt.Errorf("target delay: %w", err)
		}
	}
	return nil
}

func (t *Delay) parse(w *words) {
	for len(t.Classes) == 0 || w.more() {
		t.Classes = append(t.Classes, DelayClass{w.area("a class"), w.number("delay")})
		if len(t.Classes) > 3 {
			w.fail("there are more than 3 classes")
		}
		if w.err != nil {
			return
		}
	}
}

// DelayStatus is how many requests wait.
type DelayStatus struct{ Reads, Writes, Flushes uint64 }

// AppendStatus appends READS WRITES FLUSHES.
func (s *DelayStatus) AppendStatus(b []byte) []byte {
	return fmt.Appendf(b, "%d %d %d", s.Reads, s.Writes, s.Flushes)
}

func (s *DelayStatus) parse(w *words) {
	s.Reads, s.Writes, s.Flushes = w.number("number of reads"), w.number("number of writes"), w.number("number of flushes")
}

// Flakey works for some seconds, then does not for some, and so on. Without features
// it fails all requests when it does not work.
type Flakey struct {
	Area
	Up, Down uint64 // seconds
	// Features are drop_writes, error_writes, error_reads, corrupt_bio_byte with
	// byte, r or w, value and flags, random_read_corrupt and random_write_corrupt
	// with a probability.
	Features Args
}

// Type is flakey.
func (*Flakey) Type() string { return "flakey" }

// AppendParams appends DEVICE OFFSET UP DOWN FEATURES.
func (t *Flakey) AppendParams(b []byte) []byte {
	b = fmt.Appendf(t.Area.append(b), " %d %d ", t.Up, t.Down)
	return append(t.Features.append(b), ' ')
}

// Validate knows the features, and that there is some time.
func (t *Flakey) Validate() error {
	err := t.Features.check(map[string]int{"drop_writes": 0, "error_writes": 0, "error_reads": 0, "corrupt_bio_byte": 4, "random_read_corrupt": 1, "random_write_corrupt": 1})
	switch {
	case err != nil:
	case t.Up+t.Down == 0:
		err = fmt.Errorf("both times are 0")
	default:
		err = t.check()
	}
	if err != nil {
		return fmt.Errorf("target flakey: %w", err)
	}
	return nil
}

func (t *Flakey) parse(w *words) {
	t.Area, t.Up, t.Down = w.area("the target"), w.number("time that it works"), w.number("time that it does not")
	if w.more() {
		t.Features = w.args("features")
	}
}
