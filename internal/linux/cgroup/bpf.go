package cgroup

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// On version 2 the device rules are an eBPF program that the kernel asks about
// every mknod and open of a device node. Its argument is
//
//	struct { u32 access_type; /* kind | access << 16 */ u32 major, minor; }
//
// and it returns 1 to allow. The program is a chain: one block an exception,
// then the default.

// Access bits and kinds of the kernel's interface.
const (
	accessMknod = 1
	accessRead  = 2
	accessWrite = 4

	kindBlock = 1
	kindChar  = 2
)

// node selects device nodes; -1 and kind 0 select all.
type node struct {
	kind         int32
	major, minor int64
}

// decision is what a list of rules amounts to.
type decision struct {
	allow  bool // what nodes without an exception get
	nodes  []node
	access map[node]int32 // allowed, or denied if allow is set
}

// decide plays the rules in order, as version 1's kernel does: a rule for all
// nodes starts afresh, another one adds to or takes from the exceptions.
func decide(rules []specs.LinuxDeviceCgroup) (decision, error) {
	d := decision{access: map[node]int32{}}
	for _, r := range rules {
		if err := CheckDevice(r); err != nil {
			return d, err
		}
		if kindOf(r) == "a" {
			d = decision{allow: r.Allow, access: map[node]int32{}}
			continue
		}
		n := node{kind: kindChar, major: -1, minor: -1}
		if r.Type == "b" {
			n.kind = kindBlock
		}
		if r.Major != nil && *r.Major >= 0 {
			n.major = *r.Major
		}
		if r.Minor != nil && *r.Minor >= 0 {
			n.minor = *r.Minor
		}
		old, known := d.access[n]
		if !known {
			d.nodes = append(d.nodes, n)
		}
		if r.Allow != d.allow {
			d.access[n] = old | accessOf(r.Access)
		} else {
			d.access[n] = old &^ accessOf(r.Access)
		}
	}
	return d, nil
}

func accessOf(s string) int32 {
	var a int32
	for bit, c := range map[int32]string{accessMknod: "m", accessRead: "r", accessWrite: "w"} {
		if strings.Contains(s, c) {
			a |= bit
		}
	}
	return a
}

// ebpf is struct bpf_insn.
type ebpf struct {
	code byte
	regs byte // destination | source << 4
	off  int16
	imm  int32
}

// Registers: r0 result, r1 the argument, then what is read from it.
const (
	rResult = 0
	rArg    = 1
	rKind   = 2
	rAccess = 3
	rMajor  = 4
	rMinor  = 5
	rTmp    = 6
)

// Operation codes (linux/bpf.h).
const (
	bpfLoadWord = 0x61 // dst = *(u32 *)(src + off)
	bpfMov      = 0xbf // dst = src
	bpfMovImm   = 0xb7
	bpfAndImm   = 0x57
	bpfShiftR   = 0x77
	bpfJumpNe   = 0x55 // if dst != imm, over off instructions
	bpfJump     = 0x05
	bpfExit     = 0x95
)

// program returns the instructions for a decision.
func (d decision) program() []ebpf {
	p := []ebpf{
		{bpfLoadWord, rKind | rArg<<4, 0, 0},
		{bpfMov, rAccess | rKind<<4, 0, 0},
		{bpfAndImm, rKind, 0, 0xffff},
		{bpfShiftR, rAccess, 0, 16},
		{bpfLoadWord, rMajor | rArg<<4, 4, 0},
		{bpfLoadWord, rMinor | rArg<<4, 8, 0},
	}
	for _, n := range d.nodes {
		if d.access[n] != 0 {
			p = append(p, d.block(n, d.access[n])...)
		}
	}
	return append(p, verdict(d.allow)...)
}

// block ends the program if the exception applies: it allows if the wanted
// access is within the allowed one, or denies if any of it is denied.
func (d decision) block(n node, access int32) []ebpf {
	var tests []ebpf
	tests = append(tests, ebpf{bpfJumpNe, rKind, 0, n.kind})
	if n.major >= 0 {
		tests = append(tests, ebpf{bpfJumpNe, rMajor, 0, int32(n.major)})
	}
	if n.minor >= 0 {
		tests = append(tests, ebpf{bpfJumpNe, rMinor, 0, int32(n.minor)})
	}
	tests = append(tests, ebpf{bpfMov, rTmp | rAccess<<4, 0, 0})
	if d.allow {
		// skip the verdict if none of the denied bits is wanted
		tests = append(tests, ebpf{bpfAndImm, rTmp, 0, access}, ebpf{bpfJumpNe, rTmp, 1, 0}, ebpf{bpfJump, 0, 0, 0})
	} else {
		tests = append(tests, ebpf{bpfAndImm, rTmp, 0, ^access}, ebpf{bpfJumpNe, rTmp, 0, 0})
	}
	out := append(tests, verdict(!d.allow)...)
	for i := range tests {
		if jump := out[i].code == bpfJumpNe || out[i].code == bpfJump; jump && out[i].off == 0 {
			out[i].off = int16(len(out) - i - 1)
		}
	}
	return out
}

func verdict(allow bool) []ebpf {
	v := int32(0)
	if allow {
		v = 1
	}
	return []ebpf{{bpfMovImm, rResult, 0, v}, {bpfExit, 0, 0, 0}}
}

// Commands and types of bpf(2).
const (
	bpfProgLoad   = 5
	bpfProgAttach = 8

	progCgroupDevice   = 15
	attachCgroupDevice = 6
	attachMulti        = 2 // groups above may have programs too: all must allow
)

// attachDevices gives the group's directory a program for the rules.
func attachDevices(p string, rules []specs.LinuxDeviceCgroup) error {
	d, err := decide(rules)
	if err != nil {
		return err
	}
	group, err := os.Open(p)
	if err != nil {
		return err
	}
	defer group.Close()
	prog, err := loadProgram(d.program())
	if err != nil {
		return fmt.Errorf("load device rules: %w", err)
	}
	defer unix.Close(prog) // the group keeps it
	attr := struct{ target, prog, kind, flags uint32 }{uint32(group.Fd()), uint32(prog), attachCgroupDevice, attachMulti}
	if _, err := bpf(bpfProgAttach, unsafe.Pointer(&attr), unsafe.Sizeof(attr)); err != nil {
		return fmt.Errorf("attach device rules to %s: %w", p, err)
	}
	return nil
}

func loadProgram(p []ebpf) (int, error) {
	code := make([]byte, 0, 8*len(p))
	for _, i := range p {
		code = append(code, i.code, i.regs)
		code = binary.NativeEndian.AppendUint16(code, uint16(i.off))
		code = binary.NativeEndian.AppendUint32(code, uint32(i.imm))
	}
	license := []byte("Apache-2.0\x00")
	var pin runtime.Pinner // the kernel gets addresses inside a structure
	defer pin.Unpin()
	pin.Pin(&code[0])
	pin.Pin(&license[0])
	attr := struct {
		kind, count             uint32
		code, license           uint64
		logLevel, logSize       uint32
		log                     uint64
		kernelVersion, progFlag uint32
	}{kind: progCgroupDevice, count: uint32(len(p)),
		code: uint64(uintptr(unsafe.Pointer(&code[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0])))}
	return bpf(bpfProgLoad, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
}

func bpf(command int, attr unsafe.Pointer, size uintptr) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(attr), size)
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}
