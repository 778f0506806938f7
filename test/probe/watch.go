package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// watch looks at every other process as fast as it can, as the enemy of an
// exec would: at its capabilities, descriptors, root, memory map, program. What
// it may see is what any process of this container has.
func watch() {
	var done atomic.Bool
	go func() { io.Copy(io.Discard, os.Stdin); done.Store(true) }()
	w := watcher{self: strconv.Itoa(os.Getpid()), seen: map[string]bool{}}
	w.caps, _ = strconv.ParseUint(status("self")["CapBnd"], 16, 64)
	syscall.Stat("/", &w.root)
	if len(os.Args) < 3 { // else others have mounts of their own
		w.mnt, _ = os.Readlink("/proc/self/ns/mnt")
	}
	fmt.Println("watching")
	dir, _ := os.Open("/proc")
	for !done.Load() {
		dir.Seek(0, 0)
		names, _ := dir.Readdirnames(-1)
		for _, n := range names {
			if n[0] >= '0' && n[0] <= '9' && n != w.self {
				w.look(n)
			}
		}
	}
	fmt.Printf("watched %d processes, %d before their exec\n", w.processes, w.early)
}

type watcher struct {
	self, mnt        string
	caps             uint64
	root             syscall.Stat_t
	seen             map[string]bool
	processes, early int
}

func (w *watcher) hole(name, format string, args ...any) {
	if key := name + format; !w.seen[key] {
		w.seen[key] = true
		hole(name, format, args...)
	}
}

func (w *watcher) look(pid string) {
	dir := "/proc/" + pid + "/"
	if !w.seen[pid] {
		w.seen[pid] = true
		w.processes++
	}
	exe, _ := os.Readlink(dir + "exe")
	if strings.Contains(exe, "tare-keeper") || strings.Contains(exe, "tare-runtime") {
		w.early++
		w.tryProgram(pid, dir, exe)
	}
	s := status(pid)
	for _, k := range []string{"CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"} {
		if v, err := strconv.ParseUint(s[k], 16, 64); err == nil && v&^w.caps != 0 {
			w.hole("watch", "process %s (%s) has more capabilities, %s %s", pid, exe, k, s[k])
		}
	}
	w.links(pid, dir)
	var st syscall.Stat_t
	if syscall.Stat(dir+"root/", &st) == nil && (st.Dev != w.root.Dev || st.Ino != w.root.Ino) {
		w.hole("watch", "the root of process %s is another", pid)
	}
	if m, err := os.Readlink(dir + "ns/mnt"); err == nil && w.mnt != "" && m != w.mnt {
		w.hole("watch", "process %s is in another mount namespace", pid)
	}
	if b, err := os.ReadFile(dir + "maps"); err == nil {
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 5 && strings.HasSuffix(f[1], "s") {
				w.hole("watch", "process %s maps shared memory: %s", pid, line)
			}
		}
	}
}

// links looks at what a process has open.
func (w *watcher) links(pid, dir string) {
	d, err := os.Open(dir + "fd")
	if err != nil {
		return
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, n := range names {
		to, err := os.Readlink(dir + "fd/" + n)
		if err != nil || to == "/dev/null" || strings.HasPrefix(to, "pipe:") || isGos(to) {
			continue
		}
		if strings.HasSuffix(to, "/stdout") || strings.HasSuffix(to, "/stderr") || strings.HasSuffix(to, "/stdin") {
			continue // its own streams
		}
		if strings.HasPrefix(to, "/proc/") || to == "/proc" {
			continue // of the probe's own
		}
		w.hole("watch", "process %s has open %s: %s", pid, n, to)
	}
}

// tryProgram tries to change the engine's program through a process that has
// not executed the user's yet.
func (w *watcher) tryProgram(pid, dir, exe string) {
	if f, err := os.OpenFile(dir+"exe", os.O_RDWR, 0); err == nil {
		if _, err := f.WriteAt([]byte{0}, 0); err == nil {
			w.hole("watch", "wrote into %s of process %s", exe, pid)
		}
		f.Close()
	}
}

// overwrite tries to write to the program of process 1, the engine's own if
// that runs /proc/self/exe.
func overwrite(n int) {
	opened := 0
	for range n {
		f, err := os.OpenFile("/proc/1/exe", os.O_WRONLY, 0)
		if err != nil {
			continue
		}
		opened++
		if _, err := f.Write([]byte("#!/bin/sh\n")); err == nil {
			hole("overwrite", "/proc/1/exe was written")
		}
		if syscall.Ftruncate(int(f.Fd()), 0) == nil {
			hole("overwrite", "/proc/1/exe was truncated")
		}
		f.Close()
	}
	fmt.Printf("opened %d of %d times\n", opened, n)
}
