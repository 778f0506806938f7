package apparmor

import (
	"regexp"
	"strings"
	"testing"
)

func TestListed(t *testing.T) {
	const profiles = "tare-default-2 (enforce)\nmy profile (complain)\ntare-default (enforce)\n"
	for name, want := range map[string]bool{"tare-default": true, "my profile": true, "tare-def": false, "tare-default (enforce)": false, "": false} {
		if listed(profiles, name) != want {
			t.Errorf("%q", name)
		}
	}
}

// TestAllButIsExact plays the patterns of the profile against paths.
func TestAllButIsExact(t *testing.T) {
	denied := func(path string) bool {
		for _, p := range append(allBut("/proc/", "sys/kernel/shm"), allBut("/sys/", "fs/cgroup/")...) {
			if regexp.MustCompile("^" + strings.ReplaceAll(p, "**", ".*") + "$").MatchString(path) {
				return true
			}
		}
		return false
	}
	for path, want := range map[string]bool{
		"/proc/1/oom_score_adj": false, "/proc/77/task/77/attr/exec": false, "/proc/sys/kernel/shmmax": false, "/proc/sys/kernel/shm_rmid_forced": false,
		"/proc/sysrq-trigger": true, "/proc/sys/kernel/core_pattern": true, "/proc/sys/kernel/modprobe": true, "/proc/sys/vm/drop_caches": true,
		"/proc/sys/kernel/sysrq": true, "/proc/kcore": true, "/proc/bus/pci/00": true, "/proc/irq/1/smp_affinity": true, "/proc/scsi/scsi": true,
		"/sys/fs/cgroup/x/cgroup.procs": false, "/sys/kernel/uevent_helper": true, "/sys/firmware/x": true, "/sys/fs/bpf/x": true, "/sys/fs/cgrou": false,
		"/sys/module/x": true, "/sys/fs/f2fs/x": true, "/etc/passwd": false,
	} {
		if denied(path) != want {
			t.Errorf("%s: denied is %v", path, !want)
		}
	}
}

func TestProfileNamesTheEngine(t *testing.T) {
	p := profile("my engine", true)
	for _, want := range []string{"profile tare-default ", `signal (receive) peer="my engine",`, "userns,", "deny mount,"} {
		if !strings.Contains(p, want) {
			t.Errorf("%q is missing:\n%s", want, p)
		}
	}
	if p := profile("unconfined", false); strings.Contains(p, "userns") || strings.Count(p, `peer="unconfined"`) != 2 {
		t.Error(p)
	}
}
