package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tare-engine/tare/internal/linux/dm"
)

// app is one call of the program.
type app struct {
	flags
	name    string // under which it was called
	command string // its verb
	in      io.Reader
	out     *bufio.Writer
	err     io.Writer
	dir     string // of device nodes, with a slash at the end
	conn    *dm.Conn

	naming         naming
	target2        mangling // that mangle is to bring names into
	drawing        drawing
	report         *report
	selected       *verb // is run for each device that the report selects
	concisePrinted bool
	whole          *tree
}

// naming is how devices are called in lists.
type naming int

const (
	byNumber naming = iota
	byKernelName
	byMappedName
)

func base(path string) string { return filepath.Base(path) }

func (a *app) errorf(format string, args ...any) { fmt.Fprintf(a.err, format+"\n", args...) }

func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.out, format, args...) }

func (a *app) close() {
	if a.conn != nil {
		a.conn.Close()
	}
}

// Debian's nodes: brw-rw---- root disk.
const (
	nodeGroup = 6
	nodeMode  = 0o660
)

// dm is the connection with the driver, nil if there can be none.
func (a *app) dm() *dm.Conn {
	if a.conn != nil {
		return a.conn
	}
	o := dm.Options{Dir: a.dir + "mapper", NoRules: a.noudevrules, Cookie: a.cookie, Nodes: dm.NodeMode{GID: nodeGroup, Mode: nodeMode}}
	if a.withUID {
		o.Nodes.UID = a.uid
	}
	if a.withGID {
		o.Nodes.GID = a.gid
	}
	if a.mode != 0 {
		o.Nodes.Mode = a.mode
	}
	switch {
	case os.Getenv("DM_DISABLE_UDEV") != "" || a.dir != "/dev/":
		o.Udev = dm.UdevOff
	case a.noudevsync || a.notable && a.command == "create":
		o.Udev = dm.UdevNoWait
	}
	if a.verbose > 1 {
		o.Trace = func(s string) { a.errorf("%s", s) }
	}
	c, err := dm.Open(o)
	if err != nil {
		var e *dm.Error
		if errors.As(err, &e) {
			err = e.Err
		}
		a.errorf("%s", err)
		a.errorf("Failure to communicate with kernel device-mapper driver.")
		if os.Geteuid() == 0 {
			a.errorf("Check that device-mapper is available in the kernel.")
		}
		return nil
	}
	a.conn = c
	return c
}

// words of requests in errors.
var requests = map[dm.Op]string{
	dm.OpCreate: "create", dm.OpLoad: "reload", dm.OpRemove: "remove", dm.OpRemoveAll: "remove_all", dm.OpSuspend: "suspend",
	dm.OpResume: "resume", dm.OpInfo: "info", dm.OpDeps: "deps", dm.OpRename: "rename", dm.OpVersion: "version", dm.OpStatus: "status",
	dm.OpTable: "table", dm.OpWait: "waitevent", dm.OpList: "names", dm.OpClear: "clear", dm.OpTargets: "versions",
	dm.OpMessage: "message", dm.OpGeometry: "setgeometry", dm.OpTargetVersion: "target-version",
}

// fail prints an error of the driver, and is false.
func (a *app) fail(err error) bool {
	if errors.Is(err, errQuiet) {
		return false
	}
	var e *dm.Error
	if !errors.As(err, &e) || requests[e.Op] == "" {
		a.errorf("%s", err)
		return false
	}
	if e.Err == syscall.ENXIO && (e.Op == dm.OpInfo || e.Op == dm.OpStatus) {
		a.errorf("Device does not exist.")
		return false
	}
	var dev string
	if e.Ref.Dev.Major > 0 {
		dev = "(" + e.Ref.Dev.String() + ")"
	}
	name, why := a.shown(e.Ref.Name), strerror(e.Err)
	if e.Op == dm.OpTargetVersion {
		name = strings.Join(e.Targets, "")
	}
	reason := e.Reason
	if _, number := e.Err.(syscall.Errno); !number { // refused here, with an error in words
		reason = e.Err.Error()
	}
	a.errorf("device-mapper: %s ioctl on %s %s%s failed: %s", requests[e.Op], name, e.Ref.UUID, dev, why)
	if (reason != "" || len(e.Targets) > 0) && e.Op != dm.OpTargetVersion {
		a.errorf("  [%s]%s", strings.Join(e.Targets, ", "), either(reason != "", " "+reason, ""))
	}
	return false
}

