package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Unsupported is the error of a limit that this host cannot keep: its kernel
// lacks the controller or the file, or its version of control groups has
// nothing like it. errors.Is(err, errors.ErrUnsupported) holds. Features tells
// beforehand.
type Unsupported struct {
	Limit      string // what was to be set: file=value, or the resource
	Controller string // the one that would have it
	Absent     bool   // the whole controller is missing
	Version    int    // the version of control groups that would have it, 0: any
}

func (u *Unsupported) Error() string {
	switch {
	case u.Version != 0:
		return fmt.Sprintf("%s: needs cgroup v%d", u.Limit, u.Version)
	case u.Absent:
		return fmt.Sprintf("limit %s: the host has no %s cgroup", u.Limit, u.Controller)
	}
	return fmt.Sprintf("limit %s: not offered by this kernel", u.Limit)
}

// Is makes the error one of errors.ErrUnsupported.
func (u *Unsupported) Is(target error) bool { return target == errors.ErrUnsupported }

// limits is a list of files to write, in order.
type limits []limit

// limit is a file of the directory that has the controller (version 2: of the
// only one).
type limit struct {
	controller, file, value string
	optional                bool // where the file is missing nothing is lost
}

func (l *limits) set(controller, file, value string) {
	*l = append(*l, limit{controller: controller, file: file, value: value})
}

func (l *limits) setOptional(controller, file, value string) {
	*l = append(*l, limit{controller, file, value, true})
}

func (l *limits) setUint(controller, file string, v *uint64) {
	if v != nil && *v != 0 {
		l.set(controller, file, uintText(*v))
	}
}

func (l *limits) setInt(controller, file string, v *int64) {
	if v != nil && *v != 0 {
		l.set(controller, file, strconv.FormatInt(*v, 10))
	}
}

func (l *limits) setText(controller, file, v string) {
	if v != "" {
		l.set(controller, file, v)
	}
}

// write puts the values into the group's files. Flags are added to those of
// each open.
func (l limits) write(g *Group, flags int) error {
	for _, x := range l {
		d, ok := g.limitDir(x.controller)
		if !ok {
			return &Unsupported{Limit: x.file + "=" + x.value, Controller: x.controller, Absent: true}
		}
		err := writeFlags(d.path, x.file, x.value, flags)
		if err != nil && !(x.optional && errors.Is(err, os.ErrNotExist)) {
			return x.explain(d, err)
		}
	}
	return nil
}

// limitDir is the directory with the files of a controller.
func (g *Group) limitDir(controller string) (dir, bool) {
	if _, ok := g.tree.(*v2); ok && len(g.dirs) > 0 {
		return g.dirs[0], true
	}
	return g.dir(controller)
}

// explain says what a refused write means.
func (x limit) explain(d dir, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist) && exists(d.path, "cgroup.procs"):
		u := &Unsupported{Limit: x.file + "=" + x.value, Controller: x.controller}
		if has, err := read(d.path, "cgroup.controllers"); err == nil { // version 2
			u.Controller, _, _ = strings.Cut(x.file, ".")
			u.Absent = !slices.Contains(strings.Fields(has), u.Controller) && u.Controller != "cgroup"
		}
		return u
	case errors.Is(err, unix.EBUSY) && x.file == "memory.limit_in_bytes":
		usage, _ := readUint(d.path, "memory.usage_in_bytes")
		return fmt.Errorf("unable to set memory limit to %s (current usage: %d): %w", x.value, usage, err)
	case errors.Is(err, unix.EINVAL) && x.file == "cpu.rt_runtime_us":
		return fmt.Errorf("%w (the groups above must have that much real time to give)", err)
	}
	return err
}

func uintText(v uint64) string { return strconv.FormatUint(v, 10) }

// maxOr prints a limit; zero and below mean none.
func maxOr(v int64) string {
	if v <= 0 {
		return "max"
	}
	return strconv.FormatInt(v, 10)
}

// checkNames refuses names that would lead to files elsewhere.
func checkNames(r *specs.LinuxResources) error {
	for _, h := range r.HugepageLimits {
		if h.Pagesize == "" || strings.ContainsAny(h.Pagesize, "./\x00") {
			return fmt.Errorf("invalid page size %q", h.Pagesize)
		}
	}
	for key := range r.Unified {
		if key == "" || strings.ContainsAny(key, "/\x00") || !strings.Contains(key, ".") || strings.HasPrefix(key, ".") {
			return fmt.Errorf("invalid unified resource %q", key)
		}
	}
	return nil
}

// checkUsage keeps a limit that is below what is in use from being set, where
// the specification's checkBeforeUpdate asks for that: version 2 would kill.
func checkUsage(m *specs.LinuxMemory, usage func() (uint64, error)) error {
	if m == nil || m.CheckBeforeUpdate == nil || !*m.CheckBeforeUpdate || m.Limit == nil || *m.Limit <= 0 {
		return nil
	}
	if now, err := usage(); err == nil && uint64(*m.Limit) < now {
		return fmt.Errorf("unable to set memory limit to %d (current usage: %d)", *m.Limit, now)
	}
	return nil
}

// setRdma sets limits of RDMA devices, alike in both versions. A device's
// limits are one line.
func (l *limits) setRdma(m map[string]specs.LinuxRdma) {
	for _, name := range sortedKeys(m) {
		line := name
		if h := m[name].HcaHandles; h != nil {
			line += fmt.Sprintf(" hca_handle=%d", *h)
		}
		if o := m[name].HcaObjects; o != nil {
			line += fmt.Sprintf(" hca_object=%d", *o)
		}
		l.set("rdma", "rdma.max", line)
	}
}

func sortedKeys[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
