package seccomp

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// defaults are the profiles that Default has given out, by capabilities, and
// their programs: most starts ask for one of them, and need not digest it.
var defaults = struct {
	sync.Mutex
	profiles map[string]*specs.LinuxSeccomp
	programs map[*specs.LinuxSeccomp][]byte
}{profiles: map[string]*specs.LinuxSeccomp{}, programs: map[*specs.LinuxSeccomp][]byte{}}

// programOf returns the program of a profile that Default gave out.
func programOf(p *specs.LinuxSeccomp) ([]byte, bool) {
	defaults.Lock()
	defer defaults.Unlock()
	prog, ok := defaults.programs[p]
	return prog, ok
}

// Default returns Docker's default profile for a process with the bounding
// capabilities: some allow more calls. The result is shared and must not be
// changed.
func Default(bounding []string) (*specs.LinuxSeccomp, error) {
	caps := slices.Clone(bounding)
	slices.Sort(caps)
	key := strings.Join(caps, " ")

	defaults.Lock()
	defer defaults.Unlock()
	if p, ok := defaults.profiles[key]; ok {
		return p, nil
	}
	p, err := seccomp.GetDefaultProfile(specFor(caps))
	if err != nil {
		return nil, err
	}
	prog, err := compile(p)
	if err != nil {
		return nil, err
	}
	if len(defaults.profiles) >= cacheSize {
		clear(defaults.profiles)
		clear(defaults.programs)
	}
	defaults.profiles[key], defaults.programs[p] = p, prog
	return p, nil
}

// Parse reads a profile in Docker's JSON format and settles its conditions for
// a process with the bounding capabilities. It returns nil for a profile that
// says nothing (neither default action nor rules).
func Parse(text string, bounding []string) (*specs.LinuxSeccomp, error) {
	var shape struct {
		ArchMap  []json.RawMessage
		Syscalls []*json.RawMessage
	}
	if err := json.Unmarshal([]byte(text), &shape); err == nil && slices.Contains(shape.Syscalls, nil) {
		//lint:ignore ST1005 the beginning is Docker's text
		return nil, errors.New("Decoding seccomp profile failed: null in syscalls") // the library would dereference it
	}
	p, err := seccomp.LoadProfile(text, specFor(bounding))
	if err != nil || p == nil {
		return nil, err
	}
	return p, nil
}

func specFor(bounding []string) *specs.Spec {
	return &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: bounding}}}
}
