package build

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/cmd/buildkitd/config"
	"github.com/moby/buildkit/util/disk"

	"github.com/tare-engine/tare/api"
)

// Space is room on a disk as dockerd's configuration file writes it: bytes such as
// "20GB", or a part of the disk such as "10%".
type Space struct{ config.DiskSpace }

// UnmarshalText reads it.
func (s *Space) UnmarshalText(text []byte) error {
	var d config.DiskSpace
	if err := d.UnmarshalText(text); err != nil || len(text) == 0 || d.Bytes < 0 || d.Percentage < 0 || d.Percentage > 100 {
		return fmt.Errorf("%q is neither bytes, such as 20GB, nor a part of the disk, such as 10%%", text)
	}
	s.DiskSpace = d
	return nil
}

// Spaces are the bounds of a cache; what is zero bounds nothing.
type Spaces struct {
	Reserved Space // that the cache may keep in any case
	MaxUsed  Space // to which it shrinks
	MinFree  Space // of the disk, for others
}

// Bounds are dockerd's "gc" of "builder": what goes of the cache by itself, and when.
type Bounds struct {
	Off      bool
	Defaults Spaces // of rules that name none; zero: as the disk is
	Rules    []Rule // in this order; none: what is easily had again goes first
}

// Rule is one step of keeping a cache in bounds.
type Rule struct {
	All     bool     // what is internal or shared too
	Filters []string // KEY=VALUE, keys as of `builder prune`
	Spaces  Spaces
}

// Check says what is wrong with bounds.
func (b Bounds) Check() error {
	for _, r := range b.Rules {
		if _, err := r.prune(); err != nil {
			return err
		}
	}
	return nil
}

// prune is what BuildKit understands of a rule's filters.
func (r Rule) prune() (p bkclient.PruneInfo, err error) {
	var terms []string
	for _, f := range r.Filters {
		key, value, ok := strings.Cut(f, "=")
		if !ok || !slices.Contains(api.BuildPruneFilters, key) {
			return p, fmt.Errorf("filter %q: want KEY=VALUE, the key one of %s", f, strings.Join(api.BuildPruneFilters, ", "))
		}
		if key != "until" && key != "unused-for" {
			terms = append(terms, key+"=="+value)
			continue
		}
		if p.KeepDuration > 0 {
			return p, errors.New("filters: one age is possible, until or unused-for")
		}
		if p.KeepDuration, err = time.ParseDuration(value); err != nil || p.KeepDuration <= 0 {
			return p, fmt.Errorf("filter %q: want a duration, such as 48h", f)
		}
	}
	if len(terms) > 0 {
		p.Filter = []string{strings.Join(terms, ",")}
	}
	p.All = r.All
	return p, nil
}

// policy are bounds for BuildKit, with the disk of a directory.
func (b Bounds) policy(dir string) []bkclient.PruneInfo {
	if b.Off {
		return nil
	}
	stat, err := disk.GetDiskStat(dir)
	if err != nil {
		stat = disk.DiskStat{}
	}
	d := config.GCConfig{GCReservedSpace: b.Defaults.Reserved.DiskSpace, GCMaxUsedSpace: b.Defaults.MaxUsed.DiskSpace, GCMinFreeSpace: b.Defaults.MinFree.DiskSpace}
	var list []bkclient.PruneInfo
	if len(b.Rules) == 0 {
		for _, p := range config.DefaultGCPolicy(d, stat) {
			list = append(list, bkclient.PruneInfo{
				All: p.All, Filter: p.Filters, KeepDuration: p.KeepDuration.Duration,
				MaxUsedSpace: p.MaxUsedSpace.AsBytes(stat), ReservedSpace: p.ReservedSpace.AsBytes(stat), MinFreeSpace: p.MinFreeSpace.AsBytes(stat),
			})
		}
		return list
	}
	if d.IsUnset() {
		d = config.DetectDefaultGCCap(stat)
	}
	for _, r := range b.Rules {
		p, err := r.prune()
		if err != nil {
			continue // Check has said so
		}
		s := r.Spaces
		if s == (Spaces{}) {
			s = Spaces{Space{d.GCReservedSpace}, Space{d.GCMaxUsedSpace}, Space{d.GCMinFreeSpace}}
		}
		p.ReservedSpace, p.MaxUsedSpace, p.MinFreeSpace = s.Reserved.AsBytes(stat), s.MaxUsed.AsBytes(stat), s.MinFree.AsBytes(stat)
		list = append(list, p)
	}
	return list
}
