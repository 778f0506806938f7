//go:build root

package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A race: another container, or a process of the host, exchanges two names all
// the time while containers are started.
type race struct {
	// names are exchanged. The first is what a start expects, a directory or,
	// if its name has an extension, a file; the second is a link out of the root.
	names [2]string
	// link is where that leads, below the directory outside.
	link string
	// ask is what the container wants of the first name.
	ask func(*specs.Spec)
}

func bindOf(source, at string) specs.Mount {
	return specs.Mount{Destination: at, Source: source, Type: "bind", Options: []string{"rbind", "rprivate"}}
}

// races: names beginning with vol are in a volume of the container, at /vol.
func races(dir string) map[string]race {
	vol := [2]string{"vol/a", "vol/c"}
	file := [2]string{"vol/a.txt", "vol/c.txt"}
	mounted := func(m specs.Mount) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Mounts = append(s.Mounts, m) }
	}
	return map[string]race{
		// CVE-2021-30465
		"mount point": {vol, "", mounted(specs.Mount{Destination: "/vol/a", Type: "tmpfs", Source: "tmpfs"})},
		"below it":    {vol, "", mounted(specs.Mount{Destination: "/vol/a/b", Type: "tmpfs", Source: "tmpfs"})},
		"bind":        {vol, "", mounted(bindOf(dir+"/source", "/vol/a/b"))},
		"file":        {file, "canary.txt", mounted(bindOf(dir+"/source.txt", "/vol/a.txt"))},
		// CVE-2024-45310
		"new directories": {vol, "", mounted(bindOf(dir+"/source", "/vol/a/new/deep/dir"))},
		"new file":        {vol, "", mounted(bindOf(dir+"/source.txt", "/vol/a/new/file"))},
		"new link":        {file, "new.txt", mounted(bindOf(dir+"/source.txt", "/vol/a.txt"))},
		// CVE-2025-31133, CVE-2025-52881
		"mask":      {vol, "", func(s *specs.Spec) { s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/vol/a", "/vol/a/b") }},
		"mask file": {file, "canary.txt", func(s *specs.Spec) { s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/vol/a.txt") }},
		"read-only": {vol, "", func(s *specs.Spec) { s.Linux.ReadonlyPaths = append(s.Linux.ReadonlyPaths, "/vol/a", "/vol/a/b") }},
		"null": {[2]string{"vol/null.txt", "vol/c.txt"}, "canary.txt", func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, bindOf(dir+"/vol/null.txt", "/dev/null"))
		}},
		// CVE-2026-55686
		"working directory": {vol, "", func(s *specs.Spec) { s.Process.Cwd = "/vol/a/new/cwd" }},
		// CVE-2026-41579
		"device": {vol, "", func(s *specs.Spec) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/vol/a/null", Type: "c", Major: 1, Minor: 3}}
		}},
		// CVE-2019-19921 and its kind: the root itself is another's.
		"proc": {[2]string{"root/proc", "root/c"}, "", func(s *specs.Spec) {
			s.Linux.Sysctl = map[string]string{"kernel.shmmax": "12345"}
		}},
		"dev":  {[2]string{"root/dev", "root/c"}, "", func(*specs.Spec) {}},
		"sys":  {[2]string{"root/sys", "root/c"}, "", func(*specs.Spec) {}},
		"root": {[2]string{"root/etc", "root/c"}, "", mounted(bindOf(dir+"/source.txt", "/etc/resolv.conf"))},
	}
}

// raceRounds is how many starts each race has; make soak asks for 1,000.
func raceRounds() int {
	if n, err := strconv.Atoi(os.Getenv("TARE_SOAK_RACES")); err == nil {
		return n
	}
	return 24
}

// TestRaces: whatever is swapped while a start looks, nothing outside of the
// root is made, changed or mounted on, and nothing is left on the host.
func TestRaces(t *testing.T) {
	for name := range races("") {
		t.Run(name, func(t *testing.T) { newLab(t).race(name, raceRounds()) })
	}
}

func (l *lab) race(name string, rounds int) {
	t := l.t
	dir := raceDir(t)
	r := races(dir)[name]
	first, second := dir+"/"+r.names[0], dir+"/"+r.names[1]
	if strings.HasSuffix(first, ".txt") {
		write(t, first, "x")
	} else if err := os.MkdirAll(first+"/b", 0755); err != nil {
		t.Fatal(err)
	}
	// Absolute: ".." would end at a mount that is nowhere yet, whoever resolves it.
	if err := os.Symlink(filepath.Join(dir, "outside", r.link), second); err != nil {
		t.Fatal(err)
	}
	before, mounts := outside(t, dir), grepCount(t)
	swaps, stop := exchange(first, second)
	defer stop()
	through := 0
	defer func() {
		fmt.Printf("SOAK | starts while names are swapped: %s (%d went through) | %d | %d | |\n", name, through, rounds, bad(t))
	}()
	for range rounds {
		s := sh(t, "true")
		if strings.HasPrefix(r.names[0], "vol/") {
			s.Mounts = append(s.Mounts, bindOf(dir+"/vol", "/vol"))
		}
		r.ask(s)
		if l.run(dir+"/root", s).err == nil {
			through++
		}
	}
	stop()
	if after := outside(t, dir); after != before {
		t.Errorf("outside was\n%s, is\n%s", before, after)
	}
	if n := grepCount(t); n != mounts {
		t.Errorf("%d mounts before, %d after", mounts, n)
	}
	if n := swaps.Load(); n < int64(rounds) {
		t.Errorf("only %d swaps", n)
	}
}

// bad is the number of a row's bad rounds: what a race has done to the outside is
// seen at its end, so one at least.
func bad(t testing.TB) int {
	if t.Failed() {
		return 1
	}
	return 0
}

// raceDir has a root, a volume, what may be bound, and a directory outside.
func raceDir(t testing.TB) string {
	dir := t.TempDir()
	if err := os.Rename(rootDir(t), dir+"/root"); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"/vol", "/source", "/outside/b"} {
		if err := os.MkdirAll(dir+d, 0755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir+"/source.txt", "source")
	write(t, dir+"/outside/canary.txt", "alive")
	return dir
}

func write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0644); err != nil {
		t.Fatal(err)
	}
}

// outside tells all of the directory that nobody may touch, and of the kernel's
// settings that such a start could reach.
func outside(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir+"/outside", func(p string, st os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		text := []byte{}
		if st.Mode().IsRegular() {
			text, err = os.ReadFile(p)
		}
		fmt.Fprintln(&b, strings.TrimPrefix(p, dir), st.Mode(), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"core_pattern", "shmmax", "hostname"} {
		text, err := os.ReadFile("/proc/sys/kernel/" + name)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(text)
	}
	return b.String()
}

// exchange swaps two names until it is stopped.
func exchange(a, b string) (swaps *atomic.Int64, stop func()) {
	swaps = &atomic.Int64{}
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-over:
				return
			default:
				if unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE) == nil {
					swaps.Add(1)
				}
			}
		}
	}()
	return swaps, sync.OnceFunc(func() { close(over); <-done })
}
