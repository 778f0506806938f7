//go:build root

package mnt

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/union/model"
)

// TestKilledAtAnyMoment kills the server, and whoever would take over, while operations
// go on: after the next
// mount the union is as before the one that was under way, or as after it.
func TestKilledAtAnyMoment(t *testing.T) {
	under := 0
	for seed := uint64(0); seed < 20 || under < 5 && seed < 300; seed++ {
		if t.Failed() {
			return
		}
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			if killedAtAnyMoment(t, seed) {
				under++
			}
		})
	}
	if under < 5 {
		t.Errorf("the kill met an operation %d times only", under)
	}
}

func killedAtAnyMoment(t *testing.T, seed uint64) (met bool) {
	made := func() *model.Union { return model.RandomOf(rand.New(rand.NewPCG(seed, 11)), "wrr", true) }
	dir := tempDir(t)
	var list []string
	for i, b := range made().Branches {
		must(t, b.Write(filepath.Join(dir, fmt.Sprint("b", i))))
		list = append(list, fmt.Sprint("b", i, "=", map[bool]string{true: "rw", false: "ro"}[b.RW]))
	}
	r := mountUnion(t, dir, strings.Join(list, ":"), "udba=none")
	c := rand.New(rand.NewPCG(seed, 12))
	killed := make(chan struct{})
	time.AfterFunc(time.Duration(c.IntN(20000))*time.Microsecond, func() { r.killAll(); close(killed) })
	var ops []model.Operation
	for err := error(nil); ; {
		op := model.RandomOperation(c)
		ops = append(ops, op)
		if err = op.Do(paths(r.mnt)); died(err) {
			break
		}
	}
	<-killed
	r.unmount()
	r = mountUnion(t, dir, strings.Join(list, ":"), "udba=none")
	got, err := model.ReadTree(r.mnt)
	must(t, err)
	before, after := made(), made()
	for _, op := range ops[:len(ops)-1] {
		op.Do(before)
		op.Do(after)
	}
	last := ops[len(ops)-1]
	last.Do(after)
	diffBefore, diffAfter := model.Compare(before.View(), got), model.Compare(after.View(), got)
	if diffBefore == "" || diffAfter == "" {
		return diffBefore != "" || diffAfter != ""
	}
	// Opening a file so that it is empty, or making it, and writing to it are two
	// requests.
	for _, f := range got {
		if f.Kind == syscall.S_IFREG && f.Data == "" {
			for p, g := range got {
				if g == f {
					f.Data = dataOf(after, p)
				}
			}
			if model.Compare(after.View(), got) == "" {
				return true
			}
			f.Data = ""
		}
	}
	t.Errorf("%s: it is neither as before (%s) nor as after (%s)", last.Name, diffBefore, diffAfter)
	return true
}

func dataOf(u *model.Union, p string) string {
	if f := u.View()[p]; f != nil {
		return f.Data
	}
	return ""
}

func died(err error) bool {
	for _, no := range []syscall.Errno{syscall.ENOTCONN, syscall.ECONNABORTED} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// TestSwappedDirectoriesLeadNowhere: somebody exchanges a directory of a branch
// with a link out of it, all the time, while the union works in that directory.
func TestSwappedDirectoriesLeadNowhere(t *testing.T) {
	dir := tempDir(t)
	canary := filepath.Join(dir, "br/canary") // from mnt the link leads elsewhere
	must(t, os.MkdirAll(filepath.Join(canary, "sub"), 0o755))
	must(t, os.WriteFile(filepath.Join(canary, "f"), []byte("canary"), 0o644))
	must(t, os.WriteFile(filepath.Join(canary, "sub/g"), []byte("canary"), 0o644))
	r := &rig{t: t, dir: dir}
	r.write("br/base/d/f", "base")
	r.write("br/base/d/sub/g", "base")
	r.write("br/rw/d/f", "up")
	must(t, os.Symlink("../canary", filepath.Join(dir, "br/rw/link")))
	r = mountUnion(t, dir, "br/rw=rw:br/base=ro", "udba=reval")
	before := merkle(t, canary)
	stop := make(chan struct{})
	swapped := make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				swapped <- n
				return
			default:
				if renameat2(filepath.Join(dir, "br/rw/d"), filepath.Join(dir, "br/rw/link"), 2) == nil {
					n++
				}
			}
		}
	}()
	done := 0
	for i := range 300 {
		name := fmt.Sprint("n", i)
		for _, err := range []error{
			os.WriteFile(r.path("d/"+name), []byte("x"), 0o600),
			os.WriteFile(r.path("d/f"), []byte("x"), 0o600),
			os.Chmod(r.path("d/sub/g"), 0o600),
			os.Rename(r.path("d/"+name), r.path("d/sub/"+name)),
			os.Mkdir(r.path("d/dir"), 0o700),
			os.Remove(r.path("d/dir")),
			os.Link(r.path("d/f"), r.path("d/sub/l"+name)),
		} {
			if err == nil {
				done++
			}
		}
	}
	close(stop)
	if n := <-swapped; n < 50 || done < 50 {
		t.Errorf("%d swaps, %d operations went through", n, done)
	}
	if merkle(t, canary) != before {
		t.Error("the canary has changed")
	}
}
