package target

import (
	"fmt"
	"math/bits"
)

// Mirror writes the same to several devices.
type Mirror struct {
	Log      MirrorLog
	Legs     []Area
	Features Args // handle_errors, keep_log
}

// MirrorLog knows which regions of the legs are in step.
type MirrorLog struct {
	Type string // core, disk, clustered-core, clustered-disk, userspace
	// Args are, of core, the region size, and of disk the log's device before it;
	// sync or nosync may follow.
	Args Args
}

// Type is mirror.
func (*Mirror) Type() string { return "mirror" }

// AppendParams appends LOG LEGS FEATURES.
func (t *Mirror) AppendParams(b []byte) []byte {
	b = t.Log.Args.append(append(append(b, t.Log.Type...), ' '))
	b = fmt.Appendf(b, " %d", len(t.Legs))
	for _, l := range t.Legs {
		b = l.append(append(b, ' '))
	}
	if len(t.Features) > 0 {
		b = t.Features.append(append(b, ' '))
	}
	return b
}

// maxLegs is what the kernel copies at once, and the one it reads.
const maxLegs = 9

// Validate counts legs and knows the kernel's own logs.
func (t *Mirror) Validate() error {
	fail := func(format string, args ...any) error { return fmt.Errorf("target mirror: "+format, args...) }
	if len(t.Legs) == 0 || len(t.Legs) > maxLegs {
		return fail("%d legs, not 1 to %d", len(t.Legs), maxLegs)
	}
	for _, l := range t.Legs {
		if err := l.check(); err != nil {
			return fail("%w", err)
		}
	}
	if err := t.Features.check(map[string]int{"handle_errors": 0, "keep_log": 0}); err != nil {
		return fail("%w", err)
	}
	if err := checkWords(append(Args{t.Log.Type}, t.Log.Args...)); err != nil {
		return fail("%w", err)
	}
	first := map[string]int{"core": 0, "disk": 1}
	at, own := first[t.Log.Type]
	if !own {
		return nil
	}
	if len(t.Log.Args) <= at {
		return fail("the log %s has no region size", t.Log.Type)
	}
	w := words{rest: []byte(t.Log.Args[at])}
	if n := w.number("region size"); w.err != nil || bits.OnesCount64(n) != 1 {
		return fail("the region size, %q, is no power of two", t.Log.Args[at])
	}
	return nil
}

func (t *Mirror) parse(w *words) {
	t.Log.Type = w.word("type of the log")
	t.Log.Args = w.args("arguments of the log")
	for range w.count("number of legs") {
		l := w.area("a leg")
		if w.err != nil {
			return
		}
		t.Legs = append(t.Legs, l)
	}
	if w.more() {
		t.Features = w.args("features")
	}
}

// MirrorStatus is how far a mirror is in step, and the health of its legs.
type MirrorStatus struct {
	Devices []string
	InSync  Used // regions
	// Health has a letter for each leg: A (alive), F (flush failed), D (write
	// failed), S (resync failed), R (read failed), U (unknown).
	Health string
	Log    Args // its type; of disk the device and its health, too
}

// AppendStatus appends NUMBER DEVICES INSYNC 1 HEALTH LOG.
func (s *MirrorStatus) AppendStatus(b []byte) []byte {
	b = fmt.Appendf(b, "%d ", len(s.Devices))
	for _, d := range s.Devices {
		b = append(append(b, d...), ' ')
	}
	b = append(append(append(s.InSync.append(b), " 1 "...), s.Health...), ' ')
	return s.Log.append(b)
}

func (s *MirrorStatus) parse(w *words) {
	s.Devices = w.list(w.count("number of legs"), "device")
	s.InSync = w.used("number of regions in step")
	if n := w.number("number of healths"); n != 1 {
		w.fail("there are %d healths", n)
	}
	s.Health = w.word("health")
	s.Log = w.args("words of the log")
}
