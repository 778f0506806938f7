package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/tare-engine/tare/internal/build"
)

// builderConfig is dockerd's key "builder": bounds of the build cache, and what builds
// may be allowed by their clients.
type builderConfig struct {
	Bounds build.Bounds
	Denied []string // entitlements that clients cannot give

	Cap build.Space // that the cache may take; zero: Bounds say

	given string // the object in the configuration file
}

// builderJSON is the object as the file has it.
type builderJSON struct {
	GC *struct {
		Enabled             *bool
		DefaultKeepStorage  *build.Space `json:"defaultKeepStorage"`
		DefaultReserved     *build.Space `json:"defaultReservedSpace"`
		DefaultMaxUsedSpace *build.Space `json:"defaultMaxUsedSpace"`
		DefaultMinFreeSpace *build.Space `json:"defaultMinFreeSpace"`
		Policy              []struct {
			All           bool         `json:"all"`
			Filter        []string     `json:"filter"`
			KeepStorage   *build.Space `json:"keepStorage"`
			ReservedSpace *build.Space `json:"reservedSpace"`
			MaxUsedSpace  *build.Space `json:"maxUsedSpace"`
			MinFreeSpace  *build.Space `json:"minFreeSpace"`
		} `json:"policy"`
	} `json:"gc"`
	Entitlements map[string]bool `json:"entitlements"`
}

// spaces puts together what a rule or the defaults name; keep is the older word for
// reserved.
func spaces(keep, reserved, most, free *build.Space) (s build.Spaces) {
	if reserved == nil {
		reserved = keep
	}
	for _, one := range []struct{ from, to *build.Space }{{reserved, &s.Reserved}, {most, &s.MaxUsed}, {free, &s.MinFree}} {
		if one.from != nil {
			*one.to = *one.from
		}
	}
	return s
}

// builderValue reads the object.
type builderValue struct{ c *builderConfig }

func (v builderValue) Set(s string) error {
	var in builderJSON
	dec := json.NewDecoder(bytes.NewReader([]byte(s)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return err
	}
	c := builderConfig{given: s, Cap: v.c.Cap}
	if gc := in.GC; gc != nil {
		c.Bounds.Off = gc.Enabled != nil && !*gc.Enabled
		c.Bounds.Defaults = spaces(gc.DefaultKeepStorage, gc.DefaultReserved, gc.DefaultMaxUsedSpace, gc.DefaultMinFreeSpace)
		for _, r := range gc.Policy {
			c.Bounds.Rules = append(c.Bounds.Rules, build.Rule{
				All: r.All, Filters: r.Filter, Spaces: spaces(r.KeepStorage, r.ReservedSpace, r.MaxUsedSpace, r.MinFreeSpace),
			})
		}
	}
	for name, allowed := range in.Entitlements {
		switch name {
		case "network-host", "device":
			if !allowed {
				c.Denied = append(c.Denied, strings.ReplaceAll(name, "-", "."))
			}
		case "security-insecure":
			if allowed {
				return errors.New("entitlements: security-insecure is not offered: a step never runs without confinement")
			}
		default:
			return fmt.Errorf("entitlements: %q is unknown: want network-host, device or security-insecure", name)
		}
	}
	*v.c = c
	return c.Bounds.Check()
}

func (v builderValue) String() string {
	if v.c == nil {
		return ""
	}
	return v.c.given
}

func (v builderValue) Type() string { return builderType }

// builderType is the type of a value that is an object, taken as it is written.
const builderType = "builder"

// check is for what neither setting shows alone.
func (c *builderConfig) check() error {
	if c.Cap == (build.Space{}) {
		return nil
	}
	if c.given != "" && (c.Bounds.Off || len(c.Bounds.Rules) > 0 || c.Bounds.Defaults != build.Spaces{}) {
		return errors.New("build-cache-cap and gc of builder are both given: one of them bounds the build cache")
	}
	return nil
}

// bounds are what both settings together say.
func (c *builderConfig) bounds() build.Bounds {
	b := c.Bounds
	if c.Cap != (build.Space{}) {
		b.Defaults.MaxUsed = c.Cap
	}
	return b
}

// objectWord is an object as one word, without what does not count in it.
func objectWord(raw json.RawMessage) ([]string, error) {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil || b.Bytes()[0] != '{' {
		return nil, fmt.Errorf(`want an object such as {"gc": {"defaultMaxUsedSpace": "20GB"}}, not %s`, raw)
	}
	return []string{b.String()}, nil
}

// spaceValue is room on a disk.
type spaceValue struct{ to *build.Space }

func (v spaceValue) Set(s string) error { return v.to.UnmarshalText([]byte(s)) }

func (v spaceValue) String() string {
	switch {
	case v.to == nil || *v.to == build.Space{}:
		return ""
	case v.to.Percentage > 0:
		return strconv.FormatInt(v.to.Percentage, 10) + "%"
	}
	return strconv.FormatInt(v.to.Bytes, 10)
}

func (v spaceValue) Type() string { return "string" }
