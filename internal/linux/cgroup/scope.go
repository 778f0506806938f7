package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Scope is a group that systemd makes: a transient unit that begins with a
// process, and ends by itself when the last one has ended. What systemd has
// properties for is told to it, or it would write its own values over ours when
// something makes it look (daemon-reload); the rest is written to the group's
// files. The group is delegated: systemd leaves alone what is below it.
type Scope struct {
	Units       Units
	Slice       string // where the scope lies, such as "system.slice"
	Name        string // of the unit, with its ".scope"
	Description string
	Properties  map[string]any // further ones of the unit
}

// Units is process 1 where that is systemd. Values of properties have the Go
// types of the D-Bus types in org.freedesktop.systemd1(5). Its calls return when
// the unit's job is done; they wait with a bound.
type Units interface {
	// StartScope makes a scope and puts the process into its group.
	StartScope(name string, pid int, properties map[string]any) error
	// Set changes properties of a unit that there is, until it ends.
	Set(name string, properties map[string]any) error
	// Stop ends a unit and has systemd forget it, also one that has failed. A unit
	// that is gone is stopped.
	Stop(name string) error
}

// unit is what a group that is a scope knows of its unit.
type unit struct {
	units      Units
	name       string
	properties map[string]any        // without limits
	limits     *specs.LinuxResources // of a group that has not begun; else nil
	owner      *[2]int               // uid and gid to which it will be delegated; nil: to nobody
}

// NewScope returns a group that begins when the first process is put into it by
// Enter: no directory is there before. Its paths are known at once.
func NewScope(s Scope, r *specs.LinuxResources) (*Group, error) {
	t, err := host()
	if err != nil {
		return nil, err
	}
	return newScope(t, s, r)
}

func newScope(t tree, s Scope, r *specs.LinuxResources) (*Group, error) {
	p, err := s.Path()
	if err != nil {
		return nil, err
	}
	if r == nil {
		r = &specs.LinuxResources{}
	}
	g := &Group{path: p, tree: t, dirs: t.layout(p, nil, false)}
	g.unit = &unit{units: s.Units, name: s.Name, properties: s.properties(t.version()), limits: r}
	_, err = t.limits(g, r, true)
	return g, err
}

// Path is the scope's group, below those of its slices.
func (s Scope) Path() (string, error) {
	dir, err := SlicePath(s.Slice)
	if err != nil {
		return "", err
	}
	if !strings.HasSuffix(s.Name, ".scope") || strings.Contains(s.Name, "/") {
		return "", fmt.Errorf("invalid name of a scope: %q", s.Name)
	}
	p := strings.TrimPrefix(dir+"/"+s.Name, "/")
	return p, checkPath(p)
}

// SlicePath is the group of a slice, by systemd.slice(5): "a-b.slice" lies in
// "a.slice". That of the root slice, "-.slice", is empty.
func SlicePath(slice string) (string, error) {
	name, ok := strings.CutSuffix(slice, ".slice")
	if !ok || name == "" || strings.ContainsAny(name, "/\n\x00") {
		return "", fmt.Errorf("invalid slice name: %s", slice)
	}
	if name == "-" {
		return "", nil
	}
	p, prefix := "", ""
	for part := range strings.SplitSeq(name, "-") {
		if part == "" {
			return "", fmt.Errorf("invalid slice name: %s", slice)
		}
		p += "/" + prefix + part + ".slice"
		prefix += part + "-"
	}
	return p[1:], nil
}

// OpenScope is Open for a scope that has begun.
func OpenScope(u Units, p string) (*Group, error) {
	g, err := Open(p)
	if err == nil {
		g.unit = &unit{units: u, name: path.Base(p)}
	}
	return g, err
}

// AbsentScope is Absent for a scope: Remove has systemd forget the unit.
func AbsentScope(u Units, p string) *Group {
	g := Absent(p)
	g.unit = &unit{units: u, name: path.Base(p)}
	return g
}

// Begun reports whether processes can enter the group by ProcsPaths, and be born
// in it: false until the Enter of a scope's first process.
func (g *Group) Begun() bool { return g.unit == nil || g.unit.limits == nil }

// begin begins a scope that has not begun, with its first process.
func (g *Group) begin(pid int) error {
	if g.Begun() {
		return nil
	}
	u, r := g.unit, g.unit.limits
	l, err := g.tree.limits(g, r, true)
	if err != nil {
		return err
	}
	properties := propertiesOf(l, bandwidth{period: defaultPeriod})
	maps.Copy(properties, u.properties)
	if g.tree.version() == 1 {
		devices, err := deviceProperties(r.Devices)
		if err != nil {
			return err
		}
		maps.Copy(properties, devices)
	}
	if err := u.units.StartScope(u.name, pid, properties); err != nil {
		return err
	}
	u.limits = nil
	if err := g.complete(); err != nil {
		return err
	}
	if err := g.tree.apply(g, r, true); err != nil {
		return err
	}
	return g.delegateScope(pid)
}

