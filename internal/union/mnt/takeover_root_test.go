//go:build root

package mnt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/union/model"
)

// kills is how often servers are killed: TARE_UNION_KILLS, or a few.
func kills(few int) int {
	if n, err := strconv.Atoi(os.Getenv("TARE_UNION_KILLS")); err == nil {
		return n
	}
	return few
}

// killer kills server after server of a union, at random moments, until it is stopped
// or has done so a number of times.
type killer struct {
	n    atomic.Int64
	stop chan struct{}
	done chan struct{}
}

func (r *rig) startKiller(c *rand.Rand, most int, pause time.Duration) *killer {
	k := &killer{stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(k.done)
		old := 0
		for k.n.Load() < int64(most) {
			select {
			case <-k.stop:
				return
			case <-time.After(time.Duration(c.Int64N(int64(pause)))):
			}
			if pid := r.findServer(); pid > 0 && pid != old {
				old = pid
				if syscall.Kill(pid, syscall.SIGKILL) == nil {
					k.n.Add(1)
				}
			}
		}
	}()
	return k
}

func (k *killer) end() int {
	close(k.stop)
	<-k.done
	return int(k.n.Load())
}

// TestTakeOver: what was known before the server was killed is known to the next one:
// what is open, removed and open, locked, on its way through a directory.
func TestTakeOver(t *testing.T) {
	for _, options := range []string{"udba=none", "udba=reval"} {
		t.Run(options, func(t *testing.T) { takeOverIdle(t, options) })
	}
}

