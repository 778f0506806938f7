// Package sysctl reads and writes kernel parameters under /proc/sys.
//
// Parameters below net/ belong to the network namespace of the calling thread:
// a caller that means another namespace enters it first (package netns).
package sysctl

import (
	"os"
	"path"
	"strings"
)

const root = "/proc/sys"

// Read returns the value of a parameter, named as a path: "net/ipv4/ip_forward".
func Read(name string) (string, error) {
	b, err := os.ReadFile(path.Join(root, name))
	return strings.TrimSpace(string(b)), err
}

// Write sets a parameter.
func Write(name, value string) error {
	// O_TRUNC would be refused by some parameters, and none needs it.
	f, err := os.OpenFile(path.Join(root, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(value); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// Set writes a parameter unless it has the value already, and reports whether
// it wrote.
func Set(name, value string) (changed bool, err error) {
	if have, err := Read(name); err == nil && have == value {
		return false, nil
	}
	return true, Write(name, value)
}
