package main

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// The values of settings check themselves when they are set, so that flag and
// file give the same error.

type boolValue bool

func (v *boolValue) Set(s string) error {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return errors.New("want true or false")
	}
	*v = boolValue(b)
	return nil
}
func (v *boolValue) String() string { return strconv.FormatBool(bool(*v)) }
func (v *boolValue) Type() string   { return boolType }

// notValue is boolValue for a setting that is on unless it is turned off.
type notValue bool

func (v *notValue) Set(s string) error {
	var b boolValue
	err := b.Set(s)
	*v = notValue(!b)
	return err
}
func (v *notValue) String() string { return strconv.FormatBool(!bool(*v)) }
func (v *notValue) Type() string   { return boolType }

// The types of what may be given without a value.
const (
	boolType = "bool"
	autoType = "bool or auto"
)

// autoValue is true, false, or for the engine to find out.
type autoValue string

func (v *autoValue) Set(s string) error {
	if s == "auto" {
		*v = "auto"
		return nil
	}
	b, err := strconv.ParseBool(s)
	if err != nil {
		return errors.New("want true, false or auto")
	}
	*v = autoValue(strconv.FormatBool(b))
	return nil
}
func (v *autoValue) String() string { return string(*v) }
func (v *autoValue) Type() string   { return autoType }

// prefix6Value is a subnet of IPv6.
type prefix6Value netip.Prefix

func (v *prefix6Value) Set(s string) error {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil || !p.Addr().Is6() || p.Addr().Is4In6():
		return errors.New("want an IPv6 subnet")
	case p.Addr().IsMulticast() || p.Addr().IsLinkLocalUnicast() || p.Addr().IsLoopback() || p.Masked().Addr().IsUnspecified():
		return errors.New("these are no addresses of hosts that are routed")
	case p.Bits() > 126:
		return errors.New("no room for containers: the prefix may have 126 bits at most")
	}
	*v = prefix6Value(p.Masked())
	return nil
}
func (v *prefix6Value) String() string { return (*prefixValue)(v).String() }
func (v *prefix6Value) Type() string   { return "string" }

// textValue is a string with a check, nil if anything will do.
type textValue struct {
	text  *string
	check func(string) error
}

func (v textValue) Set(s string) error {
	if v.check != nil {
		if err := v.check(s); err != nil {
			return err
		}
	}
	*v.text = s
	return nil
}
func (v textValue) String() string { return *v.text }
func (v textValue) Type() string   { return "string" }

type prefixValue netip.Prefix

func (v *prefixValue) Set(s string) error {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return fmt.Errorf("want an address with prefix length: %w", err)
	case !p.Addr().Is4():
		return errors.New("want an IPv4 address with prefix length")
	case p.Bits() > 30:
		return errors.New("no room for containers: the prefix may have 30 bits at most")
	case p.Addr() == p.Masked().Addr():
		return errors.New("want the gateway's address, not that of the network")
	}
	*v = prefixValue(p)
	return nil
}

func (v *prefixValue) String() string {
	if p := netip.Prefix(*v); p.IsValid() {
		return p.String()
	}
	return ""
}
func (v *prefixValue) Type() string { return "string" }

// addrValue is an IPv4 address.
type addrValue netip.Addr

func (v *addrValue) Set(s string) error {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return errors.New("want an IPv4 address")
	}
	*v = addrValue(a)
	return nil
}

func (v *addrValue) String() string {
	if a := netip.Addr(*v); a.IsValid() {
		return a.String()
	}
	return ""
}
func (v *addrValue) Type() string { return "string" }

// mtuValue is what IPv4 and the kernel's links allow (RFC 791; if_ether.h).
type mtuValue uint

func (v *mtuValue) Set(s string) error {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n != 0 && n < 68 {
		return errors.New("want 68 to 65535 bytes, or 0 for Ethernet's 1500")
	}
	*v = mtuValue(n)
	return nil
}
func (v *mtuValue) String() string { return strconv.FormatUint(uint64(*v), 10) }
func (v *mtuValue) Type() string   { return "int" }

// listValue gathers what is given several times.
type listValue struct {
	list  *[]string
	check func(string) error
}

func (v *listValue) Set(s string) error {
	if err := v.check(s); err != nil {
		return err
	}
	if slices.Contains(*v.list, s) {
		return errors.New("given twice")
	}
	*v.list = append(*v.list, s)
	return nil
}
func (v *listValue) String() string { return strings.Join(*v.list, ",") }
func (v *listValue) Type() string   { return "list" }

func oneOf(words ...string) func(string) error {
	return func(s string) error {
		if !slices.Contains(words, s) {
			return fmt.Errorf("want one of %s", strings.Join(words, ", "))
		}
		return nil
	}
}

// cgroupDriver is the one option of --exec-opt.
const cgroupDriver = "native.cgroupdriver"

func checkExecOpt(s string) error {
	switch key, value, _ := strings.Cut(s, "="); {
	case key != cgroupDriver:
		return fmt.Errorf("want %s=cgroupfs or %s=systemd", cgroupDriver, cgroupDriver)
	case value != "cgroupfs" && value != "systemd":
		return fmt.Errorf("%s option %s not supported", cgroupDriver, value)
	}
	return nil
}

func checkAddr(s string) error {
	if _, err := netip.ParseAddr(s); err != nil {
		return errors.New("want an address")
	}
	return nil
}

func checkIPv4(s string) error { return new(addrValue).Set(s) }

// uniqueKeys refuses labels of which one would hide another.
func uniqueKeys(labels []string) error {
	seen := map[string]string{}
	for _, l := range labels {
		key, _, _ := strings.Cut(l, "=")
		if other, ok := seen[key]; ok {
			return fmt.Errorf("conflict labels for %s and %s", other, l)
		}
		seen[key] = l
	}
	return nil
}

func checkLabel(s string) error {
	if key, _, ok := strings.Cut(s, "="); !ok || key == "" {
		return errors.New("want KEY=VALUE")
	}
	return nil
}

// checkWord is for what becomes a word of resolv.conf.
func checkWord(s string) error {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return errors.New("want one word")
	}
	return nil
}

func checkPath(s string) error {
	if !filepath.IsAbs(s) || filepath.Clean(s) != s {
		return errors.New("want an absolute path, without . and .. in it")
	}
	return nil
}

// checkRoot is checkPath for directories in which files are looked for by patterns.
func checkRoot(s string) error {
	if strings.ContainsAny(s, `*?[\`) {
		return errors.New("want a path without *, ?, [ and \\ in it")
	}
	return checkPath(s)
}

// checkLink holds a name to the kernel's rules for links.
func checkLink(s string) error {
	if s == "" || s == "." || s == ".." || len(s) > 15 || strings.ContainsAny(s, "/: \t\n") {
		return errors.New("want the name of a link: 1 to 15 characters, no slash, colon or space")
	}
	return nil
}

func checkHost(s string) error {
	_, _, err := splitHost(s)
	return err
}
