// Command union compares union mounts: tare-union with overlayfs of the kernel,
// which is the limit, with fuse-overlayfs and unionfs-fuse of Debian, and with the
// bare file system. One writable branch on two read-only ones, all on an ext4 of
// its own in memory.
//
//	make build && go run ./test/bench/union [-files 4000] [-runs 3] [-cases untar,find]
//
// It prints a table in Markdown: seconds, the best of the runs, and how many times
// as long as overlayfs.
package main

import (
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

var (
	files = flag.Int("files", 4000, "files in the tree")
	runs  = flag.Int("runs", 3, "runs, of which the best counts")
	only  = flag.String("cases", "", "cases, with commas between them (all)")
	bin   = flag.String("bin", "bin", "directory of tare-union")
)

func main() {
	flag.Parse()
	if os.Getenv("TARE_BENCH_MOUNTS") == "" {
		apart()
		return
	}
	if err := bench(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// apart runs the program again where its mounts are its own.
func apart() {
	cmd := exec.Command("unshare", append([]string{"--mount", "--propagation", "private", "/proc/self/exe"}, os.Args[1:]...)...)
	self, err := os.Executable()
	if err == nil {
		cmd.Args[4] = self
	}
	cmd.Env = append(os.Environ(), "TARE_BENCH_MOUNTS=own")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if cmd.Run() != nil {
		os.Exit(1)
	}
}

func bench() error {
	*bin, _ = filepath.Abs(*bin)
	dir, err := os.MkdirTemp("", "tare-union-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := sh("", "mount -t tmpfs -o size=8g tmpfs %[1]s && truncate -s 6g %[1]s/image && mkfs.ext4 -q %[1]s/image && mkdir %[1]s/fs && mount -o loop %[1]s/image %[1]s/fs", dir); err != nil {
		return err
	}
	defer sh("", "umount %[1]s/fs; umount %[1]s", dir)
	b := &board{dir: dir + "/fs", best: map[string]map[string]time.Duration{}}
	if err := b.makeTree(); err != nil {
		return err
	}
	for range *runs {
		for _, s := range systems {
			if err := b.run(s); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	b.print()
	return nil
}

func sh(dir, format string, args ...any) error {
	cmd := exec.Command("sh", "-c", fmt.Sprintf(format, args...))
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", fmt.Sprintf(format, args...), err, out)
	}
	return nil
}

// system is a way to have a tree on top of another. Mount gets the directory with
// up, work, low1, low2 and mnt.
type system struct {
	name  string
	mount string
}

var systems = []system{
	{"ext4", ""},
	{"overlayfs", "mount -t overlay o -o lowerdir=%[1]s/low1:%[1]s/low2,upperdir=%[1]s/up,workdir=%[1]s/work %[1]s/mnt"},
	{"tare-union", "%[2]s/tare-union mount -o br:%[1]s/up=rw:%[1]s/low1=ro:%[1]s/low2=ro,udba=none %[1]s/mnt"},
	{"fuse-overlayfs", "fuse-overlayfs -o lowerdir=%[1]s/low1:%[1]s/low2,upperdir=%[1]s/up,workdir=%[1]s/work %[1]s/mnt"},
	{"unionfs-fuse", "unionfs -o cow,allow_other %[1]s/up=RW:%[1]s/low1=RO:%[1]s/low2=RO %[1]s/mnt"},
}

// board has the results.
type board struct {
	dir   string
	names []string
	cases []string
	best  map[string]map[string]time.Duration
}

// makeTree makes the lower branches, and an archive of them.
func (b *board) makeTree() error {
	r := rand.New(rand.NewPCG(1, 1))
	for i := range *files {
		name := fmt.Sprintf("d%d/s%d/f%d", i%40, i/40%5, i)
		at := filepath.Join(b.dir, "low2/t", name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		data := make([]byte, r.IntN(20000))
		if err := os.WriteFile(at, data, 0o644); err != nil {
			return err
		}
		b.names = append(b.names, name)
	}
	return sh(b.dir, "mkdir -p low1/t/d3 && echo x >low1/t/d3/extra && tar cf tree.tar -C low2/t . && sync")
}

// mounted calls f with a fresh tree of the system.
func (b *board) mounted(s system, f func(mnt string) error) error {
	mnt := b.dir + "/mnt"
	if err := sh(b.dir, "rm -rf up work mnt && mkdir up work mnt && sync && echo 2 >/proc/sys/vm/drop_caches"); err != nil {
		return err
	}
	if s.mount == "" {
		if err := sh(b.dir, "cp -a low2/. mnt && sync"); err != nil {
			return err
		}
		return f(mnt)
	}
	if err := sh(b.dir, s.mount, b.dir, *bin); err != nil {
		return err
	}
	defer sh(b.dir, "umount mnt || umount -l mnt")
	return f(mnt)
}

// time measures a case.
func (b *board) time(s system, name string, f func() error) error {
	if *only != "" && !slices.Contains(strings.Split(*only, ","), name) {
		return nil
	}
	start := time.Now()
	if err := f(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	took := time.Since(start)
	if b.best[name] == nil {
		b.best[name] = map[string]time.Duration{}
		b.cases = append(b.cases, name)
	}
	if old, ok := b.best[name][s.name]; !ok || took < old {
		b.best[name][s.name] = took
	}
	return nil
}

type step struct {
	name string
	do   func(mnt string) error
}

func (b *board) run(s system) error {
	groups := [][]step{
		{
			{"untar", func(m string) error { return sh(m, "mkdir w && tar xf %s/tree.tar -C w", b.dir) }},
			{"rm -r of it", func(m string) error { return sh(m, "rm -r w") }},
			{"write 512 MB", func(m string) error { return sh(m, "dd if=/dev/zero of=big bs=1M count=512 2>/dev/null") }},
			{"read 512 MB", func(m string) error { return sh(m, "dd if=big of=/dev/null bs=1M 2>/dev/null") }},
			{"read 100,000 x 4k at random", readRandom},
		},
		{
			{"find, first", func(m string) error { return sh(m, `find t -printf "%%s %%p\n" >/dev/null`) }},
			{"find again", func(m string) error { return sh(m, `find t -printf "%%s %%p\n" >/dev/null`) }},
			{"read all", b.each(func(p string) error { _, err := os.ReadFile(p); return err })},
			{"stat all 5 times", func(m string) error { return b.five(m) }},
			{"names not there", b.each(func(p string) error {
				if _, err := os.Lstat(p + "~"); !os.IsNotExist(err) {
					return fs.ErrExist
				}
				return nil
			})},
		},
		{{"append to all", b.each(appendTo)}},
		{{"chmod all", b.each(func(p string) error { return os.Chmod(p, 0o600) })}},
		{{"rm -r of what is below", func(m string) error { return sh(m, "rm -r t") }}},
	}
	for _, g := range groups {
		err := b.mounted(s, func(mnt string) error {
			for _, st := range g {
				if err := b.time(s, st.name, func() error { return st.do(mnt) }); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *board) each(f func(p string) error) func(string) error {
	return func(mnt string) error {
		for _, n := range b.names {
			if err := f(mnt + "/t/" + n); err != nil {
				return err
			}
		}
		return nil
	}
}

func (b *board) five(mnt string) error {
	for range 5 {
		if err := b.each(func(p string) error { _, err := os.Lstat(p); return err })(mnt); err != nil {
			return err
		}
	}
	return nil
}

func appendTo(p string) error {
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("x")
	f.Close()
	return err
}

func readRandom(mnt string) error {
	f, err := os.Open(mnt + "/big")
	if err != nil {
		return err
	}
	defer f.Close()
	r := rand.New(rand.NewPCG(2, 2))
	buf := make([]byte, 4096)
	for range 100_000 {
		if _, err := syscall.Pread(int(f.Fd()), buf, r.Int64N(512<<8)*4096); err != nil {
			return err
		}
	}
	return nil
}

func (b *board) print() {
	head, line := "| case |", "|---|"
	for _, s := range systems {
		head, line = head+" "+s.name+" |", line+"---|"
	}
	fmt.Println(head)
	fmt.Println(line)
	for _, c := range b.cases {
		row := "| " + c + " |"
		limit := b.best[c]["overlayfs"].Seconds()
		for _, s := range systems {
			took := b.best[c][s.name].Seconds()
			row += fmt.Sprintf(" %.3f (%.1f) |", took, took/limit)
		}
		fmt.Println(row)
	}
}
