// Command tare-hello is the program of the embedded image tare/hello. It
// prints what it sees of its isolation.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

func main() {
	if err := report(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "tare-hello:", err)
		os.Exit(1)
	}
}

// report writes one line per fact.
func report(out io.Writer) error {
	w := bufio.NewWriter(out)
	fmt.Fprintln(w, "Hello from a container of Tare. This is what it sees of its isolation:")
	status := fields("/proc/self/status")
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	for _, l := range [][2]string{
		{"PID", fmt.Sprintf("%d of %d processes", os.Getpid(), processes())},
		{"user", fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())},
		{"hostname", host},
		{"root", root()},
		{"addresses", addresses()},
		{"capabilities", capabilities(status["CapEff"])},
		{"seccomp", seccomp(status["Seccomp"])},
		{"no_new_privs", map[string]string{"0": "off", "1": "on"}[status["NoNewPrivs"]]},
		{"cgroup", cgroup()},
	} {
		fmt.Fprintf(w, "  %-13s %s\n", l[0], l[1])
	}
	return w.Flush()
}

// fields reads a file of lines "name: value".
func fields(path string) map[string]string {
	m := map[string]string{}
	b, _ := os.ReadFile(path)
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok {
			m[k] = strings.TrimSpace(v)
		}
	}
	return m
}

func processes() int {
	entries, _ := os.ReadDir("/proc")
	n := 0
	for _, e := range entries {
		if c := e.Name()[0]; c >= '0' && c <= '9' {
			n++
		}
	}
	return n
}

// root tells what is mounted on / and how much is in it.
func root() string {
	kind := "unknown"
	b, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 3 && f[1] == "/" {
			kind = f[2] + " " + strings.SplitN(f[3], ",", 2)[0]
		}
	}
	entries, _ := os.ReadDir("/")
	return fmt.Sprintf("%s, %d entries", kind, len(entries))
}

func addresses() string {
	links, err := net.Interfaces()
	if err != nil {
		return "none: " + err.Error()
	}
	var all []string
	for _, l := range links {
		addrs, _ := l.Addrs()
		for _, a := range addrs {
			all = append(all, l.Name+" "+a.String())
		}
	}
	if len(all) == 0 {
		return "none"
	}
	return strings.Join(all, ", ")
}

// capabilities names the bits of a mask, as linux/capability.h numbers them.
func capabilities(hex string) string {
	var mask uint64
	if _, err := fmt.Sscanf(hex, "%x", &mask); err != nil {
		return "unknown"
	}
	names := strings.Fields(`chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable
		net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace
		sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control
		setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore`)
	var have []string
	for i, n := range names {
		if mask&(1<<i) != 0 {
			have = append(have, n)
		}
	}
	switch len(have) {
	case 0:
		return "none"
	case len(names):
		return "all"
	}
	return fmt.Sprintf("%d of %d: %s", len(have), len(names), strings.Join(have, " "))
}

func seccomp(mode string) string {
	switch mode {
	case "0":
		return "off"
	case "1":
		return "strict"
	case "2":
		return "filter"
	}
	return "unknown"
}

// cgroup tells where the process is in the hierarchies that it can see.
func cgroup() string {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err.Error()
	}
	paths := map[string]bool{}
	var list []string
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) == 3 && !paths[f[2]] {
			paths[f[2]] = true
			list = append(list, f[2])
		}
	}
	return strings.Join(list, ", ")
}
