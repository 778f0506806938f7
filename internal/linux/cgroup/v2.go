package cgroup

import (
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// v2 is a host with the one tree of version 2.
type v2 struct {
	root  string
	flags int // added to the flags of each open for writing; tests make files so
}

// wanted are the controllers that an engine's groups need.
var wanted = []string{"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"}

func (t *v2) version() int { return 2 }

func (t *v2) layout(p string, _ []specs.LinuxDeviceCgroup, _ bool) []dir {
	return []dir{{path: t.root + "/" + p}}
}

func (t *v2) layouts(p string) []dir { return t.layout(p, nil, false) }

// prepare makes the parent and hands the controllers down to its groups. The
// parent itself must not have processes: version 2 allows them in leaves only.
func (t *v2) prepare(parent string, own bool) error {
	p := t.root
	if err := t.delegate(p); err != nil {
		return err
	}
	for name := range strings.SplitSeq(parent, "/") {
		p += "/" + name
		err := mkdir(p)
		if err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if derr := t.delegate(p); derr != nil {
			return derr
		}
		if err == nil && own {
			if err := t.write(p, "pids.max", hostTasks); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// delegate switches on, for the groups below p, the controllers that p has.
// Each is written alone, so that one that is busy elsewhere does not cost the
// others; a limit that needs it then names the missing file.
func (t *v2) delegate(p string) error {
	has, err := read(p, "cgroup.controllers")
	if err != nil {
		return err
	}
	on, err := read(p, "cgroup.subtree_control")
	if err != nil {
		return err
	}
	for _, c := range wanted {
		if !slices.Contains(strings.Fields(has), c) || slices.Contains(strings.Fields(on), c) {
			continue
		}
		err := t.write(p, "cgroup.subtree_control", "+"+c)
		if err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return nil
}

func (t *v2) write(p, file, value string) error { return writeFlags(p, file, value, t.flags) }

func (t *v2) freeze(g *Group, frozen bool) error {
	d := g.dirs[0].path
	value := "0"
	if frozen {
		value = "1"
	}
	if err := t.write(d, "cgroup.freeze", value); err != nil || !frozen {
		return err
	}
	end := time.Now().Add(freezeTime)
	for pause := 20 * time.Microsecond; ; pause = min(2*pause, 10*time.Millisecond) {
		ok, err := t.frozen(g)
		if ok || err != nil {
			return err
		}
		if time.Now().After(end) {
			return errors.Join(errors.New("processes do not freeze"), t.write(d, "cgroup.freeze", "0"))
		}
		time.Sleep(pause)
	}
}

func (t *v2) frozen(g *Group) (bool, error) {
	m, err := readFlat(g.dirs[0].path, "cgroup.events")
	return m["frozen"] == 1, err
}

func (t *v2) kill(g *Group) error {
	d := g.dirs[0].path
	if exists(d, "cgroup.kill") { // since 5.14
		return t.write(d, "cgroup.kill", "1")
	}
	errFreeze := t.freeze(g, true)
	if errors.Is(errFreeze, os.ErrNotExist) {
		return nil
	}
	pids, err := g.Pids()
	for _, pid := range pids {
		if e := unix.Kill(pid, syscall.SIGKILL); e != nil && e != unix.ESRCH {
			err = errors.Join(err, e)
		}
	}
	return errors.Join(err, t.freeze(g, false))
}

func (t *v2) oomKills(g *Group) (uint64, error) {
	m, err := readFlat(g.dirs[0].path, "memory.events")
	if errors.Is(err, os.ErrNotExist) && exists(g.dirs[0].path, "cgroup.procs") {
		return 0, nil // no memory controller
	}
	return m["oom_kill"], err
}

func (t *v2) features(parent string) Features {
	p := t.root + "/" + parent
	on, _ := read(p, "cgroup.subtree_control")
	has := func(c string) bool { return slices.Contains(strings.Fields(on), c) }
	return Features{
		Version: 2, Memory: has("memory"), Reservation: has("memory"), Swap: exists(p, "memory.swap.max"),
		CPUShares: has("cpu"), CPUQuota: has("cpu"), CPUBurst: exists(p, "cpu.max.burst"), CPUIdle: exists(p, "cpu.idle"),
		Cpuset: has("cpuset"), Pids: has("pids"),
		Weight: exists(p, "io.weight") || exists(p, "io.bfq.weight"), WeightDevice: exists(p, "io.weight") || exists(p, "io.bfq.weight"),
		Throttle: exists(p, "io.max"), Huge: has("hugetlb"), Freeze: true,
	}
}
