// Package target has the targets of device mapper as types: what a line of a table
// says to one, and what one says of its state.
//
//	t, err := target.Parse("striped", []byte("2 128 /dev/sdc 0 /dev/sdd 0"))
//	t.(*target.Striped).ChunkSize         128
//	string(t.AppendParams(nil))           what was parsed
//
//	s, err := target.ParseStatus("thin-pool", params)
//	s.(*target.ThinPoolStatus).Data.Used  blocks in use
//
// Both are printed as the kernel prints them, to the last space. A type knows the
// form of its parameters, and Validate the rules that can be told without the
// devices: the rest the kernel says when the table is loaded.
//
//	linear           part of another device
//	striped          several devices in turn (RAID 0)
//	mirror           the same on several devices, with a log of regions in step
//	raid             RAID 1, 4, 5, 6 and 10 of the md driver
//	snapshot-origin  a device that has snapshots
//	snapshot         its content at one time; changed blocks lie on a second device
//	snapshot-merge   a snapshot that goes back into its origin
//	thin-pool, thin  blocks given out when they are written, shared by snapshots
//	cache            a fast device before a slow one
//	crypt            encryption
//	verity           a read-only device whose blocks are known by a hash tree
//	multipath        one device by several ways
//	zero, error      zeros; an error for each request
//	delay, flakey    slow, and unreliable at times: for tests
package target

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// Target is one of this package's types for a line of a table.
type Target interface {
	Type() string
	// AppendParams appends the parameters as the kernel takes and prints them.
	AppendParams([]byte) []byte
	// Validate reports what the kernel would refuse whatever the devices are.
	Validate() error

	parse(*words)
}

// Status is one of this package's types for the state of a target.
type Status interface {
	AppendStatus([]byte) []byte

	parse(*words)
}

// ErrUnknown is about a target that this package has no type for.
var ErrUnknown = errors.New("unknown target")

// Parse reads the parameters of a target. The result shares no memory with them.
func Parse(name string, params []byte) (Target, error) {
	t := newTarget(name)
	if t == nil {
		return nil, fmt.Errorf("%w %q", ErrUnknown, name)
	}
	w := &words{rest: params}
	t.parse(w)
	if err := w.end(); err != nil {
		return nil, fmt.Errorf("target %s: %w", name, err)
	}
	return t, nil
}

// ParseStatus reads what a target says of its state. Of targets that say nothing it
// is Nothing.
func ParseStatus(name string, params []byte) (Status, error) {
	s := newStatus(name)
	if s == nil {
		return nil, fmt.Errorf("%w %q", ErrUnknown, name)
	}
	w := &words{rest: params}
	s.parse(w)
	if err := w.end(); err != nil {
		return nil, fmt.Errorf("status of target %s: %w", name, err)
	}
	return s, nil
}

func newTarget(name string) Target {
	switch name {
	case "linear":
		return &Linear{}
	case "striped":
		return &Striped{}
	case "mirror":
		return &Mirror{}
	case "raid":
		return &Raid{}
	case "snapshot":
		return &Snapshot{}
	case "snapshot-merge":
		return &SnapshotMerge{}
	case "snapshot-origin":
		return &SnapshotOrigin{}
	case "thin-pool":
		return &ThinPool{}
	case "thin":
		return &Thin{}
	case "cache":
		return &Cache{}
	case "crypt":
		return &Crypt{}
	case "verity":
		return &Verity{}
	case "multipath":
		return &Multipath{}
	case "zero":
		return &Zero{}
	case "error":
		return &Error{}
	case "delay":
		return &Delay{}
	case "flakey":
		return &Flakey{}
	}
	return nil
}

func newStatus(name string) Status {
	switch name {
	case "linear", "zero", "error", "crypt", "flakey", "snapshot-origin":
		return &Nothing{}
	case "striped":
		return &StripedStatus{}
	case "mirror":
		return &MirrorStatus{}
	case "raid":
		return &RaidStatus{}
	case "snapshot", "snapshot-merge":
		return &SnapshotStatus{}
	case "thin-pool":
		return &ThinPoolStatus{}
	case "thin":
		return &ThinStatus{}
	case "cache":
		return &CacheStatus{}
	case "verity":
		return &VerityStatus{}
	case "multipath":
		return &MultipathStatus{}
	case "delay":
		return &DelayStatus{}
	}
	return nil
}

// Nothing is the status of targets that have none.
type Nothing struct{}

// AppendStatus appends nothing.
func (*Nothing) AppendStatus(b []byte) []byte { return b }
func (*Nothing) parse(*words)                 {}

