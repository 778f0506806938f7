package seccomp

import (
	"fmt"
	"math"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Values that a filter returns (linux/seccomp.h). The low 16 bits carry the
// errno or what a tracer is told.
const (
	retKillThread  = 0x00000000
	retKillProcess = 0x80000000
	retTrap        = 0x00030000
	retErrno       = 0x00050000
	retNotify      = 0x7fc00000
	retTrace       = 0x7ff00000
	retLog         = 0x7ffc0000
	retAllow       = 0x7fff0000

	eperm  = 1
	enosys = 38

	// maxErrno is the largest value that the kernel returns as an error.
	maxErrno = 4095
)

// rule is the result for a call whose arguments pass all checks.
type rule struct {
	checks []check
	ret    uint32
}

// check compares one argument.
type check struct {
	arg         uint
	op          specs.LinuxSeccompOperator
	mask, value uint64 // mask matters for SCMP_CMP_MASKED_EQ only
	narrow      bool   // compare the low halves
}

// table says what one ABI's calls give.
//
// Where rules overlap it follows runc and libseccomp:
//   - a rule whose action is the default one is dropped;
//   - a rule without conditions is broader than those with, and wins; of
//     several the first;
//   - of the rules with conditions the first that matches decides;
//   - the conditions of a rule must all hold, but if one argument occurs twice
//     in a rule, each condition is a rule of its own;
//   - names that an ABI does not have are skipped;
//   - if the profile names no default errno and the default is a refusal,
//     calls newer than any it names give ENOSYS, so that programs fall back.
type table struct {
	def    uint32
	always map[uint32]uint32
	rules  map[uint32][]rule
	newest uint32 // above it every call gives ENOSYS; math.MaxUint32: none
}

func newTable(p *specs.LinuxSeccomp, a *abi) (*table, error) {
	def, err := result(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	t := &table{def: def, always: map[uint32]uint32{}, rules: map[uint32][]rule{}, newest: math.MaxUint32}
	newest := a.bit
	for _, s := range p.Syscalls {
		ret, err := result(s.Action, s.ErrnoRet)
		if err != nil {
			return nil, fmt.Errorf("rule for %v: %w", s.Names, err)
		}
		rules, err := rulesOf(s.Args, ret, a.narrow)
		if err != nil {
			return nil, fmt.Errorf("rule for %v: %w", s.Names, err)
		}
		for _, name := range s.Names {
			nr, ok := a.table[name]
			if !ok {
				continue
			}
			newest = max(newest, uint32(nr)|a.bit)
			if ret != def {
				t.add(uint32(nr)|a.bit, rules)
				t.addMultiplexed(a, name, rules)
			}
		}
	}
	if p.DefaultErrnoRet == nil && refuses(p.DefaultAction) {
		t.newest = newest
	}
	return t, nil
}

func (t *table) add(nr uint32, rules []rule) {
	if _, ok := t.always[nr]; ok {
		return
	}
	for _, r := range rules {
		if len(r.checks) == 0 {
			t.always[nr] = r.ret
			delete(t.rules, nr)
			return
		}
	}
	t.rules[nr] = append(t.rules[nr], rules...)
}

// rulesOf makes the rules for one entry of a profile.
func rulesOf(args []specs.LinuxSeccompArg, ret uint32, narrow bool) ([]rule, error) {
	checks := make([]check, len(args))
	twice := false
	for i, a := range args {
		c, err := newCheck(a, narrow)
		if err != nil {
			return nil, err
		}
		twice = twice || slices.ContainsFunc(checks[:i], func(b check) bool { return b.arg == c.arg })
		checks[i] = c
	}
	if !twice {
		return []rule{{checks, ret}}, nil
	}
	rules := make([]rule, len(checks))
	for i := range checks {
		rules[i] = rule{checks[i : i+1], ret}
	}
	return rules, nil
}

func newCheck(a specs.LinuxSeccompArg, narrow bool) (check, error) {
	if a.Index > 5 {
		return check{}, fmt.Errorf("argument index %d: a system call has arguments 0 to 5", a.Index)
	}
	c := check{arg: a.Index, op: a.Op, mask: math.MaxUint64, value: a.Value, narrow: narrow}
	switch a.Op {
	case specs.OpEqualTo, specs.OpNotEqual, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpLessEqual, specs.OpLessThan:
	case specs.OpMaskedEqual:
		c.mask, c.value = a.Value, a.ValueTwo
	default:
		return check{}, fmt.Errorf("unknown operator %q", a.Op)
	}
	if narrow {
		c.mask &= math.MaxUint32
		c.value &= math.MaxUint32
	}
	return c, nil
}

// result returns what a filter returns for an action.
func result(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	data := uint32(eperm)
	if errno != nil {
		if *errno > maxErrno {
			return 0, fmt.Errorf("errno %d is out of range (0 to %d)", *errno, maxErrno)
		}
		data = uint32(*errno)
	}
	switch a {
	case specs.ActAllow:
		return retAllow, nil
	case specs.ActErrno:
		return retErrno | data, nil
	case specs.ActTrace:
		return retTrace | data, nil
	case specs.ActKill, specs.ActKillThread:
		return retKillThread, nil
	case specs.ActKillProcess:
		return retKillProcess, nil
	case specs.ActTrap:
		return retTrap, nil
	case specs.ActLog:
		return retLog, nil
	case specs.ActNotify:
		return retNotify, nil
	}
	return 0, fmt.Errorf("unknown seccomp action %q", a)
}

// refuses reports whether an action keeps calls that the profile does not know
// from running. A tracer is thought to deal with new calls itself.
func refuses(a specs.LinuxSeccompAction) bool {
	return a != specs.ActAllow && a != specs.ActLog && a != specs.ActTrace
}

// multiplexed are the 32-bit x86 calls that also exist as an operation of
// socketcall(2) (numbers of linux/net.h) or ipc(2) (linux/ipc.h); older
// programs know no other way.
var multiplexed = map[string]map[string]uint64{
	"socketcall": {
		"socket": 1, "bind": 2, "connect": 3, "listen": 4, "accept": 5, "getsockname": 6, "getpeername": 7,
		"socketpair": 8, "send": 9, "recv": 10, "sendto": 11, "recvfrom": 12, "shutdown": 13, "setsockopt": 14,
		"getsockopt": 15, "sendmsg": 16, "recvmsg": 17, "accept4": 18, "recvmmsg": 19, "sendmmsg": 20,
	},
	"ipc": {
		"semop": 1, "semget": 2, "semctl": 3, "semtimedop": 4, "msgsnd": 11, "msgrcv": 12, "msgget": 13,
		"msgctl": 14, "shmat": 21, "shmdt": 22, "shmget": 23, "shmctl": 24,
	},
}

// addMultiplexed repeats an unconditional rule for the operation of socketcall
// or ipc. The arguments of such an operation are behind a pointer: rules with
// conditions cannot be repeated.
func (t *table) addMultiplexed(a *abi, name string, rules []rule) {
	if a != x86 || len(rules) != 1 || len(rules[0].checks) > 0 {
		return
	}
	for call, operations := range multiplexed {
		op, ok := operations[name]
		if !ok {
			continue
		}
		// ipc(2) takes a version in the upper half of its first argument.
		c := check{arg: 0, op: specs.OpMaskedEqual, mask: 0xffff, value: op, narrow: true}
		t.add(uint32(a.table[call]), []rule{{[]check{c}, rules[0].ret}})
	}
}
