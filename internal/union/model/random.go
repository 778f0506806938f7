package model

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Chance makes decisions: by a generator of random numbers, or by bytes that a
// fuzzer has chosen.
type Chance interface{ IntN(n int) int }

// Bytes decide one after the other, and always for 0 at their end.
type Bytes []byte

// IntN returns a number below n.
func (b *Bytes) IntN(n int) int {
	if len(*b) == 0 {
		return 0
	}
	x := int((*b)[0])
	*b = (*b)[1:]
	return x % n
}

// stacks are the unions that are tried: w is rw, r is ro, h is ro+wh.
var stacks = []string{"wr", "wrr", "whr", "whhr", "wwr", "wrwr", "rwr", "hwr", "w", "r", "wrhrr", "rwhwr", "ww"}

// Random makes a union of one of these stacks.
func Random(c Chance) *Union { return RandomOf(c, stacks[c.IntN(len(stacks))], true) }

// RandomOf makes a union: w is a branch that is rw, r one that is ro, h one that
// is ro+wh. Special says whether there are whiteouts, opaque directories and
// files with several names in it.
func RandomOf(c Chance, stack string, special bool) *Union {
	var list []*Branch
	for _, k := range stack {
		b := NewBranch(k == 'w', k != 'r')
		fill(c, b, special)
		list = append(list, b)
	}
	return New(list...)
}

// fill puts things into a branch.
func fill(c Chance, b *Branch, special bool) {
	for range c.IntN(12) {
		p := randomPath(c)
		parent := b.Files[path.Dir(p)]
		if parent == nil || parent.Kind != syscall.S_IFDIR || b.Files[p] != nil || b.White[p] {
			continue
		}
		kind := c.IntN(10)
		if !special && (kind == 0 || kind == 2) {
			kind = 3
		}
		switch kind {
		case 0:
			b.White[p] = true
		case 1:
			b.Files[p] = &File{Kind: syscall.S_IFLNK, Mode: 0o777, Data: "to" + strconv.Itoa(c.IntN(9))}
		case 2:
			if q := anyFile(c, b); q != nil {
				b.Files[p] = q
			}
		case 3, 4, 5:
			b.Files[p] = randomFile(c)
		default:
			b.Files[p] = &File{Kind: syscall.S_IFDIR, Mode: 0o755 + uint32(c.IntN(2))}
			if special && c.IntN(6) == 0 {
				b.Opaque[p] = true
			}
		}
	}
}

func anyFile(c Chance, b *Branch) *File {
	for _, p := range slices.Sorted(maps.Keys(b.Files)) {
		if f := b.Files[p]; f.Kind == syscall.S_IFREG && c.IntN(2) == 0 {
			return f
		}
	}
	return nil
}

func randomFile(c Chance) *File {
	return &File{Kind: syscall.S_IFREG, Mode: 0o600 + uint32(c.IntN(64)), Data: strings.Repeat("d", c.IntN(4)) + strconv.Itoa(c.IntN(1000))}
}

func randomPath(c Chance) string {
	p := "/"
	for range 1 + c.IntN(3) {
		p = path.Join(p, string("abc"[c.IntN(3)]))
	}
	return p
}

// Operations are what a union and its model can do.
type Operations interface {
	Make(p string, f File) error
	Write(p, data string) error
	Chmod(p string, mode uint32) error
	Unlink(p string) error
	Rmdir(p string) error
	Link(p, q string) error
	Rename(p, q string, noReplace, exchange bool) error
}

// Operation is one of them, with what it is done to.
type Operation struct {
	Name string
	Do   func(Operations) error
}

// RandomOperation makes one.
func RandomOperation(c Chance) Operation {
	p, q := randomPath(c), randomPath(c)
	switch c.IntN(12) {
	case 0, 1:
		f := *randomFile(c)
		return Operation{fmt.Sprintf("create %s %q", p, f.Data), func(o Operations) error { return o.Make(p, f) }}
	case 2, 3:
		f := File{Kind: syscall.S_IFDIR, Mode: 0o700 + uint32(c.IntN(64))}
		return Operation{"mkdir " + p, func(o Operations) error { return o.Make(p, f) }}
	case 4:
		f := File{Kind: syscall.S_IFLNK, Mode: 0o777, Data: q}
		return Operation{"symlink " + p, func(o Operations) error { return o.Make(p, f) }}
	case 5:
		data := strconv.Itoa(c.IntN(1000))
		return Operation{"write " + p + " " + data, func(o Operations) error { return o.Write(p, data) }}
	case 6:
		mode := 0o600 + uint32(c.IntN(64))
		return Operation{fmt.Sprintf("chmod %s %o", p, mode), func(o Operations) error { return o.Chmod(p, mode) }}
	case 7:
		return Operation{"unlink " + p, func(o Operations) error { return o.Unlink(p) }}
	case 8:
		return Operation{"rmdir " + p, func(o Operations) error { return o.Rmdir(p) }}
	case 9:
		return Operation{"link " + p + " " + q, func(o Operations) error { return o.Link(p, q) }}
	}
	noReplace, exchange := false, false
	switch c.IntN(8) {
	case 0:
		noReplace = true
	case 1:
		exchange = true
	}
	return Operation{fmt.Sprintf("rename %s %s %v %v", p, q, noReplace, exchange),
		func(o Operations) error { return o.Rename(p, q, noReplace, exchange) }}
}
