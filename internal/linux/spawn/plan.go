package spawn

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"strings"
)

// Arg is one argument of a system call: a number, a pointer into the plan's
// data, or the value of a slot (the kept result of an earlier step).
type Arg struct {
	kind argKind
	v    uint64
}

type argKind uint8

const (
	argInt argKind = iota
	argData
	argSlot
	argHeader
)

// Nil is the null pointer, and 0.
var Nil = Arg{}

// Int is a number.
func Int[T ~int | ~uint | ~uintptr | ~int32 | ~uint32 | ~int64 | ~uint64](v T) Arg {
	return Arg{argInt, uint64(v)}
}

// Slot is the result that an earlier step kept with To(k).
func Slot(k int) Arg { return Arg{argSlot, uint64(k)} }

// SlotPtr is the address of slot k, for calls that write a result to memory.
func SlotPtr(k int) Arg { return HeaderPtr(offSlots + 8*k) }

// HeaderPtr is the address of a word of the arena's header.
func HeaderPtr(off int) Arg { return Arg{argHeader, uint64(off)} }

// FD is the plan's own i-th descriptor, in the order in which the starter
// passes them.
func FD(i int) Arg { return Int(FirstOwnFD + i) }

// Plus is the pointer n bytes further on.
func (a Arg) Plus(n int) Arg {
	a.v += uint64(n)
	return a
}

// Descriptors of a new child; see the package comment.
const (
	CommandFD  = 3 // the nursery's; in a parked child and in a second half see there
	ReportFD   = 4
	StdinFD    = 5
	StdoutFD   = 6
	StderrFD   = 7
	FirstOwnFD = 8
	MaxFDs     = 240 // own descriptors of one plan (the kernel passes 253 at once)
)

// Slots that a plan's builder may use are 0 to Slots-1; those above belong to
// this package's step groups.
const (
	Slots      = 112
	allSlots   = 120
	slotMaster = Slots
	slotSlave  = Slots + 1
	slotTree   = Slots + 2
	slotNext   = Slots + 3 // address of a parked child's second plan
	slotSecond = Slots + 4 // address of the second half's plan
	slotChild  = 1         // in a nursery: address of the next child's first plan
)

// Step is one system call.
type Step struct {
	Name   string
	Nr     uint64
	Args   [6]Arg
	to     uint8 // slot+1
	ignore [2]uint16
	flags  StepFlag
	child  uint8 // slot+1
}

// StepFlag changes what a step's result does.
type StepFlag uint8

const (
	FlagAny         StepFlag = 1 << iota // every errno counts as success; the kept result is then -errno
	FlagZeroExits                        // result 0 ends the process: end of file on a pipe
	FlagSearch                           // ENOENT and ENOTDIR go on; EACCES goes on and is remembered
	FlagParentExits                      // result above 0 ends the process: the parent's half of a clone
	allFlags        = 1<<iota - 1
)

// To keeps the result in slot k.
func (s *Step) To(k int) *Step {
	s.to = uint8(k + 1)
	return s
}

// Ignore names up to two errnos that count as success (the result is then 0).
func (s *Step) Ignore(errnos ...int) *Step {
	for i, e := range errnos {
		s.ignore[i] = uint16(e)
	}
	return s
}

// IgnoreAll makes every errno count as success.
func (s *Step) IgnoreAll() *Step { return s.Flag(FlagAny) }

// Flag sets step flags.
func (s *Step) Flag(f StepFlag) *Step {
	s.flags |= f
	return s
}

// Child sends the child's half of a clone step to the plan whose address is in
// slot k.
func (s *Step) Child(k int) *Step {
	s.child = uint8(k + 1)
	return s
}

// Plan is a list of steps with the data they point to.
type Plan struct {
	steps []*Step
	data  []byte
	// Offsets in data of words that hold an offset in data, or in the header.
	dataRefs, headerRefs []uint32
	strs                 map[string]Arg
}

// NewPlan returns an empty plan.
func NewPlan() *Plan { return &Plan{strs: map[string]Arg{}} }

// Do appends a step. nr is one of the Sys constants.
func (p *Plan) Do(name string, nr uintptr, args ...Arg) *Step {
	s := &Step{Name: name, Nr: uint64(nr)}
	copy(s.Args[:], args)
	p.steps = append(p.steps, s)
	return s
}

