package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// String lists what the branch has.
func (b *Branch) String() string {
	out := []string{fmt.Sprintf("rw=%v honours=%v:", b.RW, b.Honours)}
	for _, p := range slices.Sorted(maps.Keys(b.Files)) {
		out = append(out, fmt.Sprintf("%s(%c %p)", p, "?pc?d?b?-?l?s"[b.Files[p].Kind>>12], b.Files[p]))
	}
	for _, p := range slices.Sorted(maps.Keys(b.White)) {
		out = append(out, "white "+p)
	}
	for _, p := range slices.Sorted(maps.Keys(b.Opaque)) {
		out = append(out, "opaque "+p)
	}
	return strings.Join(out, " ")
}

// Compare tells how two trees differ: in names, in files, or in which names
// belong to one file.
func Compare(want, got map[string]*File) string {
	if a, b := slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)); !slices.Equal(a, b) {
		return fmt.Sprintf("names %v, want %v", b, a)
	}
	groups := map[*File]*File{}
	back := map[*File]*File{}
	for _, p := range slices.Sorted(maps.Keys(want)) {
		w, g := want[p], got[p]
		if *w != *g {
			return fmt.Sprintf("%s: %+v, want %+v", p, *g, *w)
		}
		if groups[w] != nil && groups[w] != g || back[g] != nil && back[g] != w {
			return fmt.Sprintf("%s: it is not a name of the file that it should be", p)
		}
		groups[w], back[g] = g, w
	}
	return ""
}

// CompareBranch tells how two branches differ.
func CompareBranch(want, got *Branch) string {
	if diff := Compare(want.Files, got.Files); diff != "" {
		return diff
	}
	if a, b := slices.Sorted(maps.Keys(want.White)), slices.Sorted(maps.Keys(got.White)); !slices.Equal(a, b) {
		return fmt.Sprintf("whiteouts %v, want %v", b, a)
	}
	if a, b := slices.Sorted(maps.Keys(want.Opaque)), slices.Sorted(maps.Keys(got.Opaque)); !slices.Equal(a, b) {
		return fmt.Sprintf("opaque %v, want %v", b, a)
	}
	return ""
}
