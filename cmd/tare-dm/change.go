package main

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"syscall"

	"github.com/tare-engine/tare/internal/linux/dm"
)

// simple does one thing to one device, and shows the device with --verbose.
func (a *app) simple(args []string, do func(*dm.Conn, dm.Ref) (dm.Info, error)) bool {
	ref, ok := a.ref(args)
	if !ok {
		return false
	}
	c := a.dm()
	if c == nil {
		return false
	}
	info, err := do(c, ref)
	if err != nil {
		return a.fail(err)
	}
	if a.verbose > 0 {
		return a.display(info)
	}
	return true
}

func suspendVerb(a *app, args []string, _ *dm.Listed, _ bool) bool {
	return a.simple(args, func(c *dm.Conn, ref dm.Ref) (dm.Info, error) {
		if a.checks {
			a.checkBelow(c, ref)
		}
		return c.Suspend(ref, a.suspendOptions())
	})
}

// checkBelow warns of suspended devices that a device uses: requests between the two
// could not end.
func (a *app) checkBelow(c *dm.Conn, ref dm.Ref) {
	_, deps, err := c.Deps(ref, dm.Query{NoOpenCount: true})
	if err != nil {
		return
	}
	major, err := dm.Major()
	if err != nil {
		return
	}
	for _, d := range deps {
		if d.Major != major {
			continue
		}
		if info, err := c.Info(dm.Number(d), dm.Query{NoOpenCount: true}); err == nil && info.Suspended {
			a.errorf("Internal error: Attempt to suspend device %s that uses already-suspended device (%s)", ref, d)
			continue
		}
		a.checkBelow(c, dm.Number(d))
	}
}

func resumeVerb(a *app, args []string, _ *dm.Listed, _ bool) bool {
	return a.simple(args, func(c *dm.Conn, ref dm.Ref) (dm.Info, error) {
		info, err := c.Resume(ref, a.suspendOptions())
		if err == nil && !a.setReadAhead(info) {
			err = errQuiet
		}
		return info, err
	})
}

func clearVerb(a *app, args []string, _ *dm.Listed, _ bool) bool {
	return a.simple(args, func(c *dm.Conn, ref dm.Ref) (dm.Info, error) { return c.Clear(ref) })
}

func waitVerb(a *app, args []string, _ *dm.Listed, _ bool) bool {
	var name []string
	if !a.byOption() {
		if len(args) == 0 {
			a.errorf("No device specified.")
			return false
		}
		name, args = args[:1], args[1:]
	}
	event := uint32(0)
	if len(args) > 0 {
		event = uint32(number(args[len(args)-1]))
	}
	return a.simple(name, func(c *dm.Conn, ref dm.Ref) (dm.Info, error) {
		info, status, err := c.WaitEvent(ref, event, a.query())
		status.Wipe()
		return info, err
	})
}

func removeVerb(a *app, args []string, _ *dm.Listed, _ bool) bool {
	if a.force > 0 && len(args) > 0 {
		if a.cookie != 0 {
			a.errorf("WARNING: Use of cookie and --force is not compatible.")
		}
		wipeTableVerb(a, args, nil, false)
	}
	ref, ok := a.ref(args)
	if !ok {
		return false
	}
	c := a.dm()
	if c == nil {
		return false
	}
	if err := c.Remove(ref, dm.RemoveOptions{Deferred: a.deferred, Retry: a.retry}); err != nil {
		return a.fail(err)
	}
	return true
}

// wipeTableVerb has a device answer all requests with errors.
func wipeTableVerb(a *app, args []string, device *dm.Listed, _ bool) bool {
	ref, ok := dm.Ref{}, true
	if device != nil {
		ref = dm.Name(device.Name)
	} else if len(args) == 0 || args[0] == "" {
		a.errorf("No device specified.")
		return false
	} else if ref, ok = a.ref(args); !ok {
		return false
	}
	c := a.dm()
	if c == nil {
		return false
	}
	_, t, err := c.Table(ref, a.query())
	if err != nil {
		a.fail(err)
	}
	t.Wipe()
	if _, err := c.Load(ref, dm.Table{{Length: t.Length(), Type: "error"}}, dm.LoadOptions{ReadOnly: a.readOnly}); err != nil {
		return a.fail(err)
	}
	if a.force > 0 { // what is on its way could wait for ever
		a.noflush, a.nolockfs = true, true
	}
	if _, err := c.Resume(ref, a.suspendOptions()); err != nil {
		a.fail(err)
		if _, err := c.Clear(ref); err != nil {
			a.fail(err)
		}
		return false
	}
	return true
}

func removeAllVerb(a *app, _ []string, _ *dm.Listed, _ bool) bool {
	c := a.dm()
	if c == nil {
		return false
	}
	ok := a.removeFree(c)
	if a.force == 0 {
		return ok
	}
	left := a.countDevices(c)
	if left == 0 {
		return ok
	}
	a.all(wipeTableVerb, true)
	ok = a.removeFree(c)
	if left = a.countDevices(c); left > 0 {
		a.errorf("Unable to remove %d device(s).", left)
	}
	return ok
}

// removeFree removes all devices that are not in use.
func (a *app) removeFree(c *dm.Conn) bool {
	ok := true
	if err := c.RemoveAll(dm.RemoveOptions{Deferred: a.deferred}); err != nil {
		ok = a.fail(err)
	}
	if err := c.MakeNodes(""); err != nil {
		ok = a.fail(err)
	}
	return ok
}

func (a *app) countDevices(c *dm.Conn) int {
	list, err := c.List()
	if err != nil {
		a.fail(err)
	}
	return len(list)
}

