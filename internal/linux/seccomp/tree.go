package seccomp

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// instruction is struct sock_filter.
type instruction struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

// Operation codes (linux/bpf_common.h): class | size or operation | mode.
const (
	opLoad = 0x20 // A = the word at offset k
	opAnd  = 0x54 // A &= k
	opJump = 0x05 // to k instructions further
	opEq   = 0x15 // A == k ? jt : jf
	opGt   = 0x25
	opGe   = 0x35
	opRet  = 0x06

	offNr   = 0
	offArch = 4
	offArgs = 16
)

// Jump targets that are settled when a block is complete. No real distance
// within a block comes near them.
const (
	toPass = 254 // the end of the block
	toFail = 255 // the end of the rule
)

// segment is a run of numbers, up to the next segment's start, that give the
// same: ret, unless one of the rules matches.
type segment struct {
	start uint32
	rules []rule
	ret   uint32
}

// segments returns the table as a sorted list that covers all numbers.
func (t *table) segments() []segment {
	numbers := slices.Collect(maps.Keys(t.always))
	numbers = slices.AppendSeq(numbers, maps.Keys(t.rules))
	slices.Sort(numbers)

	list := []segment{{start: 0, ret: t.def}}
	add := func(s segment) {
		last := &list[len(list)-1]
		if last.start == s.start {
			list = list[:len(list)-1]
			if len(list) > 0 {
				last = &list[len(list)-1]
			}
		}
		if len(list) > 0 && last.rules == nil && s.rules == nil && last.ret == s.ret {
			return
		}
		list = append(list, s)
	}
	for _, nr := range numbers {
		s := segment{start: nr, rules: t.rules[nr], ret: t.def}
		if ret, ok := t.always[nr]; ok {
			s.ret = ret
		}
		add(s)
		add(segment{start: nr + 1, ret: t.def})
	}
	if t.newest != math.MaxUint32 {
		add(segment{start: t.newest + 1, ret: retErrno | enosys})
		// A tracer cancels a call by setting its number to -1.
		add(segment{start: math.MaxUint32, ret: t.def})
	}
	return list
}

// tree returns a search for the number in A.
func tree(list []segment) []instruction {
	if len(list) == 1 {
		return leaf(list[0])
	}
	m := len(list) / 2
	left, right := tree(list[:m]), tree(list[m:])
	out := make([]instruction, 0, len(left)+len(right)+2)
	if len(left) <= math.MaxUint8 {
		out = append(out, instruction{opGe, uint8(len(left)), 0, list[m].start})
	} else {
		out = append(out, instruction{opGe, 0, 1, list[m].start}, instruction{opJump, 0, 0, uint32(len(left))})
	}
	return append(append(out, left...), right...)
}

func leaf(s segment) []instruction {
	var out []instruction
	for rules := s.rules; len(rules) > 0; {
		if n := equals(rules); n > 1 {
			out = append(out, anyOf(rules[:n])...)
			rules = rules[n:]
			continue
		}
		out = append(out, allOf(rules[0])...)
		rules = rules[1:]
	}
	return append(out, instruction{opRet, 0, 0, s.ret})
}

// allOf returns from the filter if all checks of the rule hold, else runs past
// its end.
func allOf(r rule) []instruction {
	var out []instruction
	for _, c := range r.checks {
		out = append(out, c.code()...)
	}
	out = append(out, instruction{opRet, 0, 0, r.ret})
	settle(out, toFail)
	return out
}

// maxEquals keeps the jumps of anyOf in their 8 bits.
const maxEquals = 200

// equals counts how many rules at the beginning of the list compare the same
// argument with one value each, all with the same upper half and result: a
// list of allowed values, such as Docker's for socket(2) and personality(2).
func equals(rules []rule) int {
	first := rules[0]
	for i, r := range rules {
		if i == maxEquals || len(r.checks) != 1 || r.checks[0].op != specs.OpEqualTo || r.ret != first.ret ||
			r.checks[0].arg != first.checks[0].arg || r.checks[0].value>>32 != first.checks[0].value>>32 {
			return i
		}
	}
	return len(rules)
}

// anyOf is allOf for such a list, with one load instead of one a rule.
func anyOf(rules []rule) []instruction {
	c := rules[0].checks[0]
	var out []instruction
	if !c.narrow {
		out = append(out, c.load(4), instruction{opEq, 0, toFail, uint32(c.value >> 32)})
	}
	out = append(out, c.load(0))
	for i, r := range rules {
		in := instruction{opEq, toPass, 0, uint32(r.checks[0].value)}
		if i == len(rules)-1 {
			in.jf = toFail
		}
		out = append(out, in)
	}
	settle(out, toPass)
	out = append(out, instruction{opRet, 0, 0, rules[0].ret})
	settle(out, toFail)
	return out
}

