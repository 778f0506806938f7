package dm

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Error is a request that the kernel refused, or that could not be made.
type Error struct {
	Op      Op
	Ref     Ref
	Targets []string // the targets of the table that it is about, each once
	Reason  string   // what the kernel's log says about it, where that can be read
	Err     error    // mostly a syscall.Errno
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "device mapper: %s", e.Op)
	if ref := e.Ref.String(); ref != "" {
		fmt.Fprintf(&b, " %s", ref)
	}
	if len(e.Targets) > 0 {
		fmt.Fprintf(&b, " [%s]", strings.Join(e.Targets, ", "))
	}
	fmt.Fprintf(&b, ": %s", e.Err)
	if e.Reason != "" {
		fmt.Fprintf(&b, ": %s", e.Reason)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Is has the two errors that callers ask for without knowing the kernel's numbers:
// fs.ErrNotExist, no such device, and fs.ErrExist, the name or UUID is taken.
func (e *Error) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return e.Err == unix.ENXIO && e.Op != OpOpen && e.Op != OpLoad
	case fs.ErrExist:
		return e.Err == unix.EBUSY && (e.Op == OpCreate || e.Op == OpRename)
	}
	return false
}

// about adds to an error which targets the device has.
func (c *Conn) about(err error) error {
	e, ok := err.(*Error)
	if !ok || e.Err == unix.ENXIO || len(e.Targets) > 0 {
		return err
	}
	r, lookErr := c.do(&request{op: OpTable, ref: e.Ref, flags: flagNoFlush | flagNoOpenCount | flagSecure})
	if lookErr != nil {
		return err
	}
	defer r.wipe()
	if t, lookErr := r.lines(); lookErr == nil {
		e.Targets = t.types()
		t.Wipe()
	}
	return err
}

// types are the targets of a table, each once.
func (t Table) types() []string {
	var names []string
	for _, l := range t {
		if !slices.Contains(names, l.Type) {
			names = append(names, l.Type)
		}
	}
	return names
}
