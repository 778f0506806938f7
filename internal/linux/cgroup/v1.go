package cgroup

import (
	"errors"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Parents of the groups in the devices tree; see the package comment.
const (
	defaultRules = "d"
	ownRules     = "p"
)

// hostTasks bounds the tasks of all groups of an own parent together, so that
// the host keeps some. It is written once: an administrator may change it.
const hostTasks = "32768"

// v1 is a host with a tree for each controller, or for a few together.
type v1 struct {
	trees []dir
	// Trees without controllers; "": there is none.
	named   string // name=systemd, which only delegated groups are in
	unified string // version 2, which only other runtimes make groups in
}

func (t *v1) version() int { return 1 }

func (t *v1) layout(p string, devices []specs.LinuxDeviceCgroup, own bool) []dir {
	rules := ownRules
	if sameRules(devices, DefaultDevices()) {
		rules = defaultRules
	}
	dirs := make([]dir, len(t.trees))
	for i, tree := range t.trees {
		dirs[i] = dir{tree.path + "/" + p, tree.controllers}
		if own && hasDevices(tree) {
			dirs[i].path = tree.path + "/" + path.Dir(p) + "/" + rules + "/" + path.Base(p)
		}
	}
	return dirs
}

func (t *v1) layouts(p string) []dir {
	var dirs []dir
	for _, tree := range t.trees {
		if hasDevices(tree) {
			for _, rules := range []string{defaultRules, ownRules} {
				dirs = append(dirs, dir{tree.path + "/" + path.Dir(p) + "/" + rules + "/" + path.Base(p), tree.controllers})
			}
		}
		dirs = append(dirs, dir{tree.path + "/" + p, tree.controllers})
	}
	return dirs
}

// hasDevices reports whether own parents have the two parents in this tree.
func hasDevices(tree dir) bool { return slices.Contains(tree.controllers, "devices") }

// prepare makes the parent in all trees, with what its groups inherit.
func (t *v1) prepare(parent string, own bool) error {
	for _, tree := range t.trees {
		p := tree.path
		for name := range strings.SplitSeq(parent, "/") {
			p += "/" + name
			if err := t.prepareDir(dir{p, tree.controllers}, own); err != nil {
				return err
			}
		}
		if own && hasDevices(tree) {
			if err := prepareRules(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// prepareDir makes a parent in one tree. One of others' that is there keeps
// its settings, but that a cpuset without processors gets its parent's.
func (t *v1) prepareDir(d dir, own bool) error {
	err := mkdir(d.path)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	fresh := err == nil
	for _, c := range d.controllers {
		switch c {
		case "cpuset": // a group without processors takes no process
			err = fillCpuset(d.path, fresh || own)
		case "memory": // always on since 5.11
			if exists(d.path, "memory.use_hierarchy") && fresh {
				if v, _ := read(d.path, "memory.use_hierarchy"); v == "0" {
					err = write(d.path, "memory.use_hierarchy", "1")
				}
			}
		case "pids":
			if fresh && own {
				err = write(d.path, "pids.max", hostTasks)
			}
		}
		if err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// fillCpuset gives a directory its parent's processors and memory nodes where it
// has none, and on request lets groups below it take over theirs when they are
// made.
func fillCpuset(p string, handDown bool) error {
	for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
		own, err := read(p, f)
		if err != nil {
			return err
		}
		if own != "" {
			continue
		}
		all, err := read(path.Dir(p), f)
		if err != nil {
			return err
		}
		if err := write(p, f, all); err != nil {
			return err
		}
	}
	if !handDown {
		return nil
	}
	return write(p, "cgroup.clone_children", "1")
}

// fillCpuset lets processes into a group below a parent that hands nothing down.
func (g *Group) fillCpuset() error {
	if d, ok := g.dir("cpuset"); ok {
		return fillCpuset(d.path, false)
	}
	return nil
}

// prepareRules makes the two parents of the devices tree. The kernel refuses
// "all" once a parent has groups; its rules were complete before the first.
func prepareRules(p string) error {
	for name, rules := range map[string][]specs.LinuxDeviceCgroup{defaultRules: DefaultDevices(), ownRules: AllDevices()} {
		d := p + "/" + name
		if err := mkdir(d); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		now, err := read(d, "devices.list")
		if err != nil {
			return err
		}
		if now != rulesList(rules) {
			if err := writeRules(d, rules); err != nil {
				return err
			}
		}
	}
	return nil
}

// rulesList is what devices.list shows for the rules.
func rulesList(rules []specs.LinuxDeviceCgroup) string {
	var lines []string
	for _, r := range rules {
		if r.Allow {
			lines = append(lines, ruleText(r))
		}
	}
	return strings.Join(lines, "\n")
}

// writeRules replaces a group's rules. It begins from none unless the first
// rule allows all.
func writeRules(d string, rules []specs.LinuxDeviceCgroup) error {
	for _, r := range rules {
		file := "devices.deny"
		if r.Allow {
			file = "devices.allow"
		}
		text := ruleText(r)
		if kindOf(r) == "a" && r.Major == nil && r.Minor == nil {
			text = "a"
		}
		if err := write(d, file, text); err != nil {
			return err
		}
	}
	return nil
}

// devices writes a group's own rules unless it inherits them.
func (t *v1) devices(g *Group, rules []specs.LinuxDeviceCgroup, fresh bool) error {
	d, ok := g.dir("devices")
	if !ok || !fresh || len(rules) == 0 {
		return nil
	}
	if g.own && (path.Base(path.Dir(d.path)) == defaultRules || sameRules(rules, AllDevices())) {
		return nil
	}
	return writeRules(d.path, rules)
}

// freezeTime bounds how long Freeze waits. A process in an uninterruptible
// sleep cannot be frozen.
const freezeTime = 2 * time.Second

func (t *v1) freeze(g *Group, frozen bool) error {
	d, ok := g.dir("freezer")
	if !ok {
		return errors.New("the host has no freezer cgroup")
	}
	if !frozen {
		return write(d.path, "freezer.state", "THAWED")
	}
	end := time.Now().Add(freezeTime)
	for pause := 20 * time.Microsecond; ; pause = min(2*pause, 10*time.Millisecond) {
		// Writing again catches processes forked while the first round ran.
		if err := write(d.path, "freezer.state", "FROZEN"); err != nil {
			return err
		}
		state, err := read(d.path, "freezer.state")
		if err != nil {
			return err
		}
		if state == "FROZEN" {
			return nil
		}
		if time.Now().After(end) {
			return errors.Join(errors.New("processes do not freeze"), write(d.path, "freezer.state", "THAWED"))
		}
		time.Sleep(pause)
	}
}

func (t *v1) frozen(g *Group) (bool, error) {
	d, ok := g.dir("freezer")
	if !ok {
		return false, nil
	}
	s, err := read(d.path, "freezer.state")
	return s == "FROZEN" || s == "FREEZING", err
}

// kill freezes the group first, so that no process forks out of the round and
// no pid is given to another process meanwhile.
func (t *v1) kill(g *Group) error {
	if _, ok := g.dir("freezer"); !ok {
		return killRounds(g)
	}
	errFreeze := t.freeze(g, true)
	if errors.Is(errFreeze, os.ErrNotExist) {
		return nil
	}
	err := killAll(g)
	if errThaw := t.freeze(g, false); !errors.Is(errThaw, os.ErrNotExist) {
		err = errors.Join(err, errThaw)
	}
	if errFreeze != nil {
		err = errors.Join(err, killRounds(g))
	}
	return err
}

func killAll(g *Group) error {
	pids, err := g.Pids()
	for _, pid := range pids {
		if e := unix.Kill(pid, syscall.SIGKILL); e != nil && e != unix.ESRCH {
			err = errors.Join(err, e)
		}
	}
	return err
}

// killRounds kills without freezing, until nobody is left or a bound is met.
func killRounds(g *Group) error {
	for range 20 {
		if err := killAll(g); err != nil {
			return err
		}
		pids, err := g.Pids()
		if err != nil || len(pids) == 0 {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

func (t *v1) oomKills(g *Group) (uint64, error) {
	d, ok := g.dir("memory")
	if !ok {
		return 0, nil
	}
	var sum uint64
	for _, p := range below(d.path) {
		m, err := readFlat(p, "memory.oom_control")
		if err != nil {
			return sum, err
		}
		sum += m["oom_kill"]
	}
	return sum, nil
}

func (t *v1) features(parent string) Features {
	has := func(controller, file string) bool {
		for _, tree := range t.trees {
			if slices.Contains(tree.controllers, controller) {
				return exists(tree.path+"/"+parent, file)
			}
		}
		return false
	}
	return Features{
		Version:      1,
		Memory:       has("memory", "memory.limit_in_bytes"),
		Swap:         has("memory", "memory.memsw.limit_in_bytes"),
		Reservation:  has("memory", "memory.soft_limit_in_bytes"),
		Swappiness:   has("memory", "memory.swappiness"),
		OOMDisable:   has("memory", "memory.oom_control"),
		CPUShares:    has("cpu", "cpu.shares"),
		CPUQuota:     has("cpu", "cpu.cfs_quota_us"),
		CPURealtime:  has("cpu", "cpu.rt_runtime_us"),
		CPUBurst:     has("cpu", "cpu.cfs_burst_us"),
		CPUIdle:      has("cpu", "cpu.idle"),
		Cpuset:       has("cpuset", "cpuset.cpus"),
		Pids:         has("pids", "pids.max"),
		Weight:       has("blkio", "blkio.weight") || has("blkio", "blkio.bfq.weight"),
		WeightDevice: has("blkio", "blkio.weight_device") || has("blkio", "blkio.bfq.weight_device"),
		Throttle:     has("blkio", "blkio.throttle.read_bps_device"),
		Huge:         has("hugetlb", "cgroup.procs"),
		Freeze:       has("freezer", "freezer.state"),
	}
}
