package tree_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/tare-engine/tare/internal/union"
	"github.com/tare-engine/tare/internal/union/model"
)

// run does the same with a union on disk and with the model, of which branches come and go, and compares.
func run(t testing.TB, c model.Chance, dir string, ops int) {
	m := model.Random(c)
	d := newDisk(t, dir, m, union.Defaults())
	defer d.tree.Close()
	var log []string
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("%s\n%s\nin %s", fmt.Sprintf(format, args...), strings.Join(log, "\n"), dir)
	}
	for i, b := range m.Branches {
		log = append(log, fmt.Sprintf("branch %d %s", i, b))
	}
	if diff := model.Compare(m.View(), d.View()); diff != "" {
		fail("at the beginning: %s", diff)
	}
	for i := range ops {
		if i%8 == 7 {
			log = append(log, d.changeBranches(c, m))
		}
		op := model.RandomOperation(c)
		log = append(log, op.Name)
		want, got := op.Do(m), op.Do(d)
		if want != got {
			fail("%v, want %v", got, want)
		}
		if diff := model.Compare(m.View(), d.View()); diff != "" {
			fail("seen: %s", diff)
		}
		for i, b := range m.Branches {
			got, err := b.Read(d.dirs[i])
			must(t, err)
			if diff := model.CompareBranch(b, got); diff != "" {
				fail("branch %d: %s", i, diff)
			}
		}
	}
	if n := d.tree.Len(); n != 1 {
		fail("%d nodes are left", n)
	}
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
	bad := 0
	for i := range ops / length {
		seed := uint64(i)
		sub := filepath.Join(dir, strconv.Itoa(i))
		must(t, os.Mkdir(sub, 0o755))
		if !t.Run(fmt.Sprint("seed", seed), func(t *testing.T) { run(t, rand.New(rand.NewPCG(seed, 1)), sub, length) }) {
			bad++
		}
		must(t, os.RemoveAll(sub))
	}
	if os.Getenv("TARE_UNION_OPS") != "" {
		fmt.Printf("SOAK | random operations in unions, compared with the model | %d | %d | |\n", ops, bad)
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
	f.Fuzz(func(t *testing.T, b []byte) { c := model.Bytes(b); run(t, &c, t.TempDir(), min(len(b)/6, 60)) })
}
