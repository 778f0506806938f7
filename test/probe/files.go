package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// masked are files and directories that must be missing or empty.
var masked = []string{
	"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
	"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
	"/proc/kallsyms", "/proc/kmsg", "/proc/kpagecgroup", "/proc/kpagecount", "/proc/kpageflags", "/proc/vmcore",
	"/sys/fs/bpf", "/sys/fs/pstore", "/sys/kernel/boot_params", "/sys/kernel/debug", "/sys/kernel/security", "/sys/kernel/tracing",
}

func checkMasks() {
	list := slices.Clone(masked)
	thermal, _ := filepath.Glob("/sys/devices/system/cpu/cpu*/thermal_throttle")
	for _, p := range append(list, thermal...) {
		st, err := os.Stat(p)
		if err != nil {
			continue
		}
		if st.IsDir() {
			if e, _ := os.ReadDir(p); len(e) > 0 {
				hole("mask", "%s has %d entries", p, len(e))
			}
			if os.WriteFile(p+"/x", nil, 0600) == nil {
				hole("mask", "%s can be written to", p)
			}
		} else if b, _ := os.ReadFile(p); len(b) > 0 {
			hole("mask", "%s has content", p)
		}
	}
}

// ownWritable are files of procfs and sysfs that may be open for writing: what
// is written there is about the writer only (pressure), or needs a capability
// that is missing.
var ownWritable = map[string]bool{"/proc/mtrr": true, "/proc/pressure/cpu": true, "/proc/pressure/io": true, "/proc/pressure/memory": true}

// checkKernelFiles opens every file of /proc and /sys for writing.
func checkKernelFiles() {
	for _, top := range []string{"/proc", "/sys"} {
		filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return nil
			}
			if d.IsDir() {
				if top == "/proc" && strings.Trim(d.Name(), "0123456789") == "" {
					return filepath.SkipDir
				}
				if os.Mkdir(p+"/probe", 0700) == nil {
					hole("kernel files", "made a directory in %s", p)
					os.Remove(p + "/probe")
				}
				return nil
			}
			st, err := os.Stat(p)
			if err != nil || !st.Mode().IsRegular() || st.Mode()&0222 == 0 || ownWritable[p] {
				return nil
			}
			f, err := os.OpenFile(p, os.O_WRONLY|syscall.O_NONBLOCK, 0)
			if err == nil {
				f.Close()
				hole("kernel files", "%s opens for writing", p)
			}
			return nil
		})
	}
	for _, p := range []string{"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper"} {
		if os.Chmod(p, 0666) == nil {
			hole("kernel files", "%s: mode changed", p)
		}
		if os.WriteFile(p, []byte("x"), 0) == nil {
			hole("kernel files", "%s written", p)
		}
	}
}

// checkDev compares /dev with what the OCI specification and Docker put there.
func checkDev(tty bool) {
	want := []string{"fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"}
	e, err := os.ReadDir("/dev")
	if err != nil {
		hole("dev", "%v", err)
	}
	for _, d := range e {
		if n := d.Name(); !slices.Contains(want, n) && n != "core" && !(tty && n == "console") {
			hole("dev", "/dev/%s", n)
		}
	}
	pts, _ := os.ReadDir("/dev/pts")
	for _, d := range pts {
		if n := d.Name(); n != "ptmx" && !(tty && n == "0") {
			hole("dev", "/dev/pts/%s", n)
		}
	}
}

// checkDevices makes nodes for what must stay out of reach and opens them.
func checkDevices() {
	numbers := [][3]int{{'b', 8, 0}, {'b', 254, 0}, {'b', 253, 0}, {'b', 259, 0}, {'b', 7, 0}, {'b', 1, 0}, {'c', 1, 1}, {'c', 1, 2}, {'c', 1, 4}, {'c', 1, 11},
		{'c', 10, 229}, {'c', 10, 237}, {'c', 10, 232}, {'c', 10, 200}, {'c', 10, 183}, {'c', 5, 1}, {'c', 4, 0}, {'c', 4, 64}, {'c', 21, 0}, {'c', 29, 0}, {'c', 226, 0}}
	numbers = append(numbers, hostDisks()...)
	for _, n := range numbers {
		mode := uint32(syscall.S_IFCHR | 0600)
		if n[0] == 'b' {
			mode = syscall.S_IFBLK | 0600
		}
		for _, dir := range []string{"/tmp", "/dev", "/dev/shm"} {
			p := dir + "/probe-node"
			os.Remove(p)
			if syscall.Mknod(p, mode, n[1]<<8|n[2]) != nil {
				continue
			}
			for _, flags := range []int{os.O_RDONLY, os.O_WRONLY, os.O_RDWR} {
				f, err := os.OpenFile(p, flags|syscall.O_NONBLOCK, 0)
				if err == nil {
					f.Close()
					hole("devices", "%c %d:%d opens", n[0], n[1], n[2])
				}
			}
			os.Remove(p)
		}
	}
}