// Len is the number of steps so far.
func (p *Plan) Len() int { return len(p.steps) }

// Steps returns the steps, for tests; they are the plan's own.
func (p *Plan) Steps() []*Step { return p.steps }

// Outline is a plan for logs: the names of its steps. Their data, which holds the
// environment, is not for a log. It is put together only if it is printed.
type Outline struct{ Plan *Plan }

func (o Outline) String() string {
	names := make([]string, len(o.Plan.steps))
	for i, s := range o.Plan.steps {
		names[i] = s.Name
	}
	return strings.Join(names, ", ")
}

// LogValue is for package slog.
func (o Outline) LogValue() slog.Value { return slog.StringValue(o.String()) }

// StepName returns the name of step i, "" if there is none.
func (p *Plan) StepName(i int) string {
	if i < 0 || i >= len(p.steps) {
		return ""
	}
	return p.steps[i].Name
}

func (p *Plan) align() {
	for len(p.data)%8 != 0 {
		p.data = append(p.data, 0)
	}
}

// Bytes puts b into the plan's data and returns its address.
func (p *Plan) Bytes(b []byte) Arg {
	p.align()
	a := Arg{argData, uint64(len(p.data))}
	p.data = append(p.data, b...)
	return a
}

// Str puts a NUL-terminated string into the data; equal strings share space.
func (p *Plan) Str(s string) Arg {
	if a, ok := p.strs[s]; ok {
		return a
	}
	a := Arg{argData, uint64(len(p.data))}
	p.data = append(append(p.data, s...), 0)
	p.strs[s] = a
	return a
}

// Words puts 8-byte words into the data; pointers among them are relocated.
// Slots cannot be words: use NrStore.
func (p *Plan) Words(words ...Arg) Arg {
	p.align()
	a := Arg{argData, uint64(len(p.data))}
	for _, w := range words {
		switch w.kind {
		case argData:
			p.dataRefs = append(p.dataRefs, uint32(len(p.data)))
		case argHeader:
			p.headerRefs = append(p.headerRefs, uint32(len(p.data)))
		}
		p.data = binary.LittleEndian.AppendUint64(p.data, w.v)
	}
	return a
}

// Strs builds a NULL-terminated vector of strings, as execve takes it.
func (p *Plan) Strs(ss []string) Arg {
	words := make([]Arg, 0, len(ss)+1)
	for _, s := range ss {
		words = append(words, p.Str(s))
	}
	return p.Words(append(words, Nil)...)
}

// String prints the plan, one step a line, with the strings it points to.
func (p *Plan) String() string {
	var b strings.Builder
	for i, s := range p.steps {
		fmt.Fprintf(&b, "%3d %s: %s(", i, s.Name, sysName(s.Nr))
		last := len(s.Args)
		for last > 0 && s.Args[last-1] == Nil {
			last--
		}
		for j, a := range s.Args[:last] {
			if j > 0 {
				b.WriteString(", ")
			}
			b.WriteString(p.printArg(a))
		}
		b.WriteString(")")
		if s.to > 0 {
			fmt.Fprintf(&b, " -> $%d", s.to-1)
		}
		if s.flags&FlagAny != 0 {
			b.WriteString(" or any errno")
		}
		for _, e := range s.ignore {
			if e != 0 {
				fmt.Fprintf(&b, " or errno %d", e)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

func (p *Plan) printArg(a Arg) string {
	switch a.kind {
	case argSlot:
		return fmt.Sprintf("$%d", a.v)
	case argHeader:
		return fmt.Sprintf("&header+%d", a.v)
	case argData:
		return p.printData(int(a.v))
	}
	if v := int64(a.v); v > -4096 && v < 4096 {
		return fmt.Sprint(v)
	}
	return fmt.Sprintf("%#x", a.v)
}

// printData shows printable text up to its NUL, else the offset.
func (p *Plan) printData(off int) string {
	for i := off; i < len(p.data); i++ {
		c := p.data[i]
		if c == 0 && i > off {
			return fmt.Sprintf("%q", p.data[off:i])
		}
		if c < ' ' || c > '~' {
			break
		}
	}
	return fmt.Sprintf("&data+%d", off)
}