// strerror is an error in the C library's words.
func strerror(err error) string {
	var n syscall.Errno
	if !errors.As(err, &n) {
		n = syscall.EINVAL
	}
	s := n.Error()
	switch n {
	case syscall.EIO:
		return "Input/output error"
	case syscall.ENOTTY:
		return "Inappropriate ioctl for device"
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// ref is the device that an argument or the options are about.
func (a *app) ref(args []string) (dm.Ref, bool) {
	if len(args) > 0 {
		name, ok := a.kernelName(args[0])
		return dm.Name(name), ok
	}
	switch {
	case a.byUUID:
		uuid, ok := a.mangleText("UUID", a.uuid)
		return dm.UUID(uuid), ok
	case a.byMajor:
		return dm.Number(dm.Dev{Major: a.major, Minor: a.minor}), true
	}
	a.errorf("No device specified.")
	return dm.Ref{}, false
}

// about is the device of a list, or else that of ref, and what asks the kernel about it.
func (a *app) about(listed *dm.Listed, args []string) (c *dm.Conn, ref dm.Ref, ok bool) {
	if listed != nil {
		ref = dm.Name(listed.Name)
	} else if ref, ok = a.ref(args); !ok {
		return nil, ref, false
	}
	c = a.dm()
	return c, ref, c != nil
}

// first is the device of the first argument, unless options say it, and the others.
func (a *app) first(args []string) (ref dm.Ref, rest []string, ok bool) {
	if a.byOption() {
		ref, ok = a.ref(nil)
		return ref, args, ok
	}
	ref, ok = a.ref(args[:1])
	return ref, args[1:], ok
}

// kernelName is the name of a device that is there, given as such or as a path.
func (a *app) kernelName(name string) (string, bool) {
	if !strings.Contains(name, "/") {
		return a.newName("name", name)
	}
	last := filepath.Base(name)
	if strings.HasSuffix(name, "/") {
		last = ""
	}
	number, ok := rdev(name)
	if !ok {
		if len(name) < 3 || name[0] == '/' || strings.Count(name, "/") != 1 {
			a.errorf("Device %s not found", name)
			return "", false
		}
		if number, ok = rdev(a.dir + name); !ok {
			a.errorf("Device %s not found", name)
			return "", false
		}
	} else if n, ok := rdev(a.dir + "mapper/" + last); ok && n == number {
		return last, true
	}
	nodes, _ := os.ReadDir(a.dir + "mapper")
	for _, n := range nodes {
		if r, ok := rdev(a.dir + "mapper/" + n.Name()); ok && r == number {
			return n.Name(), true
		}
	}
	a.errorf("Device %s not found", last)
	return "", false
}

// rdev is the number of the device that a path leads to.
func rdev(path string) (uint64, bool) {
	var st syscall.Stat_t
	err := syscall.Stat(path, &st)
	return uint64(st.Rdev), err == nil
}

// maxName is the length of the longest name.
const maxName = 127

// newName is a name as the kernel is to have it.
func (a *app) newName(what, name string) (string, bool) {
	if len(name) > maxName {
		if what == "name" {
			a.errorf("Name \"%s\" too long.", name)
		} else {
			a.errorf("Name \"%s\" too long", name)
		}
		return "", false
	}
	return a.mangleText(what, name)
}

// mangling is how names with characters that udev does not know are written.
type mangling int

const (
	mangleNone mangling = iota
	mangleAuto
	mangleHex
)

var manglings = map[string]mangling{"none": mangleNone, "auto": mangleAuto, "hex": mangleHex}

// mangleText writes a name or UUID as the kernel is to have it.
func (a *app) mangleText(what, s string) (string, bool) { return a.mangleAs(a.mangle, what, s) }

func (a *app) mangleAs(mode mangling, what, s string) (string, bool) {
	switch mode {
	case mangleNone:
		return s, true
	case mangleHex:
		return dm.MangleAll(s), true
	}
	if strings.Contains(s, `\x5cx`) {
		a.errorf("The %s \"%s\" seems to be mangled more than once. This is not allowed in auto mode.", what, s)
		return "", false
	}
	m, err := dm.Mangle(s)
	if err != nil {
		a.errorf("The %s \"%s\" contains mixed mangled and unmangled characters or it's already mangled improperly.", what, s)
		a.errorf(map[string]string{"name": "Failed to mangle device name \"%s\".", "UUID": "Failed to mangle device uuid \"%s\".",
			"new name": "Failed to mangle new device name \"%s\"", "new UUID": "Failed to mangle new device UUID \"%s\""}[what], s)
		return "", false
	}
	return m, true
}

// shown is a name or UUID as it is printed.
func (a *app) shown(s string) string {
	if a.mangle == mangleNone {
		return s
	}
	return dm.Unmangle(s)
}

func (a *app) query() dm.Query {
	return dm.Query{Inactive: a.inactive, NoOpenCount: a.noopencount, NoFlush: a.noflush, Measure: a.command == "measure"}
}

func (a *app) suspendOptions() dm.SuspendOptions {
	return dm.SuspendOptions{NoFlush: a.noflush, NoLockFS: a.nolockfs}
}

// all runs a verb for each device.
func (a *app) all(run func(*app, []string, *dm.Listed, bool) bool, silent bool) bool {
	c := a.dm()
	if c == nil {
		return false
	}
	list, err := c.List()
	if err != nil {
		return a.fail(err)
	}
	if len(list) == 0 && !silent {
		a.printf("No devices found\n")
	}
	ok := true
	for i := range list {
		ok = run(a, nil, &list[i], true) && ok
	}
	return ok
}

// count is how often a report is printed, 0 if without end.
func (a *app) count() int {
	switch {
	case a.counted && a.counts > 0:
		return a.counts
	case a.counted || a.repeated:
		return 0
	}
	return 1
}

func (a *app) pause() { time.Sleep(time.Duration(max(a.interval, 1)) * time.Second) }
