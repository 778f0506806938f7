// Package seccomp turns an OCI seccomp profile into a filter that the kernel
// runs before every system call of a container.
//
// A profile is a default action and a list of rules: names of system calls,
// perhaps conditions on their arguments, and an action. The filter is a
// program for the kernel's classic BPF machine over this structure:
//
//	offset 0  nr     number of the system call
//	       4  arch   calling convention (a 64-bit kernel also takes 32-bit calls)
//	       8  ip     instruction pointer
//	      16  args   six 64-bit words, low half first
//
// A chain of comparisons, one per number, costs every call up to 800
// instructions; Compile makes a binary search tree over the numbers. Attaching
// it and passing it until a small program has run costs a start 90
// microseconds, the chain 450. The kernel checks the program when it is
// attached, in the container's child; nothing here needs a privilege.
//
// What a profile means where it is ambiguous is what runc with libseccomp
// makes of it; see rules.go.
package seccomp

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// maxInstructions is the kernel's BPF_MAXINSNS.
const maxInstructions = 4096

// cacheSize bounds the cache: a host has a handful of profiles, times the sets
// of capabilities that their rules depend on.
const cacheSize = 64

var cache = struct {
	sync.Mutex
	programs map[[sha256.Size]byte][]byte
}{programs: map[[sha256.Size]byte][]byte{}}

// Compile returns the filter for a profile: 8 bytes an instruction, in the
// order of struct sock_filter. The result is shared and must not be changed.
func Compile(p *specs.LinuxSeccomp) ([]byte, error) {
	if p == nil {
		return nil, errors.New("no seccomp profile")
	}
	if prog, ok := programOf(p); ok {
		return prog, nil
	}
	id := digest(p)
	cache.Lock()
	prog, ok := cache.programs[id]
	cache.Unlock()
	if ok {
		return prog, nil
	}
	prog, err := compile(p)
	if err != nil {
		return nil, err
	}
	cache.Lock()
	defer cache.Unlock()
	if len(cache.programs) >= cacheSize {
		clear(cache.programs)
	}
	cache.programs[id] = prog
	return prog, nil
}

func compile(p *specs.LinuxSeccomp) ([]byte, error) {
	abis, err := abisOf(p.Architectures)
	if err != nil {
		return nil, err
	}
	sections := make([][]instruction, len(abis))
	for i, a := range abis {
		t, err := newTable(p, a)
		if err != nil {
			return nil, err
		}
		sections[i] = tree(t.segments())
	}
	prog := program(abis, sections)
	if len(prog) > maxInstructions {
		return nil, fmt.Errorf("seccomp profile needs %d instructions, the kernel takes %d", len(prog), maxInstructions)
	}
	return encode(prog), nil
}

// digest identifies a profile by everything that the filter depends on.
func digest(p *specs.LinuxSeccomp) [sha256.Size]byte {
	k := make(key, 0, 16<<10)
	k.text(string(p.DefaultAction))
	k.errno(p.DefaultErrnoRet)
	k.number(uint64(len(p.Architectures)))
	for _, a := range p.Architectures {
		k.text(string(a))
	}
	for _, s := range p.Syscalls {
		k.text(string(s.Action))
		k.errno(s.ErrnoRet)
		k.number(uint64(len(s.Names)))
		for _, n := range s.Names {
			k.text(n)
		}
		k.number(uint64(len(s.Args)))
		for _, a := range s.Args {
			k.number(uint64(a.Index))
			k.number(a.Value)
			k.number(a.ValueTwo)
			k.text(string(a.Op))
		}
	}
	return sha256.Sum256(k)
}

// key collects fields, each with its length, so that no two lists of fields
// give the same bytes.
type key []byte

func (k *key) number(v uint64) { *k = binary.AppendUvarint(*k, v) }

func (k *key) text(s string) {
	k.number(uint64(len(s)))
	*k = append(*k, s...)
}

func (k *key) errno(e *uint) {
	if e == nil {
		k.number(0)
		return
	}
	k.number(1)
	k.number(uint64(*e))
}
