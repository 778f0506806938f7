package tree_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/tare-engine/tare/internal/union"
	"github.com/tare-engine/tare/internal/union/model"
)

// chance makes decisions: by a generator of random numbers, or by bytes that a
// fuzzer has chosen.
type chance interface{ IntN(n int) int }

// bytesChance decides by bytes, and always for 0 at their end.
type bytesChance struct{ b []byte }

func (c *bytesChance) IntN(n int) int {
	if len(c.b) == 0 {
		return 0
	}
	x := int(c.b[0])
	c.b = c.b[1:]
	return x % n
}

// stacks are the unions that are tried: w is rw, r is ro, h is ro+wh.
var stacks = []string{"wr", "wrr", "whr", "whhr", "wwr", "wrwr", "rwr", "hwr", "w", "r", "wrhrr", "rwhwr", "ww"}

func randomUnion(c chance) *model.Union {
	var list []*model.Branch
	for _, k := range stacks[c.IntN(len(stacks))] {
		b := model.NewBranch(k == 'w', k != 'r')
		fill(c, b)
		list = append(list, b)
	}
	return model.New(list...)
}

// fill puts things into a branch.
func fill(c chance, b *model.Branch) {
	for range c.IntN(12) {
		p := randomPath(c)
		parent := b.Files[path.Dir(p)]
		if parent == nil || parent.Kind != syscall.S_IFDIR || b.Files[p] != nil || b.White[p] {
			continue
		}
		switch c.IntN(10) {
		case 0:
			b.White[p] = true
		case 1:
			b.Files[p] = &model.File{Kind: syscall.S_IFLNK, Mode: 0o777, Data: "to" + strconv.Itoa(c.IntN(9))}
		case 2:
			if q := anyFile(c, b); q != nil {
				b.Files[p] = q
			}
		case 3, 4, 5:
			b.Files[p] = randomFile(c)
		default:
			b.Files[p] = &model.File{Kind: syscall.S_IFDIR, Mode: 0o755 + uint32(c.IntN(2))}
			if c.IntN(6) == 0 {
				b.Opaque[p] = true
			}
		}
	}
}

func anyFile(c chance, b *model.Branch) *model.File {
	for _, p := range slices.Sorted(maps.Keys(b.Files)) {
		if f := b.Files[p]; f.Kind == syscall.S_IFREG && c.IntN(2) == 0 {
			return f
		}
	}
	return nil
}

func randomFile(c chance) *model.File {
	return &model.File{Kind: syscall.S_IFREG, Mode: 0o600 + uint32(c.IntN(64)), Data: strings.Repeat("d", c.IntN(4)) + strconv.Itoa(c.IntN(1000))}
}

func randomPath(c chance) string {
	p := "/"
	for range 1 + c.IntN(3) {
		p = path.Join(p, string("abc"[c.IntN(3)]))
	}
	return p
}

// operations are what both can do.
type operations interface {
	Make(p string, f model.File) error
	Write(p, data string) error
	Chmod(p string, mode uint32) error
	Unlink(p string) error
	Rmdir(p string) error
	Link(p, q string) error
	Rename(p, q string, noReplace, exchange bool) error
}

type operation struct {
	name string
	do   func(operations) error
}