func takeOverIdle(t *testing.T, options string) {
	dir := tempDir(t)
	r := &rig{t: t, dir: dir}
	r.write("base/d/f", "below")
	r.write("base/d/g", "other")
	r.write("base/gone", "gone")
	r.write("base/up", "below")
	r.write("rw/h", "up")
	for i := range 500 {
		r.write(fmt.Sprint("base/many/a-name-that-is-somewhat-long-", i), "")
	}
	r = mountUnion(t, dir, "rw=rw:base=ro", options)
	open := func(name string, flags int) *os.File {
		f, err := os.OpenFile(r.path(name), flags, 0)
		must(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	is := func(f *os.File, want string) {
		t.Helper()
		b := make([]byte, len(want)+1)
		n, err := f.ReadAt(b, 0)
		if string(b[:n]) != want || err != nil && err != io.EOF {
			t.Errorf("%s: %q (%v), want %q", f.Name(), b[:n], err, want)
		}
	}
	reads, was, writes := open("d/f", os.O_RDONLY), open("up", os.O_RDONLY), open("h", os.O_RDWR)
	must(t, os.WriteFile(r.path("up"), []byte("changed"), 0)) // was goes on with what it was
	gone := open("gone", os.O_RDWR)
	must(t, os.Remove(r.path("gone")))
	must(t, syscall.Mkdir(r.path("rmdir"), 0o700))
	rmdir := open("rmdir", os.O_RDONLY)
	must(t, os.Remove(r.path("rmdir")))
	must(t, syscall.Flock(int(writes.Fd()), syscall.LOCK_EX))
	many, d := open("many", os.O_RDONLY), open("d", os.O_RDONLY)
	seen := map[string]bool{}
	before, err := os.Stat(r.path("d/g"))
	must(t, err)
	shared, err := syscall.Mmap(int(writes.Fd()), 0, 2, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	must(t, err)
	defer syscall.Munmap(shared)
	for round := range 3 {
		names, err := many.Readdirnames(100)
		must(t, err)
		for _, n := range names {
			if seen[n] {
				t.Errorf("%s is read twice", n)
			}
			seen[n] = true
			must(t, os.Remove(r.path("many/"+n)))
		}
		must(t, syscall.Kill(r.server(), syscall.SIGKILL))
		after, err := os.Stat(r.path("d/g"))
		must(t, err)
		if !os.SameFile(before, after) {
			t.Error("d/g has another inode number")
		}
		is(reads, "below")
		is(was, "below")
		text := fmt.Sprint("x", round)
		copy(shared, text)
		is(writes, text)
		r.want("mnt/h", text)
		r.want("mnt/up", "changed")
		if _, err := gone.WriteAt([]byte(text), 0); err != nil {
			t.Error(err)
		}
		is(gone, text+"ne")
		if st, err := rmdir.Stat(); err != nil || !st.IsDir() {
			t.Errorf("removed directory: %v", err)
		}
		if f, err := os.Open(r.path("h")); err != nil || syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != syscall.EWOULDBLOCK {
			t.Errorf("the lock is gone: %v", err)
		} else {
			f.Close()
		}
		_, err = d.Seek(0, 0)
		must(t, err)
		if names, err := d.Readdirnames(-1); err != nil || len(names) != 2 {
			t.Errorf("open directory: %v %v", names, err)
		}
		must(t, os.WriteFile(r.path("d/new"), []byte("new"), 0o644))
		must(t, os.Remove(r.path("d/new")))
		r.wantGone("mnt/gone")
	}
	rest, err := many.Readdirnames(-1)
	must(t, err)
	if len(seen)+len(rest) != 500 {
		t.Errorf("%d of 500 names were read", len(seen)+len(rest))
	}
	for _, f := range []*os.File{reads, was, writes, gone, rmdir, many, d} {
		f.Close()
	}
	must(t, r.Delete(filepath.Join(dir, "base"))) // nothing is thought to be in use
}

// TestTakeOverAgrees does random operations while servers are killed: each has the
// result that the model says, as if nobody had been.
func TestTakeOverAgrees(t *testing.T) {
	n, want := 0, kills(40)
	for seed := uint64(0); n < want && !t.Failed(); seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { n += takeOverAgrees(t, seed, want-n) })
	}
	fmt.Printf("SOAK | kills of a union's server between random operations | %d | %d | |\n", n, map[bool]int{true: 1}[t.Failed()])
}

func takeOverAgrees(t *testing.T, seed uint64, most int) int {
	made := func() *model.Union { return model.Random(rand.New(rand.NewPCG(seed, 21))) }
	dir := tempDir(t)
	var list, log []string
	before := map[string]string{}
	for i, b := range made().Branches {
		name := fmt.Sprint("b", i)
		must(t, b.Write(filepath.Join(dir, name)))
		perm := map[[2]bool]string{{true, true}: "rw", {true, false}: "rw", {false, true}: "ro+wh", {false, false}: "ro"}[[2]bool{b.RW, b.Honours}]
		if !b.RW {
			before[name] = merkle(t, filepath.Join(dir, name))
		}
		list = append(list, name+"="+perm)
	}
	r := mountUnion(t, dir, strings.Join(list, ":"), []string{"udba=none", "udba=reval"}[seed%2])
	k := r.startKiller(rand.New(rand.NewPCG(seed, 22)), min(most, 8), 30*time.Millisecond)
	m, c := made(), rand.New(rand.NewPCG(seed, 23))
	for k.n.Load() < int64(min(most, 8)) {
		op := model.RandomOperation(c)
		log = append(log, fmt.Sprint(k.n.Load(), " ", op.Name))
		if want, got := op.Do(m), op.Do(paths(r.mnt)); want != got {
			t.Errorf("%v, want %v\n%s", got, want, strings.Join(log[max(0, len(log)-30):], "\n"))
			break
		}
	}
	n := k.end()
	got, err := model.ReadTree(r.mnt)
	must(t, err)
	if diff := model.Compare(m.View(), got); diff != "" {
		t.Errorf("%s\n%s", diff, strings.Join(log[max(0, len(log)-30):], "\n"))
	}
	for name, sum := range before {
		if merkle(t, filepath.Join(dir, name)) != sum {
			t.Errorf("read-only branch %s has changed", name)
		}
	}
	r.wantTidy()
	return n
}

// wantTidy looks for what is left of something that was under way.
func (r *rig) wantTidy() {
	r.t.Helper()
	left, err := filepath.Glob(filepath.Join(r.dir, "*/.wh..wh.orph/*"))
	must(r.t, err)
	if len(left) > 0 {
		r.t.Errorf("left on the way: %v", left)
	}
}

// TestTakeOverUnderLoad kills servers while many work: they notice nothing.
func TestTakeOverUnderLoad(t *testing.T) {
	dir := tempDir(t)
	r := &rig{t: t, dir: dir}
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for i := range 8 {
		r.write(fmt.Sprint("base/src/dir", i%3, "/file", i), strings.Repeat(fmt.Sprint("source ", i, "\n"), 3000*i))
		r.write(fmt.Sprint("base/pool/p", i), fmt.Sprint("pool ", i))
	}
	r.write("base/big", string(big))
	r.write("base/map", string(big))
	r = mountUnion(t, dir, "rw=rw:base=ro", "udba=none")
	before := merkle(t, filepath.Join(dir, "base"))
	most := kills(3)
	k := r.startKiller(rand.New(rand.NewPCG(1, 2)), most, 250*time.Millisecond)
	works := map[string]func(*rig, int) error{
		"append": (*rig).appends, "names": (*rig).names, "big": func(r *rig, i int) error { return r.reads(big) },
		"map": func(r *rig, i int) error { return r.maps() }, "shell": (*rig).shell, "pool": (*rig).pool, "open": (*rig).opens,
	}
	var wait sync.WaitGroup
	var mu sync.Mutex
	done := map[string]int{}
	for name, work := range works {
		for i := range 2 {
			wait.Add(1)
			go func() {
				defer wait.Done()
				for n := 0; n < 3 || k.n.Load() < int64(most); n++ {
					if err := work(r, i); err != nil {
						t.Errorf("%s %d, round %d, after %d kills: %v", name, i, n, k.n.Load(), err)
						k.n.Store(int64(most)) // it is enough
						return
					}
					mu.Lock()
					done[name]++
					mu.Unlock()
				}
			}()
		}
	}
	wait.Wait()
	n := k.end()
	t.Logf("%d kills, %v rounds", n, done)
	fmt.Printf("SOAK | kills of a union's server under load | %d | %d | |\n", n, map[bool]int{true: 1}[t.Failed()])
	for i := range 2 {
		got, err := os.ReadFile(r.path(fmt.Sprint("log", i)))
		if err != nil || string(got) != lines(r.appended[i]) {
			t.Errorf("log%d has other than the %d lines that were written: %v", i, r.appended[i], err)
		}
	}
	if merkle(t, filepath.Join(dir, "base")) != before {
		t.Error("the read-only branch has changed")
	}
	r.wantTidy()
}

func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintln(&b, "line", i)
	}
	return b.String()
}

