// Package union says what a union mount is made of, and reads how people write
// it: branches, their permissions, options, changes.
//
// A union mount shows several directories, its branches, as one tree. They are
// stacked: a name is looked for in the topmost branch (index 0) first, and the
// first branch that has it wins; directories of the same name merge. What is
// below stays as it is, hidden or seen through.
//
//	/rw=rw           index 0    etc/hosts  .wh.tmp
//	/opt/a=ro+wh           1    etc/motd
//	/base=ro               2    etc/hosts  etc/passwd  tmp
//
//	the union                   etc/hosts (of /rw)  etc/motd  etc/passwd
//
// Only branches that are rw are written to. When a file of a lower branch is
// about to change, it is copied up to a writable one first, with its
// directories. When a name is removed that a lower branch still has, a whiteout
// takes its place: an empty file .wh.NAME, which hides NAME in all branches
// below. A directory with a file .wh..wh..opq in it is opaque: nothing of the
// directories below it is seen. Names that begin with .wh. belong to the union
// and cannot be seen or made from above.
//
// A branch that is ro is never changed through the union, and its own whiteouts
// mean nothing unless it is ro+wh. One that is rr is ro and, in addition, nobody
// changes it at all, so nothing of it is ever looked at twice.
//
// Terms and rules are those of aufs(5). The packages below this one:
//
//	tree     the rules, done with directories by descriptor
//	model    the same rules with maps, for comparing
//	server   the tree as a FUSE file system
//	mnt      a mount and its server: made, found, changed, ended
package union

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// MaxBranches is how many branches a union can have.
const MaxBranches = 1023

// Names that the union keeps in its branches. All but Opaque lie in the root
// of a writable branch.
const (
	WhiteoutPrefix = ".wh."
	Opaque         = ".wh..wh..opq" // in a directory: nothing below it is seen
	WhiteoutBase   = ".wh..wh.aufs" // the file that whiteouts are links of
	WorkDir        = ".wh..wh.orph" // what is not there yet, and what is not there any more
	LinkDir        = ".wh..wh.plnk" // files copied up that have further names below
	InodeFile      = ".wh..wh.xino" // inode numbers of files copied up
)

// Hidden tells whether a name belongs to the union.
func Hidden(name string) bool { return strings.HasPrefix(name, WhiteoutPrefix) }

// Perm is what the union may do with a branch.
type Perm uint8

// The permissions. RR is RO with the promise that nobody changes the branch.
const (
	RW Perm = iota
	RO
	RR
)

// Branch is one directory of a union.
type Branch struct {
	Dir   string // absolute and clean
	Perm  Perm
	WH    bool // of RO and RR: the branch's whiteouts hide what is below
	NoLWH bool // of RW: whiteouts are files of their own, not links of one
}

// Honours tells whether the branch's own whiteouts hide what is below.
func (b Branch) Honours() bool { return b.Perm == RW || b.WH }

// PermString writes the permission as ParseBranch reads it.
func (b Branch) PermString() string {
	switch {
	case b.Perm == RW && b.NoLWH:
		return "rw+nolwh"
	case b.Perm == RW:
		return "rw"
	case b.Perm == RR && b.WH:
		return "rr+wh"
	case b.Perm == RR:
		return "rr"
	case b.WH:
		return "ro+wh"
	}
	return "ro"
}

// String writes the branch as ParseBranch reads it.
func (b Branch) String() string { return b.Dir + "=" + b.PermString() }

// ParseBranch reads DIR[=PERM]. Without a permission the branch is ro.
func ParseBranch(s string) (Branch, error) {
	b := Branch{Dir: s, Perm: RO}
	if i := strings.LastIndexByte(s, '='); i >= 0 {
		b.Dir = s[:i]
		if err := b.setPerm(s[i+1:]); err != nil {
			return Branch{}, err
		}
	}
	switch {
	case b.Dir == "":
		return Branch{}, fmt.Errorf("branch %q: the directory is missing; write DIR=PERM", s)
	case !filepath.IsAbs(b.Dir):
		return Branch{}, fmt.Errorf("branch %q: the directory must be an absolute path", s)
	case strings.ContainsAny(b.Dir, ":,\x00\n"):
		return Branch{}, fmt.Errorf("branch %q: a directory whose name has a colon, a comma or a line break cannot be a branch", s)
	}
	b.Dir = filepath.Clean(b.Dir)
	return b, nil
}

