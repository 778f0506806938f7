package main

import (
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

func atoi(s string) int { n, _ := strconv.Atoi(s); return n }
func itoa(n int) string { return strconv.Itoa(n) }

// contain runs all checks of a container that asked for nothing special.
func contain(args []string) {
	fl := flag.NewFlagSet("contain", flag.ExitOnError)
	tty := fl.Bool("tty", false, "")
	netHost := fl.Bool("nethost", false, "")
	exec := fl.Bool("exec", false, "the process is an exec")
	uid := fl.Int("uid", 0, "")
	fl.Parse(args)
	checkDescriptors()
	checkStatus(*uid, *exec)
	checkEnvironment(*tty)
	checkNamespaces(fl.Args(), *netHost)
	checkOthers(*exec)
	checkTerminal(*tty)
	checkSyscalls()
	checkMasks()
	checkKernelFiles()
	checkDev(*tty)
	checkDevices()
	checkCgroups()
	checkMounts()
	checkSockets()
	checkEscape() // last: it changes the root
}

// checkDescriptors: 0, 1 and 2, and no other.
func checkDescriptors() {
	for n := range 1024 {
		to, err := os.Readlink("/proc/self/fd/" + itoa(n))
		if err != nil || n <= 2 || isGos(to) {
			continue
		}
		hole("descriptors", "%d is %s", n, to)
	}
}

// isGos reports whether Go's runtime has opened it: its poller, the limits
// that set GOMAXPROCS, the size of a huge page.
func isGos(link string) bool {
	return strings.HasPrefix(link, "anon_inode:[event") || strings.HasPrefix(link, "/sys/fs/cgroup/") && strings.Contains(link, "/cpu.") || strings.HasPrefix(link, "/sys/kernel/mm/")
}

func status(pid string) map[string]string {
	b, _ := os.ReadFile("/proc/" + pid + "/status")
	m := map[string]string{}
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), ":")
		m[k] = strings.TrimSpace(v)
	}
	return m
}

const dockerCaps = "00000000a80425fb"

func checkStatus(uid int, exec bool) {
	want := map[string]string{
		"CapInh": "0000000000000000", "CapAmb": "0000000000000000", "CapBnd": dockerCaps, "CapEff": dockerCaps, "CapPrm": dockerCaps,
		"Seccomp": "2",
	}
	if uid != 0 {
		want["CapEff"], want["CapPrm"] = want["CapInh"], want["CapInh"]
	}
	s := status("self")
	for k, v := range want {
		if s[k] != v {
			hole("status", "%s is %s, not %s", k, s[k], v)
		}
	}
	// SIGURG is this program's own: Go's runtime sends it to its threads.
	if pending, err := strconv.ParseUint(s["SigPnd"], 16, 64); err != nil || pending&^(1<<(syscall.SIGURG-1)) != 0 {
		hole("status", "pending signals %s", s["SigPnd"])
	}
	if s["Groups"] == "" && uid == 0 {
		hole("status", "root has dropped its groups")
	}
	if b, _ := os.ReadFile("/proc/self/oom_score_adj"); strings.TrimSpace(string(b)) != "0" {
		hole("status", "oom_score_adj is %s", b)
	}
	if os.WriteFile("/proc/self/oom_score_adj", []byte("-900"), 0) == nil {
		hole("status", "can lower oom_score_adj")
	}
	if !exec && os.Getpid() != 1 {
		hole("status", "pid is %d", os.Getpid())
	}
	if p, _, _ := syscall.RawSyscall(syscall.SYS_PERSONALITY, 0xffffffff, 0, 0); p != 0 {
		hole("status", "personality %x", p)
	}
	if m := syscall.Umask(0); m != 022 {
		hole("status", "umask %o", m)
	}
}

func checkEnvironment(tty bool) {
	allowed := map[string]bool{"PATH": true, "HOSTNAME": true, "HOME": true, "TERM": tty}
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); !allowed[name] {
			hole("environment", "%s", e)
		}
	}
}

// checkNamespaces compares with the host's, given as "pid:[4026531836]".
func checkNamespaces(hosts []string, netHost bool) {
	for _, h := range hosts {
		kind, _, _ := strings.Cut(h, ":")
		if kind == "user" || kind == "time" || kind == "net" && netHost {
			continue
		}
		ours, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil || ours == h {
			hole("namespaces", "%s is the host's (%v)", ours, err)
		}
	}
}

// checkOthers: only the container's own processes are there.
func checkOthers(exec bool) {
	list, _ := filepath.Glob("/proc/[0-9]*")
	if len(list) > 1 && !exec || len(list) > 2 {
		hole("processes", "%d are visible", len(list))
	}
	for _, p := range list {
		exe, err := os.Readlink(p + "/exe")
		if err == nil && strings.Contains(exe, "tare-keeper") {
			hole("processes", "%s runs %s", p, exe)
		}
	}
}

const (
	tiocsti   = 0x5412
	tiocsctty = 0x540e
	tiocgptn  = 0x80045430
)

func ioctl(fd, req, arg uintptr) syscall.Errno {
	_, _, e := syscall.RawSyscall(syscall.SYS_IOCTL, fd, req, arg)
	return e
}

// checkTerminal: the container's terminal, if it has one, is of its own devpts.
func checkTerminal(tty bool) {
	to, _ := os.Readlink("/proc/self/fd/0")
	if tty {
		var st, own syscall.Stat_t
		if to != "/dev/pts/0" || syscall.Fstat(0, &st) != nil || syscall.Stat("/dev/pts/0", &own) != nil || st.Dev != own.Dev || st.Ino != own.Ino {
			hole("terminal", "is %s", to)
		}
		return
	}
	if f, err := os.Open("/dev/tty"); err == nil {
		f.Close()
		hole("terminal", "there is one")
	}
	b := byte('x')
	if ioctl(0, tiocsti, uintptr(unsafe.Pointer(&b))) == 0 {
		hole("terminal", "input can be pushed")
	}
}

// checkSockets: nothing of ours listens on an abstract address.
func checkSockets() {
	b, _ := os.ReadFile("/proc/net/unix")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 7 && strings.HasPrefix(f[7], "@") {
			hole("sockets", "abstract %s", f[7])
		}
	}
}
