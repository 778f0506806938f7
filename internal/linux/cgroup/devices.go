package cgroup

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// DefaultDevices returns the rules of a container that asks for no device: any
// node may be made, but only the harmless ones opened.
func DefaultDevices() []specs.LinuxDeviceCgroup {
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}
	add := func(major, minor int64, access string) {
		r := specs.LinuxDeviceCgroup{Allow: true, Type: "c", Access: access}
		if major >= 0 {
			r.Major = &major
		}
		if minor >= 0 {
			r.Minor = &minor
		}
		rules = append(rules, r)
	}
	const any = -1
	add(any, any, "m")
	rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "b", Access: "m"})
	add(1, 3, "rwm")     // null
	add(1, 5, "rwm")     // zero
	add(1, 7, "rwm")     // full
	add(1, 8, "rwm")     // random
	add(1, 9, "rwm")     // urandom
	add(5, 0, "rwm")     // tty
	add(5, 2, "rwm")     // ptmx
	add(136, any, "rwm") // pts
	return rules
}

// AllDevices returns the rules of a privileged container.
func AllDevices() []specs.LinuxDeviceCgroup {
	return []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
}

func sameRules(a, b []specs.LinuxDeviceCgroup) bool {
	return slices.EqualFunc(a, b, func(x, y specs.LinuxDeviceCgroup) bool {
		return x.Allow == y.Allow && x.Access == y.Access && kindOf(x) == kindOf(y) &&
			number(x.Major) == number(y.Major) && number(x.Minor) == number(y.Minor)
	})
}

// kindOf returns a, b or c.
func kindOf(r specs.LinuxDeviceCgroup) string {
	if r.Type == "" {
		return "a"
	}
	return r.Type
}

// number prints a major or minor number; absent or negative means all.
func number(n *int64) string {
	if n == nil || *n < 0 {
		return "*"
	}
	return strconv.FormatInt(*n, 10)
}

// ruleText is a rule in the form of devices.allow and devices.list.
func ruleText(r specs.LinuxDeviceCgroup) string {
	return fmt.Sprintf("%s %s:%s %s", kindOf(r), number(r.Major), number(r.Minor), r.Access)
}

// CheckDevice says what is wrong with a rule, before a kernel sees it.
func CheckDevice(r specs.LinuxDeviceCgroup) error {
	switch kindOf(r) {
	case "a": // the kernel reads no further
		if number(r.Major) != "*" || number(r.Minor) != "*" {
			return fmt.Errorf("a device rule of type a is for all devices, not %s:%s", number(r.Major), number(r.Minor))
		}
	case "b", "c":
	default:
		return fmt.Errorf("invalid device type %q", r.Type)
	}
	if r.Access == "" || len(r.Access) > 3 {
		return fmt.Errorf("invalid device access %q", r.Access)
	}
	for i, c := range r.Access {
		if c != 'r' && c != 'w' && c != 'm' || slices.Contains([]rune(r.Access[:i]), c) {
			return fmt.Errorf("invalid device access %q", r.Access)
		}
	}
	return nil
}
