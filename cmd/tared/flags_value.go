package main

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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
func (v *boolValue) Type() string   { return "bool" }

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

func checkPath(s string) error {
	if !filepath.IsAbs(s) || filepath.Clean(s) != s {
		return errors.New("want an absolute path, without . and .. in it")
	}
	return nil
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
