package apparmor

import (
	"fmt"
	"strings"
)

// DefaultName is the name of the default profile in the kernel.
const DefaultName = "tare-default"

// profile is the default profile's text; apparmor.d(5). It is a second wall:
// files, capabilities and the network are allowed as such, since namespaces,
// the root and the capabilities at hand bound them. What it takes away is what
// would reach the host if one of these had a hole: writing to the kernel's
// settings, mounting, tracing and signalling whoever is not under the profile
// too. Denials are silent: programs try these things all day.
//
// Engine is the profile that the engine and the keeper are under; they must be
// able to signal containers. UserNS is for parsers from 4.0 on, where user
// namespaces are denied unless allowed; seccomp decides about them.
func profile(engine string, userNS bool) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "  "+format+",\n", args...) }
	// Roots of containers are mounts that the host cannot see: their files have
	// no path from there.
	fmt.Fprintf(&b, "profile %s flags=(attach_disconnected, mediate_deleted) {\n", DefaultName)
	for _, all := range []string{"capability", "file", "network", "umount"} {
		line("%s", all)
	}
	if userNS {
		line("userns")
	}
	line("signal (send, receive) peer=%s", DefaultName)
	line("ptrace (trace, tracedby, read, readby) peer=%s", DefaultName)
	peers := []string{"unconfined"}
	if engine != "unconfined" {
		peers = append(peers, engine)
	}
	for _, peer := range peers {
		line("signal (receive) peer=%q", peer)
		line("ptrace (readby) peer=%q", peer)
	}
	line("deny mount")
	for _, pattern := range allBut("/proc/", "sys/kernel/shm") {
		line("deny %s wkl", pattern)
	}
	for _, pattern := range allBut("/sys/", "fs/cgroup/") {
		line("deny %s wkl", pattern)
	}
	for _, secret := range []string{
		"/proc/kcore", "/proc/sysrq-trigger", "/sys/firmware/**", "/sys/kernel/security/**", "/sys/devices/virtual/powercap/**",
	} {
		line("deny %s rwklx", secret)
	}
	b.WriteString("}\n")
	return b.String()
}

// allBut returns patterns that together match every path below dir but those
// that begin with keep, and in /proc the directories of processes. AppArmor
// has no exception to a denial, only this: one pattern for each first letter
// that differs.
func allBut(dir, keep string) []string {
	var out []string
	for i := range keep {
		c := string(keep[i])
		if i == 0 && dir == "/proc/" {
			c = "0-9" + c
		}
		out = append(out, fmt.Sprintf("%s%s[^%s]**", dir, keep[:i], c))
	}
	return out
}
