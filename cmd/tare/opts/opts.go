// Package opts reads the values of flags: ports, mounts, sizes, environment
// files and the rest of what docker's run and create accept, and makes the
// engine's configuration of a container from them.
//
// Values come from a person's command line, so an error says what was wrong
// with the text given, in docker's words where docker has some. What only the
// engine can judge (does the image exist, is the port free) is left to it.
package opts

import (
	"fmt"
	"math/big"
	"strings"

	"github.com/docker/go-units"
)

// List is a flag that may be given several times. Check, if there is one,
// turns a value into the one kept.
type List struct {
	Values []string
	Check  func(string) (string, error)
}

// Set adds a value.
func (l *List) Set(s string) error {
	if l.Check != nil {
		var err error
		if s, err = l.Check(s); err != nil {
			return err
		}
	}
	l.Values = append(l.Values, s)
	return nil
}

// String is empty: help shows no default.
func (l *List) String() string { return "" }

// Type is what help calls the value.
func (l *List) Type() string { return "list" }

// Map is a flag of key=value, given several times; the last of a key counts.
type Map struct {
	Values map[string]string
	Check  func(string) error // of a pair as it was given; may be nil
}

// Set adds a pair. A key alone has the empty value.
func (m *Map) Set(s string) error {
	if m.Check != nil {
		if err := m.Check(s); err != nil {
			return err
		}
	}
	k, v, _ := strings.Cut(s, "=")
	if m.Values == nil {
		m.Values = map[string]string{}
	}
	m.Values[k] = v
	return nil
}

// String is empty: help shows no default.
func (m *Map) String() string { return "" }

// Type is what help calls the value.
func (m *Map) Type() string { return "map" }

// Bytes is a size such as 512m.
type Bytes int64

// Set reads a size in binary units.
func (b *Bytes) Set(s string) error {
	n, err := units.RAMInBytes(s)
	*b = Bytes(n)
	return err
}

// String is empty: help shows no default.
func (b *Bytes) String() string { return "" }

// Type is what help calls the value.
func (b *Bytes) Type() string { return "bytes" }

// Swap is a size, or -1 for no limit.
type Swap int64

// Set reads a size in binary units, or -1.
func (b *Swap) Set(s string) error {
	if s == "-1" {
		*b = -1
		return nil
	}
	n, err := units.RAMInBytes(s)
	*b = Swap(n)
	return err
}

// String is empty: help shows no default.
func (b *Swap) String() string { return "" }

// Type is what help calls the value.
func (b *Swap) Type() string { return "bytes" }

// NanoCPUs is a number of processors, such as 1.5, kept in billionths.
type NanoCPUs int64

// Set reads a decimal number or a fraction.
func (n *NanoCPUs) Set(s string) error {
	cpus, err := ParseCPUs(s)
	*n = NanoCPUs(cpus)
	return err
}

// String is empty: help shows no default.
func (n *NanoCPUs) String() string { return "" }

// Type is what help calls the value.
func (n *NanoCPUs) Type() string { return "decimal" }

// ParseCPUs reads a number of processors into billionths of one.
func ParseCPUs(s string) (int64, error) {
	// An exponent would make a number of a million digits out of a short text.
	cpu, ok := new(big.Rat), false
	if len(s) <= 64 && !strings.ContainsAny(s, "eEpP") {
		_, ok = cpu.SetString(s)
	}
	if !ok {
		return 0, fmt.Errorf("failed to parse %v as a rational number", s)
	}
	nano := cpu.Mul(cpu, big.NewRat(1e9, 1))
	if !nano.IsInt() || !nano.Num().IsInt64() {
		return 0, fmt.Errorf("value is too precise")
	}
	return nano.Num().Int64(), nil
}

// pairs makes a map of key=value texts; a key alone has the empty value.
func pairs(list []string) map[string]string {
	m := make(map[string]string, len(list))
	for _, s := range list {
		k, v, _ := strings.Cut(s, "=")
		m[k] = v
	}
	return m
}
