package runtime

import (
	"encoding/binary"
	"maps"
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// personality sets the execution domain: what uname says, mostly.
func personality(plan *spawn.Plan, p *specs.LinuxPersonality) error {
	if p == nil {
		return nil
	}
	domains := map[specs.LinuxPersonalityDomain]int{specs.PerLinux: 0, specs.PerLinux32: 8}
	d, ok := domains[p.Domain]
	switch {
	case !ok:
		return invalid("linux.personality: unknown domain %q", p.Domain)
	case len(p.Flags) > 0:
		return invalid("linux.personality: additional flags are not supported by the specification")
	}
	plan.Do("personality", spawn.SysPersonality, spawn.Int(d))
	return nil
}

const cloneNewTime = 0x80

// timeNamespace makes a time namespace with the spec's offsets. They can be
// written only while nobody is in it: the maker goes in afterwards.
func (b *builder) timeNamespace(dir spawn.Arg) error {
	if !b.ns.fresh[specs.TimeNamespace] {
		if len(b.spec.Linux.TimeOffsets) > 0 {
			return invalid("linux.timeOffsets need a new time namespace")
		}
		return nil
	}
	b.Do("new time namespace", spawn.SysUnshare, spawn.Int(cloneNewTime))
	for _, clock := range slices.Sorted(maps.Keys(b.spec.Linux.TimeOffsets)) {
		if clock != "monotonic" && clock != "boottime" {
			return invalid("linux.timeOffsets: unknown clock %q", clock)
		}
		o := b.spec.Linux.TimeOffsets[clock]
		b.write("offset of "+clock, dir, "self/timens_offsets", clock+" "+strconv.FormatInt(o.Secs, 10)+" "+strconv.FormatUint(uint64(o.Nanosecs), 10))
	}
	b.Do("time namespace", spawn.SysOpenat, dir, b.Str("self/ns/time_for_children"), spawn.Nil).To(slotTmp)
	b.Do("into the time namespace", spawn.SysSetns, spawn.Slot(slotTmp), spawn.Int(cloneNewTime))
	b.close(slotTmp)
	return nil
}

// scheduling sets how the process is scheduled, for processors and disks. It
// needs rights that the process itself may not have.
func (s processSteps) scheduling() error {
	if err := s.scheduler(); err != nil {
		return err
	}
	if io := s.p.IOPriority; io != nil {
		classes := map[specs.IOPriorityClass]int{specs.IOPRIO_CLASS_RT: 1, specs.IOPRIO_CLASS_BE: 2, specs.IOPRIO_CLASS_IDLE: 3}
		class, ok := classes[io.Class]
		if !ok || io.Priority < 0 || io.Priority > 7 {
			return invalid("process.ioPriority: %q %d", io.Class, io.Priority)
		}
		const who, shift = 1, 13 // a process
		s.Do("io priority", spawn.SysIoprioSet, spawn.Int(who), spawn.Nil, spawn.Int(class<<shift|io.Priority))
	}
	return nil
}

var policies = map[specs.LinuxSchedulerPolicy]uint32{
	specs.SchedOther: 0, specs.SchedFIFO: 1, specs.SchedRR: 2, specs.SchedBatch: 3, specs.SchedISO: 4, specs.SchedIdle: 5, specs.SchedDeadline: 6,
}

var schedFlags = map[specs.LinuxSchedulerFlag]uint64{
	specs.SchedFlagResetOnFork: 0x01, specs.SchedFlagReclaim: 0x02, specs.SchedFlagDLOverrun: 0x04, specs.SchedFlagKeepPolicy: 0x08,
	specs.SchedFlagKeepParams: 0x10, specs.SchedFlagUtilClampMin: 0x20, specs.SchedFlagUtilClampMax: 0x40,
}

// scheduler adds sched_setattr with the first version of its structure.
func (s processSteps) scheduler() error {
	want := s.p.Scheduler
	if want == nil {
		return nil
	}
	policy, ok := policies[want.Policy]
	if !ok {
		return invalid("process.scheduler: unknown policy %q", want.Policy)
	}
	var flags uint64
	for _, f := range want.Flags {
		v, ok := schedFlags[f]
		if !ok {
			return invalid("process.scheduler: unknown flag %q", f)
		}
		flags |= v
	}
	const size = 48
	le := binary.LittleEndian
	a := le.AppendUint32(nil, size)
	a = le.AppendUint32(a, policy)
	a = le.AppendUint64(a, flags)
	a = le.AppendUint32(a, uint32(want.Nice))
	a = le.AppendUint32(a, uint32(want.Priority))
	for _, v := range []uint64{want.Runtime, want.Deadline, want.Period} {
		a = le.AppendUint64(a, v)
	}
	s.Do("scheduler", spawn.SysSchedSetattr, spawn.Nil, s.Bytes(a), spawn.Nil)
	return nil
}

var memoryModes = map[specs.MemoryPolicyModeType]int{
	specs.MpolDefault: 0, specs.MpolPreferred: 1, specs.MpolBind: 2, specs.MpolInterleave: 3, specs.MpolLocal: 4, specs.MpolPreferredMany: 5,
	specs.MpolWeightedInterleave: 6,
}

var memoryFlags = map[specs.MemoryPolicyFlagType]int{
	specs.MpolFStaticNodes: 1 << 15, specs.MpolFRelativeNodes: 1 << 14, specs.MpolFNumaBalancing: 1 << 13,
}

// memoryPolicy says from which memory nodes the process gets memory.
func memoryPolicy(plan *spawn.Plan, m *specs.LinuxMemoryPolicy) error {
	if m == nil {
		return nil
	}
	mode, ok := memoryModes[m.Mode]
	if !ok {
		return invalid("linux.memoryPolicy: unknown mode %q", m.Mode)
	}
	for _, f := range m.Flags {
		v, ok := memoryFlags[f]
		if !ok {
			return invalid("linux.memoryPolicy: unknown flag %q", f)
		}
		mode |= v
	}
	set, err := parseList(m.Nodes)
	if err != nil {
		return invalid("linux.memoryPolicy: nodes %q: %w", m.Nodes, err)
	}
	nodes, n := spawn.Nil, 0
	if m.Nodes != "" {
		nodes, n = plan.Bytes(set), 8*len(set)+1 // the kernel takes one off
	}
	plan.Do("memory policy", spawn.SysSetMempolicy, spawn.Int(mode), nodes, spawn.Int(n))
	return nil
}

// affinity lets the process run on the processors of a list ("0-3,8").
func (s processSteps) affinity(name, list string) error {
	if list == "" {
		return nil
	}
	set, err := parseList(list)
	if err != nil {
		return invalid("process.execCPUAffinity: %s %q: %w", name, list, err)
	}
	s.Do("processors ("+name+")", spawn.SysSchedSetaffinity, spawn.Nil, spawn.Int(len(set)), s.Bytes(set))
	return nil
}

// MemoryPolicies are the names of the memory policy's modes and flags.
func MemoryPolicies() (modes, flags []string) {
	for m := range memoryModes {
		modes = append(modes, string(m))
	}
	for f := range memoryFlags {
		flags = append(flags, string(f))
	}
	slices.Sort(modes)
	slices.Sort(flags)
	return modes, flags
}