// appends adds to a file that is opened each time.
func (r *rig) appends(i int) error {
	f, err := os.OpenFile(r.path(fmt.Sprint("log", i)), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	for range 20 {
		if _, err := fmt.Fprintln(f, "line", r.appended[i]); err != nil {
			return err
		}
		r.appended[i]++
	}
	return nil
}

// names makes, moves, links and removes names in a directory of its own.
func (r *rig) names(i int) error {
	d := r.path(fmt.Sprint("names", i))
	var x [4]byte
	for _, f := range []func() error{
		func() error { return syscall.Mkdir(d, 0o755) },
		func() error { return os.WriteFile(d+"/a", []byte("a"), 0o600) },
		func() error { return os.Link(d+"/a", d+"/b") },
		func() error { return os.Rename(d+"/a", d+"/c") },
		func() error { return syscall.Setxattr(d+"/c", "trusted.x", []byte("1"), 1) }, // XATTR_CREATE; tmpfs has none of users before 6.6
		func() error { return os.Symlink("c", d+"/l") },
		func() error { return renameat2(d+"/c", d+"/l", 2) }, // they change places
		func() error { return os.Rename(d+"/c", d+"/was-link") },
		func() error { return syscall.Mkdir(d+"/sub", 0o700) },
		func() error { return os.WriteFile(d+"/sub/e", []byte("e"), 0o600) },
		func() error { return os.Rename(d+"/sub", d+"/sub2") },
		func() error { return os.Chmod(d+"/l", 0o640) },
		func() error { _, err := syscall.Getxattr(d+"/l", "trusted.x", x[:]); return err },
		func() error { return syscall.Removexattr(d+"/l", "trusted.x") },
		func() error { return os.Remove(d + "/b") },
		func() error { return os.Remove(d + "/sub2/e") },
		func() error { return os.Remove(d + "/sub2") },
		func() error { return os.Remove(d + "/l") },
		func() error { return os.Remove(d + "/was-link") },
		func() error { return os.Remove(d) },
	} {
		if err := f(); err != nil {
			return err
		}
	}
	if _, err := os.Lstat(d); !os.IsNotExist(err) {
		return fmt.Errorf("%s: %v", d, err)
	}
	return nil
}

func (r *rig) reads(want []byte) error {
	got, err := os.ReadFile(r.path("big"))
	if err == nil && !bytes.Equal(got, want) {
		err = errors.New("other data")
	}
	return err
}

// maps writes by a mapping, and reads with calls what it has written.
func (r *rig) maps() error {
	f, err := os.OpenFile(r.path("map"), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	m, err := syscall.Mmap(int(f.Fd()), 0, 1<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return err
	}
	defer syscall.Munmap(m)
	for i := 0; i < len(m); i += 8192 {
		m[i+1]++
		m[i+1]--
	}
	got := make([]byte, 16)
	if _, err := f.ReadAt(got, 1<<20-16); err != nil || string(got) != "0123456789abcdef" {
		return fmt.Errorf("%q %w", got, err)
	}
	return nil
}

// shell is like building something: processes, pipes, many files.
func (r *rig) shell(i int) error {
	cmd := exec.Command("sh", "-ec", fmt.Sprintf(`
		rm -rf out%[1]d; mkdir out%[1]d
		tar cf - -C src . | tar xf - -C out%[1]d
		diff -r src out%[1]d
		for f in out%[1]d/*/*; do sort -u "$f" >"$f.o.tmp"; mv "$f.o.tmp" "$f.o"; done
		cat out%[1]d/*/*.o | sort >out%[1]d/all
		test $(wc -l <out%[1]d/all) = 7 || { ls -lR out%[1]d; cat out%[1]d/all; exit 1; }
		find out%[1]d -name '*.o' -delete
		test $(find out%[1]d -type f | wc -l) = 9 || { ls -lR out%[1]d; exit 1; }
		rm -r out%[1]d`, i))
	cmd.Dir = r.mnt
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// pool removes files of the branch below and makes them again.
func (r *rig) pool(i int) error {
	for j := i; j < 8; j += 2 {
		p := r.path(fmt.Sprint("pool/p", j))
		if b, err := os.ReadFile(p); err != nil || string(b) != fmt.Sprint("pool ", j) {
			return fmt.Errorf("%q %w", b, err)
		}
		if err := os.Remove(p); err != nil {
			return err
		}
		if err := os.WriteFile(p+".new", []byte(fmt.Sprint("pool ", j)), 0o644); err != nil {
			return err
		}
		if err := os.Rename(p+".new", p); err != nil {
			return err
		}
	}
	names, err := os.ReadDir(r.path("pool"))
	if err != nil {
		return err
	}
	for _, e := range names {
		if !slices.Contains([]string{"", ".new"}, strings.TrimLeft(e.Name(), "p01234567")) {
			return fmt.Errorf("pool has %s", e.Name())
		}
	}
	return nil
}

// opens has a file open that has no name.
func (r *rig) opens(i int) error {
	p := r.path(fmt.Sprint("open", i))
	f, err := os.OpenFile(p, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.Remove(p); err != nil {
		return err
	}
	for j := range 10 {
		if _, err := f.WriteAt([]byte{byte(j)}, int64(j)); err != nil {
			return err
		}
		if st, err := f.Stat(); err != nil || st.Size() != int64(j+1) {
			return fmt.Errorf("size of a removed file: %v %w", st, err)
		}
		if err := f.Chmod(0o600 + os.FileMode(j)); err != nil {
			return err
		}
	}
	return nil
}