// Area is where on a device something begins.
type Area struct {
	Device string // its path, or MAJOR:MINOR
	Offset uint64 // sectors
}

func (a Area) append(b []byte) []byte { return fmt.Appendf(b, "%s %d", a.Device, a.Offset) }

func (a Area) check() error { return checkDevice(a.Device) }

func checkDevice(d string) error {
	if d == "" || bytes.ContainsAny([]byte(d), space+"\x00") {
		return fmt.Errorf("%q is no device: a path without spaces or MAJOR:MINOR", d)
	}
	return nil
}

// Used is how much there is of something, and how much of it is in use.
type Used struct{ Used, Total uint64 }

func (u Used) append(b []byte) []byte { return fmt.Appendf(b, "%d/%d", u.Used, u.Total) }

// Args are words whose number stands before them: options, by name, of which some
// are followed by a value.
type Args []string

func (a Args) append(b []byte) []byte {
	b = strconv.AppendInt(b, int64(len(a)), 10)
	for _, w := range a {
		b = append(append(b, ' '), w...)
	}
	return b
}

// check compares with what there is: the number of values by name.
func (a Args) check(known map[string]int) error {
	for i := 0; i < len(a); i++ {
		values, ok := known[a[i]]
		if !ok {
			return fmt.Errorf("there is no option %q", a[i])
		}
		if i+values >= len(a) {
			return fmt.Errorf("option %q needs %d values", a[i], values)
		}
		i += values
	}
	return checkWords(a)
}

func checkWords(words []string) error {
	for _, w := range words {
		if w == "" || bytes.ContainsAny([]byte(w), space+"\x00") {
			return fmt.Errorf("%q is no word", w)
		}
	}
	return nil
}

// space is what separates words.
const space = " \t\n\v\f\r"

// maxArgs bounds the number before Args.
const maxArgs = 4096

// words reads parameters from left to right. After the first mistake it returns zeros.
type words struct {
	rest []byte
	err  error
	// secret has mistakes not show the word: a key may be where it should not.
	secret bool
}

func (w *words) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
	w.rest = nil
}

func (w *words) more() bool {
	w.rest = bytes.TrimLeft(w.rest, space)
	return len(w.rest) > 0
}

// raw is the next word, in the memory of what is parsed.
func (w *words) raw(what string) []byte {
	if !w.more() {
		w.fail("the %s is missing", what)
		return nil
	}
	end := bytes.IndexAny(w.rest, space)
	if end < 0 {
		end = len(w.rest)
	}
	word := w.rest[:end]
	w.rest = w.rest[end:]
	if bytes.IndexByte(word, 0) >= 0 {
		w.fail("the %s contains a zero", what)
		return nil
	}
	return word
}

func (w *words) word(what string) string { return string(w.raw(what)) }

func (w *words) number(what string) uint64 {
	word := w.word(what)
	n, err := strconv.ParseUint(word, 10, 64)
	switch {
	case err == nil || w.err != nil:
	case w.secret:
		w.fail("the %s is no number", what)
	default:
		w.fail("the %s, %q, is no number", what, word)
	}
	return n
}

// count is a number of things that follow.
func (w *words) count(what string) int {
	n := w.number(what)
	if n > maxArgs {
		w.fail("the %s is %d, more than %d", what, n, maxArgs)
		return 0
	}
	return int(n)
}

func (w *words) area(what string) Area {
	return Area{w.word("device of " + what), w.number("offset of " + what)}
}

func (w *words) args(what string) Args { return Args(w.list(w.count("number of "+what), what)) }

// list are n words.
func (w *words) list(n int, what string) []string {
	var all []string
	for range n {
		word := w.word(what)
		if w.err != nil {
			return nil
		}
		all = append(all, word)
	}
	return all
}

// used reads USED/TOTAL.
func (w *words) used(what string) Used {
	word := w.word(what)
	a, b, ok := bytes.Cut([]byte(word), []byte{'/'})
	used, err1 := strconv.ParseUint(string(a), 10, 64)
	total, err2 := strconv.ParseUint(string(b), 10, 64)
	if !ok || err1 != nil || err2 != nil {
		if w.err == nil {
			w.fail("the %s, %q, is not USED/TOTAL", what, word)
		}
		return Used{}
	}
	return Used{used, total}
}

// end reports the first mistake; too much is one.
func (w *words) end() error {
	if w.err == nil && w.more() {
		w.fail("%d bytes are too much at the end", len(w.rest))
	}
	return w.err
}