// hostDisks are all disks that sysfs names.
func hostDisks() [][3]int {
	var out [][3]int
	list, _ := filepath.Glob("/sys/class/block/*/dev")
	for _, p := range list {
		b, err := os.ReadFile(p)
		major, minor, ok := strings.Cut(strings.TrimSpace(string(b)), ":")
		if err == nil && ok {
			out = append(out, [3]int{'b', atoi(major), atoi(minor)})
		}
	}
	return out
}

// checkCgroups: the container sees its own group as the root, read-only.
func checkCgroups() {
	b, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(b)) {
		if f := strings.SplitN(strings.TrimSpace(line), ":", 3); len(f) == 3 && f[2] != "/" {
			hole("cgroup", "sees its path: %s", line)
		}
	}
	filepath.WalkDir("/sys/fs/cgroup", func(p string, d fs.DirEntry, err error) error {
		if err == nil && (d.Name() == "release_agent") {
			hole("cgroup", "%s is there", p)
		}
		return nil
	})
	for _, p := range []string{"devices/devices.allow", "memory/release_agent", "cgroup.procs", "pids/pids.max"} {
		if os.WriteFile("/sys/fs/cgroup/"+p, []byte("a"), 0) == nil {
			hole("cgroup", "%s written", p)
		}
	}
}

// checkEscape: the root is the top, whatever way is taken.
func checkEscape() {
	var root, got syscall.Stat_t
	if syscall.Stat("/", &root) != nil {
		return
	}
	same := func(name, p string) {
		if syscall.Stat(p, &got) == nil && (got.Dev != root.Dev || got.Ino != root.Ino) {
			hole("escape", "%s leads out of the root", name)
		}
	}
	same("..", "/..")
	same("many ..", "/../../../../../../..")
	same("/proc/1/root", "/proc/1/root")
	same("/proc/1/root/..", "/proc/1/root/..")
	for n := range 64 {
		p := "/proc/self/fd/" + itoa(n)
		if syscall.Stat(p, &got) == nil && got.Mode&syscall.S_IFMT == syscall.S_IFDIR {
			same(p, p+"/../../../../../../../..")
		}
	}
	// The old way out of a chroot, which pivot_root closes.
	dir, err := os.MkdirTemp("/tmp", "probe")
	if err != nil {
		return
	}
	defer os.Remove(dir)
	fd, err := syscall.Open("/", syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil || syscall.Chroot(dir) != nil {
		return
	}
	syscall.Fchdir(fd)
	for range 40 {
		syscall.Chdir("..")
	}
	if syscall.Chroot(".") == nil {
		same("chroot", "/")
	}
	syscall.Close(fd)
}

// checkMounts: nothing of the host's tree is left, and the engine's own mounts
// allow no set-user-ID programs and no devices.
func checkMounts() {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		hole("mounts", "%v", err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		point, options := f[4], ","+f[5]+","
		for _, o := range f[6:] {
			if strings.HasPrefix(o, "shared:") || strings.HasPrefix(o, "master:") {
				hole("mounts", "%s is %s", point, o)
			}
			if o == "-" {
				break
			}
		}
		if point == "/" || f[3] == "/null" {
			continue
		}
		want := []string{"nosuid", "nodev"}
		if point == "/dev" || point == "/dev/pts" || point == "/dev/console" {
			want = want[:1]
		}
		for _, o := range want {
			if !strings.Contains(options, ","+o+",") {
				hole("mounts", "%s without %s", point, o)
			}
		}
		if strings.HasPrefix(point, "/sys") && !strings.Contains(options, ",ro,") {
			hole("mounts", "%s is writable", point)
		}
	}
}
