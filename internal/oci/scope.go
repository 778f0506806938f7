package oci

import (
	"errors"
	"fmt"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/cgroup"
	"github.com/tare-engine/tare/internal/linux/systemd"
	"github.com/tare-engine/tare/internal/undo"
)

// defaultSlice is where scopes are whose spec names no slice.
const defaultSlice = "system.slice"

// scopeOf reads cgroupsPath as runc does for systemd: "slice:prefix:name" is the
// unit prefix-name.scope in the slice.
func scopeOf(s *specs.Spec, id string) (cgroup.Scope, error) {
	p := s.Linux.CgroupsPath
	if p == "" {
		p = ":tare:" + id
	}
	parts := strings.Split(p, ":")
	if len(parts) != 3 {
		return cgroup.Scope{}, fmt.Errorf("expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got %q instead", p)
	}
	if strings.HasSuffix(parts[2], ".slice") {
		return cgroup.Scope{}, fmt.Errorf("cgroupsPath %q: a container cannot be a slice", p)
	}
	if parts[0] == "" {
		parts[0] = defaultSlice
	}
	properties, err := unitProperties(s.Annotations)
	return cgroup.Scope{Slice: parts[0], Name: parts[1] + "-" + parts[2] + ".scope", Description: "container " + id, Properties: properties}, err
}

// propertyPrefix begins annotations that are properties of the unit.
const propertyPrefix = "org.systemd.property."

func isLower(c byte) bool { return c >= 'a' && c <= 'z' }

func isProperty(name string) bool {
	for i := range len(name) {
		if !isLower(name[i] | 0x20) {
			return false
		}
	}
	return len(name) >= 3
}

// inSeconds tells "TimeoutStopSec" from "TimeoutStopUSec".
func inSeconds(name string) bool {
	name, ok := strings.CutSuffix(name, "Sec")
	return ok && name != "" && isLower(name[len(name)-1])
}

// unitProperties are the unit's properties of the annotations
// org.systemd.property.NAME, whose values are in the text form of GVariant.
func unitProperties(annotations map[string]string) (map[string]any, error) {
	out := map[string]any{}
	for key, text := range annotations {
		name, ok := strings.CutPrefix(key, propertyPrefix)
		if !ok {
			continue
		}
		if !isProperty(name) {
			return nil, fmt.Errorf("annotation %s=%s name incorrect", key, text)
		}
		value, err := systemd.ParseValue(text)
		if err == nil && inSeconds(name) {
			name = strings.TrimSuffix(name, "Sec") + "USec"
			value, err = microseconds(value)
		}
		if err != nil {
			return nil, fmt.Errorf("annotation %s=%s value parse error: %w", key, text, err)
		}
		out[name] = value
	}
	return out, nil
}

// microseconds turns seconds into what systemd's properties that end in USec are
// in.
func microseconds(seconds any) (uint64, error) {
	var n float64
	switch s := seconds.(type) {
	case int32:
		n = float64(s)
	case int64:
		n = float64(s)
	case uint32:
		n = float64(s)
	case uint64:
		n = float64(s)
	case float64:
		n = s
	default:
		return 0, errors.New("not a number")
	}
	n *= 1e6
	if n < 0 || n >= 1<<63 {
		return 0, errors.New("no time")
	}
	return uint64(n), nil
}

// locate says in the record where the container's group will be.
func (k *creation) locate() error {
	if !k.SystemdCgroup {
		k.c.Cgroup = cgroupOf(k.b.spec, k.ID)
		return nil
	}
	if !systemd.Running() {
		return errors.New("systemd not running on this host, cannot use systemd cgroups manager")
	}
	var err error
	if k.scope, err = scopeOf(k.b.spec, k.ID); err != nil {
		return err
	}
	k.scope.Units = k.root.Units
	k.c.Unit = k.scope.Name
	k.c.Cgroup, err = k.scope.Path()
	return err
}

// makeScope prepares a group that begins when the first process is born.
func (k *creation) makeScope(u *undo.Stack) (err error) {
	if k.group, err = cgroup.NewScope(k.scope, resourcesOf(k.b.spec)); err != nil {
		return err
	}
	k.root.debug("container %s: unit %s, cgroup %s", k.ID, k.c.Unit, k.c.Cgroup)
	u.Add(func() error { return removeGroup(k.group) })
	return nil
}

// openGroup opens the container's group; fs.ErrNotExist if it is gone.
func (c *Container) openGroup() (*cgroup.Group, error) {
	if c.Unit != "" {
		return cgroup.OpenScope(c.root.Units, c.Cgroup)
	}
	return cgroup.Open(c.Cgroup)
}

// goneGroup has systemd forget the container's unit, if it had one.
func (c *Container) goneGroup() error {
	if c.Unit == "" {
		return nil
	}
	return cgroup.AbsentScope(c.root.Units, c.Cgroup).Remove()
}