func (b *Branch) setPerm(s string) error {
	base, attrs, _ := strings.Cut(s, "+")
	perms := map[string]Perm{"rw": RW, "ro": RO, "rr": RR}
	p, ok := perms[base]
	if !ok {
		return fmt.Errorf("branch %s: unknown permission %q; it is rw, ro or rr", b.Dir, s)
	}
	b.Perm, b.WH, b.NoLWH = p, false, false
	if base == s {
		return nil
	}
	for a := range strings.SplitSeq(attrs, "+") {
		switch {
		case a == "wh" && p != RW && !b.WH:
			b.WH = true
		case a == "nolwh" && p == RW && !b.NoLWH:
			b.NoLWH = true
		case a == "wh" && p == RW:
			return fmt.Errorf("branch %s: attribute +wh is for ro and rr; the whiteouts of a rw branch always count", b.Dir)
		case a == "nolwh" && p != RW:
			return fmt.Errorf("branch %s: attribute +nolwh is for rw; no whiteouts are made in a %s branch", b.Dir, base)
		case a == "wh" || a == "nolwh":
			return fmt.Errorf("branch %s: attribute +%s is given twice", b.Dir, a)
		default:
			return fmt.Errorf("branch %s: unknown attribute %q; ro and rr can have +wh, rw can have +nolwh", b.Dir, a)
		}
	}
	return nil
}

// ParseBranches reads DIR[=PERM][:DIR[=PERM]...], topmost first. Without a
// permission the first is rw and the others are ro, as in aufs.
func ParseBranches(s string) ([]Branch, error) {
	if s == "" {
		return nil, fmt.Errorf("no branches given; write br:DIR=PERM[:DIR=PERM...]")
	}
	var list []Branch
	for part := range strings.SplitSeq(s, ":") {
		b, err := ParseBranch(part)
		if err != nil {
			return nil, err
		}
		if len(list) == 0 && !strings.Contains(part, "=") {
			b.Perm = RW
		}
		if list, err = Insert(list, len(list), b); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Insert puts a branch at an index into a list, which it does not change. A
// branch that is in the list already, lies inside another or has another inside
// is refused.
func Insert(list []Branch, index int, b Branch) ([]Branch, error) {
	if index < 0 || index > len(list) {
		return nil, fmt.Errorf("branch %s: there is no index %d; it can be 0 to %d", b.Dir, index, len(list))
	}
	if len(list) >= MaxBranches {
		return nil, fmt.Errorf("branch %s: a union has at most %d branches", b.Dir, MaxBranches)
	}
	for _, o := range list {
		switch {
		case o.Dir == b.Dir:
			return nil, fmt.Errorf("branch %s: it is a branch of this union already", b.Dir)
		case inside(b.Dir, o.Dir):
			return nil, fmt.Errorf("branch %s: it lies inside branch %s; branches cannot be nested", b.Dir, o.Dir)
		case inside(o.Dir, b.Dir):
			return nil, fmt.Errorf("branch %s: branch %s lies inside it; branches cannot be nested", b.Dir, o.Dir)
		}
	}
	return slices.Insert(slices.Clone(list), index, b), nil
}

// inside tells whether path a lies below path b; both are clean.
func inside(a, b string) bool { return b == "/" || strings.HasPrefix(a, b+"/") }

// Index returns where in the list the branch of a directory is, or -1.
func Index(list []Branch, dir string) int {
	dir = filepath.Clean(dir)
	return slices.IndexFunc(list, func(b Branch) bool { return b.Dir == dir })
}

// Format writes branches as ParseBranches reads them.
func Format(list []Branch) string {
	parts := make([]string, len(list))
	for i, b := range list {
		parts[i] = b.String()
	}
	return strings.Join(parts, ":")
}
