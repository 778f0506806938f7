package seccomp

import (
	"fmt"
	"runtime"
	"slices"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// x32Bit marks, in a number of the x86_64 convention, a call of the x32 ABI
// (64-bit registers, 32-bit pointers).
const x32Bit = 0x40000000

// abi is one calling convention: its audit number, its table of names, and how
// wide its arguments are.
type abi struct {
	name   specs.Arch
	audit  uint32
	bit    uint32 // or'ed into every number
	narrow bool   // the upper halves of arguments are always zero
	table  map[string]int
}

var (
	x8664   = &abi{name: specs.ArchX86_64, audit: uint32(arch.X86_64.ID), table: withNewer(arch.X86_64.SyscallNames)}
	x86     = &abi{name: specs.ArchX86, audit: uint32(arch.I386.ID), narrow: true, table: withNewer(arch.I386.SyscallNames)}
	x32     = &abi{name: specs.ArchX32, audit: uint32(arch.X32.ID), bit: x32Bit, table: withNewer(x32Names())}
	aarch64 = &abi{name: specs.ArchAARCH64, audit: uint32(arch.AARCH64.ID), table: withNewer(arch.AARCH64.SyscallNames)}
	arm     = &abi{name: specs.ArchARM, audit: uint32(arch.ARM.ID), narrow: true, table: withNewer(arch.ARM.SyscallNames)}
)

// natives maps Go's names to the ABIs that a kernel of that architecture runs,
// its own first.
var natives = map[string][]*abi{
	"amd64": {x8664, x86, x32},
	"arm64": {aarch64, arm},
}

// newer are calls that the library's tables do not have yet. Since 424 a call
// has the same number everywhere.
var newer = map[string]int{
	"file_getattr": 468, "file_setattr": 469, "listns": 470, "rseq_slice_yield": 471,
}

func withNewer(names map[string]int) map[string]int {
	for n, nr := range newer {
		if _, ok := names[n]; !ok {
			names[n] = nr
		}
	}
	return names
}

// x32Names returns x32's table: x86_64's, except that calls whose structures
// differ have numbers of their own from 512 on (the library lists both).
func x32Names() map[string]int {
	names := make(map[string]int, len(arch.X32.SyscallNumbers))
	for nr, n := range arch.X32.SyscallNumbers {
		if old, ok := names[n]; !ok || nr > old {
			names[n] = nr
		}
	}
	return names
}

// known are the architectures of the OCI specification.
var known = []specs.Arch{
	specs.ArchX86, specs.ArchX86_64, specs.ArchX32, specs.ArchARM, specs.ArchAARCH64, specs.ArchMIPS, specs.ArchMIPS64,
	specs.ArchMIPS64N32, specs.ArchMIPSEL, specs.ArchMIPSEL64, specs.ArchMIPSEL64N32, specs.ArchPPC, specs.ArchPPC64,
	specs.ArchPPC64LE, specs.ArchS390, specs.ArchS390X, specs.ArchPARISC, specs.ArchPARISC64, specs.ArchRISCV64,
	specs.ArchLOONGARCH64, specs.ArchM68K, specs.ArchSH, specs.ArchSHEB,
}

// abisOf returns the ABIs that a filter must know: the native one, always
// first, and those of the list that this kernel may run. Calls of any other
// end the thread, as with libseccomp.
func abisOf(list []specs.Arch) ([]*abi, error) {
	for _, a := range list {
		if !slices.Contains(known, a) {
			return nil, fmt.Errorf("unknown seccomp architecture %q", a)
		}
	}
	native, ok := natives[runtime.GOARCH]
	if !ok {
		return nil, fmt.Errorf("seccomp filters are not supported on %s", runtime.GOARCH)
	}
	abis := native[:1:1]
	for _, a := range native[1:] {
		if slices.Contains(list, a.name) {
			abis = append(abis, a)
		}
	}
	return abis, nil
}