// settle turns the symbolic target into distances to the end of the block.
func settle(block []instruction, target uint8) {
	for i := range block {
		if block[i].jt == target {
			block[i].jt = uint8(len(block) - i - 1)
		}
		if block[i].jf == target {
			block[i].jf = uint8(len(block) - i - 1)
		}
	}
}

func (c check) load(half uint32) instruction {
	return instruction{opLoad, 0, 0, offArgs + 8*uint32(c.arg) + half}
}

// code runs past its end if the check holds and jumps to toFail if not.
func (c check) code() []instruction {
	var out []instruction
	switch c.op {
	case specs.OpEqualTo, specs.OpMaskedEqual:
		out = c.equal(toPass, toFail)
	case specs.OpNotEqual:
		out = c.equal(toFail, toPass)
	case specs.OpGreaterThan:
		out = c.greater(opGt, toPass, toFail)
	case specs.OpLessEqual:
		out = c.greater(opGt, toFail, toPass)
	case specs.OpGreaterEqual:
		out = c.greater(opGe, toPass, toFail)
	case specs.OpLessThan:
		out = c.greater(opGe, toFail, toPass)
	}
	settle(out, toPass)
	return out
}

// equal jumps to yes if the masked argument equals the value.
func (c check) equal(yes, no uint8) []instruction {
	var out []instruction
	if hi := uint32(c.mask >> 32); !c.narrow && (hi != 0 || c.value>>32 != 0) {
		out = append(append(out, c.load(4)), and(hi)...)
		out = append(out, instruction{opEq, 0, no, uint32(c.value >> 32)})
	}
	out = append(append(out, c.load(0)), and(uint32(c.mask))...)
	return append(out, instruction{opEq, yes, no, uint32(c.value)})
}

func and(mask uint32) []instruction {
	if mask == math.MaxUint32 {
		return nil
	}
	return []instruction{{opAnd, 0, 0, mask}}
}

// greater jumps to yes if the argument is greater (opGt), or greater or equal
// (opGe). The upper halves decide unless they are equal.
func (c check) greater(op uint16, yes, no uint8) []instruction {
	var out []instruction
	if !c.narrow {
		hi := uint32(c.value >> 32)
		out = append(out, c.load(4), instruction{opGt, yes, 0, hi}, instruction{opEq, 0, no, hi})
	}
	return append(out, c.load(0), instruction{op, yes, no, uint32(c.value)})
}

// program puts the searches of all ABIs behind the test of which one a call
// uses. abis[0] is the native one.
func program(abis []*abi, sections [][]instruction) []instruction {
	out := []instruction{{opLoad, 0, 0, offArch}}
	for i, a := range abis {
		if a == x32 {
			continue // shares x86_64's audit number
		}
		body := []instruction{{opLoad, 0, 0, offNr}}
		if a == x8664 {
			body = append(body, splitX32(abis, sections)...)
		}
		body = append(body, sections[i]...)
		// jf counts 8 bits; a section is longer.
		out = append(out, instruction{opEq, 1, 0, a.audit}, instruction{opJump, 0, 0, uint32(len(body))})
		out = append(out, body...)
	}
	return append(out, instruction{opRet, 0, 0, retKillThread})
}

// splitX32 sends numbers with x32Bit to x32's search, or ends the thread where
// the profile does not name that ABI. A cancelled call (-1) goes on as x86_64.
func splitX32(abis []*abi, sections [][]instruction) []instruction {
	other := []instruction{{opRet, 0, 0, retKillThread}}
	if i := slices.Index(abis, x32); i >= 0 {
		other = sections[i]
	}
	return append([]instruction{
		{opEq, 2, 0, math.MaxUint32},
		{opGe, 0, 1, x32Bit},
		{opJump, 0, 0, 1},
		{opJump, 0, 0, uint32(len(other))},
	}, other...)
}

func encode(prog []instruction) []byte {
	b := make([]byte, 0, 8*len(prog))
	for _, i := range prog {
		b = binary.LittleEndian.AppendUint16(b, i.code)
		b = append(b, i.jt, i.jf)
		b = binary.LittleEndian.AppendUint32(b, i.k)
	}
	return b
}
