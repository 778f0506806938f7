//go:build root

package mnt

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/union"
)

// TestBranchChangesUnderKills kills the server while branches come, change and go: the
// list is as before or as after, what was answered has been done, what is seen is what
// the list says, and no file that was written is lost.
func TestBranchChangesUnderKills(t *testing.T) {
	dir := tempDir(t)
	r := &rig{t: t, dir: dir}
	for _, name := range []string{"base", "a", "b", "c"} {
		r.write(name+"/who", name)
	}
	r = mountUnion(t, dir, "rw=rw:base=ro", "udba=none")
	open, err := os.Open(r.path("who"))
	must(t, err)
	defer open.Close()
	c := rand.New(rand.NewPCG(5, 6))
	list, err := r.Branches()
	must(t, err)
	want, cut, n := kills(5), 0, 0
	var files []string
	// Some kills come when the change is done already: then it goes on, within reason.
	for ; n < want || cut < want/5 && n < 10*want; n++ {
		change, next := r.randomChange(c, list)
		pid := r.server()
		killed := make(chan error)
		time.AfterFunc(time.Duration(c.IntN(2500))*time.Microsecond, func() { killed <- syscall.Kill(pid, syscall.SIGKILL) })
		err := change()
		must(t, <-killed)
		got, e := r.Branches()
		must(t, e)
		old, done := slices.Equal(got, list), slices.Equal(got, next)
		switch {
		case err == nil && !done, errors.Is(err, syscall.EBUSY) && !old, !old && !done:
			t.Fatalf("kill %d: %s (%v), from %s to %s", n, union.Format(got), err, union.Format(list), union.Format(next))
		case err != nil && !errors.Is(err, syscall.EBUSY) && !errors.Is(err, ErrKilled):
			t.Fatalf("kill %d: %v", n, err)
		case err != nil:
			cut++
		}
		list = got
		r.want("mnt/who", topmost(list))
		name := fmt.Sprint("file", n)
		must(t, os.WriteFile(r.path(name), []byte(name), 0o644))
		files = append(files, name)
	}
	fmt.Printf("SOAK | kills of a union's server while branches change | %d | %d | %d were cut off |\n", n, map[bool]int{true: 1}[t.Failed()], cut)
	for _, name := range files {
		found, err := filepath.Glob(filepath.Join(dir, "*", name))
		must(t, err)
		found = slices.DeleteFunc(found, func(p string) bool { return filepath.Dir(p) == r.mnt })
		if len(found) != 1 {
			t.Errorf("%s is in %v", name, found)
			continue
		}
		if b, err := os.ReadFile(found[0]); string(b) != name {
			t.Errorf("%s: %q, %v", found[0], b, err)
		}
	}
	b := make([]byte, 8)
	if k, err := open.ReadAt(b, 0); string(b[:k]) != "base" {
		t.Errorf("the open file is %q, %v", b[:k], err)
	}
	r.wantTidy()
}

// topmost is the first branch in which there is a file.
func topmost(list []union.Branch) string {
	for _, b := range list {
		if name := filepath.Base(b.Dir); name != "rw" {
			return name
		}
	}
	return ""
}

// randomChange is one of the branches a, b and c, and the list after it.
func (r *rig) randomChange(c *rand.Rand, list []union.Branch) (change func() error, next []union.Branch) {
	b := union.Branch{Dir: filepath.Join(r.dir, []string{"a", "b", "c"}[c.IntN(3)]), Perm: union.Perm(c.IntN(3))}
	at := union.Index(list, b.Dir)
	next = slices.Clone(list)
	switch {
	case at < 0:
		at = c.IntN(len(list) + 1)
		return func() error { return r.Add(at, b) }, slices.Insert(next, at, b)
	case c.IntN(2) == 0:
		next[at] = b
		return func() error { return r.Modify(b) }, next
	}
	return func() error { return r.Delete(b.Dir) }, slices.Delete(next, at, at+1)
}