func renameVerb(a *app, args []string, _ *dm.Listed, _ bool) bool {
	ref, ok := a.ref(args[:len(args)-1])
	if !ok {
		return false
	}
	to := args[len(args)-1]
	if a.setuuid {
		return a.newUUID(ref, to)
	}
	return a.rename(ref, to, a.mangle)
}

func (a *app) newUUID(ref dm.Ref, uuid string) bool {
	if len(uuid) > maxName+1 {
		a.errorf("Uuid \"%s\" too long", uuid)
		return false
	}
	uuid, ok := a.mangleText("new UUID", uuid)
	c := a.dm()
	if !ok || c == nil {
		return false
	}
	if _, err := c.SetUUID(ref, uuid); err != nil {
		return a.fail(err)
	}
	return true
}

func (a *app) rename(ref dm.Ref, to string, mode mangling) bool {
	switch {
	case strings.Contains(to, "/"):
		a.errorf("Name \"%s\" invalid. It contains \"/\".", to)
		return false
	case len(to) > maxName:
		a.errorf("Name \"%s\" too long", to)
		return false
	case to == "":
		a.errorf("Non empty new name is required.")
		return false
	}
	to, ok := a.mangleAs(mode, "new name", to)
	c := a.dm()
	if !ok || c == nil {
		return false
	}
	if _, err := c.Rename(ref, to); err != nil {
		return a.fail(err)
	}
	return true
}

func messageVerb(a *app, args []string, _ *dm.Listed, _ bool) bool {
	ref, args, ok := a.first(args)
	if !ok {
		return false
	}
	sector, err := strconv.ParseUint(args[0], 10, 64)
	if err != nil {
		a.errorf("Invalid sector.")
		return false
	}
	if len(args) == 1 {
		a.errorf("No message supplied.")
	}
	c := a.dm()
	if c == nil {
		return false
	}
	message := []byte(strings.Join(args[1:], " "))
	defer clear(message)
	answer, err := c.Message(ref, sector, message)
	if err != nil {
		return a.fail(err)
	}
	if answer != nil {
		a.out.Write(answer)
		if len(answer) > 0 && answer[len(answer)-1] != '\n' {
			a.out.WriteByte('\n')
		}
	}
	return true
}

func setGeometryVerb(a *app, args []string, _ *dm.Listed, _ bool) bool {
	ref, args, ok := a.first(args)
	if !ok {
		return false
	}
	var n [4]uint64
	for i := range n {
		var err error
		if n[i], err = strconv.ParseUint(args[i], 10, 64); err != nil {
			return a.fail(&dm.Error{Op: dm.OpGeometry, Ref: ref, Err: syscall.EINVAL})
		}
	}
	c := a.dm()
	if c == nil {
		return false
	}
	if err := c.SetGeometry(ref, dm.Geometry{Cylinders: n[0], Heads: n[1], Sectors: n[2], Start: n[3]}); err != nil {
		return a.fail(err)
	}
	return true
}

func mknodesVerb(a *app, args []string, _ *dm.Listed, _ bool) bool {
	name := ""
	if len(args) > 0 {
		var ok bool
		if name, ok = a.kernelName(args[0]); !ok {
			return false
		}
	}
	c := a.dm()
	if c == nil {
		return false
	}
	if err := c.MakeNodes(name); err != nil {
		return a.fail(err)
	}
	return true
}

// mangleVerb renames a device so that its name is mangled, or is not.
func mangleVerb(a *app, args []string, device *dm.Listed, _ bool) bool {
	if device == nil && len(args) == 0 && !a.byOption() {
		return a.all(mangleVerb, false)
	}
	c, ref, ok := a.about(device, args)
	if !ok {
		return false
	}
	info, err := c.Info(ref, dm.Query{})
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		return a.fail(err)
	}
	name, uuid := info.Name, info.UUID
	if a.target2 == mangleAuto {
		for what, s := range map[string]string{"name": name, "UUID": uuid} {
			if strings.Contains(s, `\x5cx`) {
				a.errorf("The %s \"%s\" seems to be mangled more than once. Manual intervention required to %s.", what, s,
					map[string]string{"name": "rename the device", "UUID": "correct the device UUID"}[what])
				return false
			}
		}
	}
	turn := func(s string) string { return dm.Unmangle(s) }
	if a.target2 != mangleNone {
		turn = func(s string) string {
			m, err := dm.Mangle(s)
			if err != nil {
				return s
			}
			return m
		}
	}
	if turn(uuid) != uuid {
		a.errorf("%s: %s: UUID in incorrect form. ", name, uuid)
		a.errorf("Unable to change device UUID. The device must be deactivated first.")
		return false
	}
	if turn(name) == name {
		if uuid == "" {
			a.printf("%s: [no UUID]: name already in correct form\n", name)
		} else {
			a.printf("%s: %s: name and UUID already in correct form\n", name, uuid)
		}
		return true
	}
	a.printf("%s: renaming to %s\n", name, turn(name))
	return a.rename(dm.Name(name), turn(name), mangleNone)
}

func targetVersionVerb(a *app, args []string, _ *dm.Listed, _ bool) bool {
	c := a.dm()
	if c == nil {
		return false
	}
	t, err := c.Target(args[0])
	if err != nil {
		return a.fail(err)
	}
	a.printf("%-16s v%s\n", t.Name, t.Version)
	return true
}

func targetsVerb(a *app, _ []string, _ *dm.Listed, _ bool) bool {
	c := a.dm()
	if c == nil {
		return false
	}
	all, err := c.Targets()
	if err != nil {
		return a.fail(err)
	}
	for _, t := range all {
		a.printf("%-16s v%s\n", t.Name, t.Version)
	}
	return true
}
