package seccomp

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// opSet is A&k != 0 ? jt : jf; libseccomp's programs use it.
const opSet = 0x45

// call is struct seccomp_data without the instruction pointer.
type call struct {
	nr, arch uint32
	args     [6]uint64
}

// run interprets a filter as the kernel does, with its checks: jumps stay
// inside, loads are words of the structure, the end is a return.
func run(prog []byte, c call) (ret uint32, steps int, err error) {
	data := make([]byte, 64)
	binary.LittleEndian.PutUint32(data, c.nr)
	binary.LittleEndian.PutUint32(data[4:], c.arch)
	for i, a := range c.args {
		binary.LittleEndian.PutUint64(data[16+8*i:], a)
	}
	var acc uint32
	for pc := 0; ; pc++ {
		steps++
		if 8*pc+8 > len(prog) {
			return 0, steps, fmt.Errorf("runs past its end at %d", pc)
		}
		code, jt, jf := binary.LittleEndian.Uint16(prog[8*pc:]), prog[8*pc+2], prog[8*pc+3]
		k := binary.LittleEndian.Uint32(prog[8*pc+4:])
		jump := func(yes bool) {
			if yes {
				pc += int(jt)
			} else {
				pc += int(jf)
			}
		}
		switch code {
		case opLoad:
			if k%4 != 0 || k > 60 {
				return 0, steps, fmt.Errorf("load at %d", k)
			}
			acc = binary.LittleEndian.Uint32(data[k:])
		case opAnd:
			acc &= k
		case opJump:
			pc += int(k)
		case opEq:
			jump(acc == k)
		case opGt:
			jump(acc > k)
		case opGe:
			jump(acc >= k)
		case opSet:
			jump(acc&k != 0)
		case opRet:
			return k, steps, nil
		default:
			return 0, steps, fmt.Errorf("code %#x", code)
		}
	}
}

// evaluate reads the profile itself, rule by rule, for one call.
func evaluate(p *specs.LinuxSeccomp, c call) uint32 {
	a := abiOfCall(p, c)
	if a == nil {
		return retKillThread
	}
	def, _ := result(p.DefaultAction, p.DefaultErrnoRet)
	named := a.bit
	conditional, found := uint32(0), false
	for _, s := range p.Syscalls {
		ret, _ := result(s.Action, s.ErrnoRet)
		for _, n := range s.Names {
			nr, ok := a.table[n]
			if !ok {
				continue
			}
			named = max(named, uint32(nr)|a.bit)
			if ret == def {
				continue
			}
			hit := uint32(nr)|a.bit == c.nr
			if op, ok := operation(a, n, c.nr); ok && len(s.Args) == 0 && uint64(uint16(c.args[0])) == op {
				if !found {
					conditional, found = ret, true
				}
			}
			if !hit {
				continue
			}
			if len(s.Args) == 0 {
				return ret
			}
			if !found && matches(s.Args, c, a.narrow) {
				conditional, found = ret, true
			}
		}
	}
	switch {
	case found:
		return conditional
	case p.DefaultErrnoRet == nil && refuses(p.DefaultAction) && c.nr > named && c.nr != math.MaxUint32:
		return retErrno | enosys
	}
	return def
}

func abiOfCall(p *specs.LinuxSeccomp, c call) *abi {
	abis, _ := abisOf(p.Architectures)
	for _, a := range abis {
		isX32 := c.arch == x8664.audit && c.nr >= x32Bit && c.nr != math.MaxUint32
		if a.audit == c.arch && (a == x32) == isX32 {
			return a
		}
	}
	return nil
}

func operation(a *abi, name string, nr uint32) (uint64, bool) {
	if a != x86 {
		return 0, false
	}
	for mux, ops := range multiplexed {
		if uint32(a.table[mux]) == nr {
			op, ok := ops[name]
			return op, ok
		}
	}
	return 0, false
}

func matches(args []specs.LinuxSeccompArg, c call, narrow bool) bool {
	seen := map[uint]bool{}
	twice := false
	all, some := true, false
	for _, a := range args {
		twice = twice || seen[a.Index]
		seen[a.Index] = true
		ok := holds(a, c.args[a.Index], narrow)
		all, some = all && ok, some || ok
	}
	if twice {
		return some
	}
	return all
}

func holds(a specs.LinuxSeccompArg, v uint64, narrow bool) bool {
	x, y := a.Value, a.ValueTwo
	if narrow {
		v, x, y = uint64(uint32(v)), uint64(uint32(x)), uint64(uint32(y))
	}
	switch a.Op {
	case specs.OpEqualTo:
		return v == x
	case specs.OpNotEqual:
		return v != x
	case specs.OpGreaterThan:
		return v > x
	case specs.OpGreaterEqual:
		return v >= x
	case specs.OpLessThan:
		return v < x
	case specs.OpLessEqual:
		return v <= x
	case specs.OpMaskedEqual:
		return v&x == y
	}
	panic("operator " + a.Op)
}