// complete makes what systemd does not know of the group: controllers, and trees
// of version 1.
func (g *Group) complete() error {
	if dir := path.Dir(g.path); dir != "." {
		if err := prepare(g.tree, dir, false); err != nil {
			return err
		}
	}
	_, err := g.ensureDirs()
	return err
}

// delegateScope does what Delegate has put off.
func (g *Group) delegateScope(pid int) error {
	owner := g.unit.owner
	t, ok := g.tree.(*v2)
	if owner == nil || !ok {
		return nil
	}
	d := g.dirs[0].path
	if err := makeDelegated(d); err != nil {
		return err
	}
	// A group with processes of its own hands no controllers down.
	if err := t.write(d+"/"+payload, "cgroup.procs", uintText(uint64(pid))); err != nil {
		return err
	}
	if err := t.delegate(d); err != nil {
		return err
	}
	return giveAway(d+"/"+payload, owner[0], owner[1])
}

// delegateLater is Delegate of a scope that has not begun.
func (g *Group) delegateLater(uid, gid int) error {
	g.unit.owner = &[2]int{uid, gid}
	if g.tree.version() == 2 {
		g.delegated = true
		return nil
	}
	d, ok := g.dir(namedTree)
	if !ok {
		return errNoNamedTree
	}
	// It is mounted in the container, and so looked up before the scope begins.
	// systemd takes a directory that is there.
	if err := os.MkdirAll(d.path, 0o755); err != nil {
		return err
	}
	return giveAway(d.path, uid, gid)
}

// tell tells systemd of limits that change.
func (g *Group) tell(r *specs.LinuxResources) error {
	if g.unit == nil {
		return nil
	}
	l, err := g.tree.limits(g, r, false)
	if err != nil {
		return err
	}
	properties := propertiesOf(l, g.bandwidthNow())
	if len(properties) == 0 {
		return nil
	}
	return g.unit.units.Set(g.unit.name, properties)
}

// stop ends the group's unit, if it has one.
func (g *Group) stop() error {
	if g.unit == nil {
		return nil
	}
	return g.unit.units.Stop(g.unit.name)
}

// properties are those that do not depend on limits.
func (s Scope) properties(version int) map[string]any {
	p := map[string]any{
		"Description": s.Description, "Slice": s.Slice, "Delegate": true,
		// No order with other units: a scope is there as long as its processes.
		"DefaultDependencies": false,
		"MemoryAccounting":    true, "CPUAccounting": true, "TasksAccounting": true,
	}
	if version == 1 {
		p["BlockIOAccounting"] = true
	} else {
		p["IOAccounting"] = true
	}
	maps.Copy(p, s.Properties)
	return p
}

var errDeviceType = errors.New("neither b nor c")

// deviceProperties has systemd keep the rules of version 1, where it resets those
// that it does not know. It cannot be told to allow all but some.
func deviceProperties(rules []specs.LinuxDeviceCgroup) (map[string]any, error) {
	d, err := decide(rules)
	if err != nil || d.allow || len(rules) == 0 {
		return map[string]any{}, err
	}
	type entry struct{ Node, Access string }
	allow := []entry{}
	for _, n := range d.nodes {
		node, err := n.unitName()
		if err != nil {
			return nil, err
		}
		if a := accessText(d.access[n]); a != "" && node != "" {
			allow = append(allow, entry{node, a})
		}
	}
	return map[string]any{"DevicePolicy": "strict", "DeviceAllow": allow}, nil
}

// unitName names devices as systemd.resource-control(5), "DeviceAllow", does; ""
// for what has no name.
func (n node) unitName() (string, error) {
	kind := map[int32]string{kindBlock: "block", kindChar: "char"}[n.kind]
	switch {
	case kind == "":
		return "", errDeviceType
	case n.major < 0 && n.minor < 0:
		return kind + "-*", nil
	case n.major < 0:
		return "", nil
	case n.minor < 0:
		name, err := driverName(kind, n.major)
		if err != nil || name == "" {
			return "", err
		}
		return kind + "-" + name, nil
	}
	return fmt.Sprintf("/dev/%s/%d:%d", kind, n.major, n.minor), nil
}

// driverName is what /proc/devices calls a major number, "" if it has none.
func driverName(kind string, major int64) (string, error) {
	b, err := os.ReadFile("/proc/devices")
	if err != nil {
		return "", err
	}
	section := map[string]string{"char": "Character devices:", "block": "Block devices:"}[kind]
	_, list, _ := strings.Cut(string(b), section)
	list, _, _ = strings.Cut(list, "\n\n")
	for line := range strings.Lines(list) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == fmt.Sprint(major) {
			return f[1], nil
		}
	}
	return "", nil
}

func accessText(bits int32) string {
	var text []byte
	for _, a := range []struct {
		bit  int32
		text byte
	}{{accessRead, 'r'}, {accessWrite, 'w'}, {accessMknod, 'm'}} {
		if bits&a.bit != 0 {
			text = append(text, a.text)
		}
	}
	return string(text)
}
