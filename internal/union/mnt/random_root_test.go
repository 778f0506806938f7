//go:build root

package mnt

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tare-engine/tare/internal/linux/dirat"
	"github.com/tare-engine/tare/internal/union/model"
)

func renameat2(from, to string, flags uint) error {
	a, err := dirat.Open(filepath.Dir(from))
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := dirat.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	defer b.Close()
	return a.Rename(filepath.Base(from), b, filepath.Base(to), flags)
}

// TestThroughTheKernel does random operations in a mounted union and in the
// model, with the kernel's memory of names as long as it can be.
func TestThroughTheKernel(t *testing.T) {
	for seed := range uint64(40) {
		for _, options := range []string{"udba=none", "udba=reval"} {
			if t.Failed() {
				return
			}
			t.Run(fmt.Sprint("seed ", seed, " ", options), func(t *testing.T) { throughTheKernel(t, seed, options) })
		}
	}
}

func throughTheKernel(t *testing.T, seed uint64, options string) {
	c := rand.New(rand.NewPCG(seed, 3))
	m := model.Random(c)
	dir := tempDir(t)
	var list, log []string
	before := map[string]string{}
	for i, b := range m.Branches {
		name := fmt.Sprint("b", i)
		must(t, b.Write(filepath.Join(dir, name)))
		perm := "ro"
		switch {
		case b.RW:
			perm = "rw"
		case b.Honours:
			perm = "ro+wh"
		}
		if !b.RW {
			before[name] = merkle(t, filepath.Join(dir, name))
		}
		list = append(list, name+"="+perm)
		log = append(log, fmt.Sprint("branch ", i, " ", b))
	}
	r := mountUnion(t, dir, strings.Join(list, ":"), options)
	compare := func() {
		t.Helper()
		got, err := model.ReadTree(r.mnt)
		must(t, err)
		if diff := model.Compare(m.View(), got); diff != "" {
			t.Fatalf("%s\n%s", diff, strings.Join(log, "\n"))
		}
	}
	compare()
	for range 40 {
		op := model.RandomOperation(c)
		log = append(log, op.Name)
		if want, got := op.Do(m), op.Do(paths(r.mnt)); want != got {
			t.Fatalf("%v, want %v\n%s", got, want, strings.Join(log, "\n"))
		}
		compare()
	}
	for name, sum := range before {
		if merkle(t, filepath.Join(dir, name)) != sum {
			t.Errorf("read-only branch %s has changed\n%s", name, strings.Join(log, "\n"))
		}
	}
}

// merkle is a hash of everything in a directory: names, data, owners, modes, times. Times
// of access are those of files only: a directory or link that is read here gets a new one.
func merkle(t testing.TB, dir string) string {
	h := sha256.New()
	must(t, filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		must(t, err)
		var st syscall.Stat_t
		must(t, syscall.Lstat(p, &st))
		fmt.Fprintln(h, strings.TrimPrefix(p, dir), st.Ino, st.Mode, st.Nlink, st.Uid, st.Gid, st.Size, st.Mtim, st.Ctim)
		if e.Type().IsRegular() {
			f, err := os.OpenFile(p, os.O_RDONLY|syscall.O_NOATIME, 0)
			must(t, err)
			defer f.Close()
			fmt.Fprintln(h, st.Atim)
			_, err = io.Copy(h, f)
			must(t, err)
		}
		return nil
	}))
	return hex.EncodeToString(h.Sum(nil))
}

// TestAsOverlayfs does the same in a union and in an overlay of the kernel, as
// far as both have the same rules: one writable branch on read-only ones, in
// which there are neither whiteouts nor hard links.
func TestAsOverlayfs(t *testing.T) {
	for seed := range uint64(40) {
		if t.Failed() {
			return
		}
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { asOverlayfs(t, seed) })
	}
}

func asOverlayfs(t *testing.T, seed uint64) {
	c := rand.New(rand.NewPCG(seed, 4))
	m := model.RandomOf(c, []string{"wr", "wrr", "wrrr"}[c.IntN(3)], false)
	m.Branches[0] = model.NewBranch(true, true)
	dir := tempDir(t)
	list, lower := []string{"b0=rw"}, []string{}
	var log []string
	for i, b := range m.Branches[1:] {
		name := fmt.Sprint("b", i+1)
		must(t, b.Write(filepath.Join(dir, name)))
		list, lower = append(list, name+"=ro"), append(lower, filepath.Join(dir, name))
		log = append(log, fmt.Sprint("branch ", i+1, " ", b))
	}
	r := mountUnion(t, dir, strings.Join(list, ":"), "udba=none")
	over := filepath.Join(dir, "overlay")
	for _, p := range []string{"upper", "work", "overlay"} {
		must(t, os.Mkdir(filepath.Join(dir, p), 0o755))
	}
	must(t, syscall.Mount("overlay", over, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work", strings.Join(lower, ":"), dir, dir)))
	defer syscall.Unmount(over, syscall.MNT_DETACH)
	for range 60 {
		op := model.RandomOperation(c)
		log = append(log, op.Name)
		if want, got := op.Do(paths(over)), op.Do(paths(r.mnt)); want != got {
			t.Fatalf("%v, want %v\n%s", got, want, strings.Join(log, "\n"))
		}
		want, err := model.ReadTree(over)
		must(t, err)
		got, err := model.ReadTree(r.mnt)
		must(t, err)
		if diff := model.Compare(want, got); diff != "" {
			t.Fatalf("%s\n%s", diff, strings.Join(log, "\n"))
		}
	}
}
