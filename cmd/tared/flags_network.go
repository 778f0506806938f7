package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/tare-engine/tare/internal/network/ipam"
)

const (
	poolsType       = "address pools"
	networkOptsType = "network options"
)

// poolsValue gathers pools of addresses: base=SUBNET,size=BITS as a flag, a list of objects
// with these members in the configuration file.
type poolsValue struct{ list *[]ipam.Range }

func (v poolsValue) Set(s string) error {
	var r ipam.Range
	for part := range strings.SplitSeq(s, ",") {
		key, value, _ := strings.Cut(part, "=")
		var err error
		switch key {
		case "base":
			if r.Base, err = netip.ParsePrefix(value); err != nil {
				return fmt.Errorf("invalid base pool %q: want a subnet such as 10.10.0.0/16", value)
			}
		case "size":
			if r.Size, err = strconv.Atoi(value); err != nil {
				return fmt.Errorf("invalid size value: %q (must be integer)", value)
			}
		default:
			return fmt.Errorf("unexpected key '%s' in '%s'", key, part)
		}
	}
	if err := checkPool(r, *v.list); err != nil {
		return err
	}
	r.Base = r.Base.Masked()
	*v.list = append(*v.list, r)
	return nil
}

// checkPool refuses what no subnets of hosts can be cut from, and what others have.
func checkPool(r ipam.Range, others []ipam.Range) error {
	a := r.Base.Masked().Addr()
	const room = 2 // bits of a subnet for a gateway and containers
	switch {
	case !r.Base.IsValid():
		return errors.New(`invalid base pool "": want base=SUBNET,size=BITS`)
	case a.Is4In6() || a.IsMulticast() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified() || a.Is4() && a.As4()[0] >= 240:
		return fmt.Errorf("invalid base pool %s: these are no addresses of hosts that are routed", r.Base)
	case r.Size < r.Base.Bits() || r.Size > a.BitLen()-room:
		return fmt.Errorf("invalid pools size: %d: want the length of the subnets' prefixes, from %d to %d", r.Size, r.Base.Bits(), a.BitLen()-room)
	}
	for _, o := range others {
		if o.Base.Overlaps(r.Base) {
			return fmt.Errorf("the base pools %s and %s overlap", o.Base, r.Base)
		}
	}
	return nil
}

func (v poolsValue) String() string {
	if v.list == nil {
		return ""
	}
	words := make([]string, len(*v.list))
	for i, r := range *v.list {
		words[i] = fmt.Sprintf("base=%s,size=%d", r.Base, r.Size)
	}
	return strings.Join(words, " ")
}

func (v poolsValue) Type() string { return poolsType }

// poolWords turns the list of the key into what Set takes.
func poolWords(raw json.RawMessage) ([]string, error) {
	var list []struct {
		Base string `json:"base"`
		Size int    `json:"size"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf(`want a list such as [{"base": "10.10.0.0/16", "size": 24}], not %s`, raw)
	}
	var words []string
	for _, p := range list {
		words = append(words, fmt.Sprintf("base=%s,size=%d", p.Base, p.Size))
	}
	return words, nil
}

// networkOptsValue gathers options of drivers: DRIVER=NAME=VALUE as a flag, an object with
// an object of options for each driver in the configuration file.
type networkOptsValue struct {
	all *map[string]map[string]string
}

func (v networkOptsValue) Set(s string) error {
	driver, option, _ := strings.Cut(s, "=")
	name, value, ok := strings.Cut(option, "=")
	if !ok || driver == "" || name == "" {
		return errors.New("want DRIVER=NAME=VALUE")
	}
	if *v.all == nil {
		*v.all = map[string]map[string]string{}
	}
	options := (*v.all)[driver]
	if options == nil {
		options = map[string]string{}
		(*v.all)[driver] = options
	}
	if _, twice := options[name]; twice {
		return fmt.Errorf("the option %s for the driver %s is given twice", name, driver)
	}
	options[name] = value
	return nil
}

func (v networkOptsValue) String() string {
	if v.all == nil {
		return ""
	}
	var words []string
	for driver, options := range *v.all {
		for name, value := range options {
			words = append(words, driver+"="+name+"="+value)
		}
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

func (v networkOptsValue) Type() string { return networkOptsType }

// networkOptWords turns the object of the key into what Set takes.
func networkOptWords(raw json.RawMessage) ([]string, error) {
	var all map[string]map[string]string
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf(`want an object such as {"bridge": {"com.docker.network.driver.mtu": "1400"}}, not %s`, raw)
	}
	var words []string
	for _, driver := range slices.Sorted(maps.Keys(all)) {
		for _, name := range slices.Sorted(maps.Keys(all[driver])) {
			words = append(words, driver+"="+name+"="+all[driver][name])
		}
	}
	return words, nil
}
