package cgroup

import (
	"errors"
	"os"
	"path"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Ensure makes the group where it is missing, or takes the one that is there,
// and sets its limits and device rules. Others name such groups (an OCI
// bundle's cgroupsPath), and may have made them. made tells whether any
// directory is new.
func Ensure(p string, r *specs.LinuxResources) (g *Group, made bool, err error) {
	t, err := host()
	if err != nil {
		return nil, false, err
	}
	if err := checkPath(p); err != nil {
		return nil, false, err
	}
	if r == nil {
		r = &specs.LinuxResources{}
	}
	g = &Group{path: p, tree: t, dirs: t.layout(p, r.Devices, false)}
	if made, err = g.ensureDirs(); err == nil {
		err = t.apply(g, r, true)
	}
	if err != nil && made {
		err = errors.Join(err, g.Remove())
	}
	return g, made, err
}

func (g *Group) ensureDirs() (made bool, err error) {
	for _, d := range g.dirs {
		err := mkdir(d.path)
		if errors.Is(err, os.ErrNotExist) {
			if err = prepare(g.tree, path.Dir(g.path), false); err == nil {
				err = mkdir(d.path)
			}
		}
		if err != nil && !errors.Is(err, os.ErrExist) {
			return made, err
		}
		made = made || err == nil
		if slices.Contains(d.controllers, "cpuset") {
			if err := fillCpuset(d.path, true); err != nil {
				return made, err
			}
		}
	}
	return made, nil
}

// Enter puts a process into the group. A scope begins with its first: whoever
// knows that there may be one removes the group after an error, too.
func (g *Group) Enter(pid int) error {
	if err := g.begin(pid); err != nil {
		return err
	}
	for _, p := range g.ProcsPaths() {
		if err := write(path.Dir(p), "cgroup.procs", uintText(uint64(pid))); err != nil {
			return err
		}
	}
	return nil
}