func randomOperation(c chance) operation {
	p, q := randomPath(c), randomPath(c)
	switch c.IntN(12) {
	case 0, 1:
		f := *randomFile(c)
		return operation{fmt.Sprintf("create %s %q", p, f.Data), func(o operations) error { return o.Make(p, f) }}
	case 2, 3:
		f := model.File{Kind: syscall.S_IFDIR, Mode: 0o700 + uint32(c.IntN(64))}
		return operation{"mkdir " + p, func(o operations) error { return o.Make(p, f) }}
	case 4:
		f := model.File{Kind: syscall.S_IFLNK, Mode: 0o777, Data: q}
		return operation{"symlink " + p, func(o operations) error { return o.Make(p, f) }}
	case 5:
		data := strconv.Itoa(c.IntN(1000))
		return operation{"write " + p + " " + data, func(o operations) error { return o.Write(p, data) }}
	case 6:
		mode := 0o600 + uint32(c.IntN(64))
		return operation{fmt.Sprintf("chmod %s %o", p, mode), func(o operations) error { return o.Chmod(p, mode) }}
	case 7:
		return operation{"unlink " + p, func(o operations) error { return o.Unlink(p) }}
	case 8:
		return operation{"rmdir " + p, func(o operations) error { return o.Rmdir(p) }}
	case 9:
		return operation{"link " + p + " " + q, func(o operations) error { return o.Link(p, q) }}
	}
	noReplace, exchange := false, false
	switch c.IntN(8) {
	case 0:
		noReplace = true
	case 1:
		exchange = true
	}
	return operation{fmt.Sprintf("rename %s %s %v %v", p, q, noReplace, exchange),
		func(o operations) error { return o.Rename(p, q, noReplace, exchange) }}
}

// run does the same with a union on disk and with the model, and compares.
func run(t testing.TB, c chance, dir string, ops int) {
	m := randomUnion(c)
	d := newDisk(t, dir, m, union.Defaults())
	defer d.tree.Close()
	var log []string
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("%s\n%s\nin %s", fmt.Sprintf(format, args...), strings.Join(log, "\n"), dir)
	}
	for i, b := range m.Branches {
		log = append(log, fmt.Sprintf("branch %d rw=%v honours=%v: %s", i, b.RW, b.Honours, describe(b)))
	}
	if diff := compare(m.View(), d.View()); diff != "" {
		fail("at the beginning: %s", diff)
	}
	for range ops {
		op := randomOperation(c)
		log = append(log, op.name)
		want, got := op.do(m), op.do(d)
		if want != got {
			fail("%v, want %v", got, want)
		}
		if diff := compare(m.View(), d.View()); diff != "" {
			fail("seen: %s", diff)
		}
		for i, b := range m.Branches {
			if diff := compareBranch(b, readBranch(t, d.dirs[i], b)); diff != "" {
				fail("branch %d: %s", i, diff)
			}
		}
	}
	if n := d.tree.Len(); n != 1 {
		fail("%d nodes are left", n)
	}
}

func describe(b *model.Branch) string {
	var out []string
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

// compare tells how two trees differ: in names, in files, or in which names
// belong to one file.
func compare(want, got map[string]*model.File) string {
	if a, b := slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)); !slices.Equal(a, b) {
		return fmt.Sprintf("names %v, want %v", b, a)
	}
	groups := map[*model.File]*model.File{}
	back := map[*model.File]*model.File{}
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

func compareBranch(want, got *model.Branch) string {
	if diff := compare(want.Files, got.Files); diff != "" {
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

// TestRandomOperations compares with the model of the rules: results, what is
// seen, and what every branch has, after each operation. TARE_UNION_OPS says how
// many operations there are.
func TestRandomOperations(t *testing.T) {
	syscall.Umask(0)
	const length = 40
	ops := 4000
	if s := os.Getenv("TARE_UNION_OPS"); s != "" {
		n, err := strconv.Atoi(s)
		must(t, err)
		ops = n
	}
	dir := t.TempDir()
	for i := range ops / length {
		seed := uint64(i)
		sub := filepath.Join(dir, strconv.Itoa(i))
		must(t, os.Mkdir(sub, 0o755))
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) { run(t, rand.New(rand.NewPCG(seed, 1)), sub, length) })
		must(t, os.RemoveAll(sub))
	}
}

// FuzzOperations is the same with decisions that the fuzzer makes.
func FuzzOperations(f *testing.F) {
	syscall.Umask(0)
	for i := range 4 {
		b := make([]byte, 400)
		r := rand.New(rand.NewPCG(uint64(i), 2))
		for j := range b {
			b[j] = byte(r.IntN(256))
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) { run(t, &bytesChance{b}, t.TempDir(), min(len(b)/6, 60)) })
}
