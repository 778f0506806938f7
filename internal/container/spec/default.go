package spec

import (
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Defaults of a HostConfig.
const (
	defaultShmSize = 64 << 20

	// defaultPidsLimit bounds a container's tasks. Docker has no bound; a fork
	// bomb then takes the host. --pids-limit -1 lifts it.
	defaultPidsLimit = 4096

	defaultSwappiness = -1 // the parent's
)

// applyDefaults fills in what a create request leaves out, as inspect shows it.
func applyDefaults(h *container.HostConfig) {
	setDefault(&h.NetworkMode, "default")
	setDefault(&h.IpcMode, container.IPCModePrivate)
	setDefault(&h.CgroupnsMode, container.CgroupnsModePrivate)
	if h.Privileged && h.IpcMode == "" {
		h.IpcMode = container.IPCModePrivate
	}
	setDefault(&h.LogConfig.Type, "json-file")
	setDefault(&h.RestartPolicy.Name, container.RestartPolicyDisabled)
	setDefault(&h.ShmSize, defaultShmSize)
	if h.PidsLimit == nil {
		limit := int64(defaultPidsLimit)
		h.PidsLimit = &limit
	}
	if h.Memory > 0 && h.MemorySwap == 0 {
		h.MemorySwap = 2 * h.Memory // as much swap as memory
	}
	if h.MemorySwappiness != nil && *h.MemorySwappiness == defaultSwappiness {
		h.MemorySwappiness = nil
	}
	if h.OomKillDisable != nil && !*h.OomKillDisable {
		h.OomKillDisable = nil
	}
	if h.Privileged {
		h.MaskedPaths, h.ReadonlyPaths = nil, nil
		return
	}
	if h.MaskedPaths == nil {
		h.MaskedPaths = defaultMaskedPaths()
	}
	if h.ReadonlyPaths == nil {
		h.ReadonlyPaths = defaultReadonlyPaths()
	}
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// defaultCapabilities are what Docker gives a container's root.
func defaultCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
		"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
}

// thermal are the counters that tell a container about its neighbours' load
// (GHSA-6fw5), one directory a processor.
var thermal = sync.OnceValue(func() []string {
	paths, _ := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle") // the pattern is good
	return paths
})

// defaultMaskedPaths are Docker's, and what else of procfs and sysfs speaks
// about the host or its kernel only.
func defaultMaskedPaths() []string {
	return append([]string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware",

		"/proc/kallsyms", "/proc/kmsg", "/proc/kpagecgroup", "/proc/kpagecount", "/proc/kpageflags", "/proc/vmcore",
		"/sys/fs/bpf", "/sys/fs/pstore", "/sys/kernel/boot_params", "/sys/kernel/debug", "/sys/kernel/security",
		"/sys/kernel/tracing",
	}, thermal()...)
}

func defaultReadonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// defaultMounts are the file systems of a container that asks for nothing.
// With --ipc none there is no /dev/shm and no /dev/mqueue.
func defaultMounts(shmSize string, withIPC bool) []specs.Mount {
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
	}
	if !withIPC {
		return mounts
	}
	return append(mounts,
		specs.Mount{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + shmSize}})
}

func contains(list []string, s string) bool { return slices.Contains(list, s) }

// unique removes later repetitions.
func unique(list []string) []string {
	out := make([]string, 0, len(list))
	for _, s := range list {
		if !contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// isBelow reports whether the clean path p is dir or below it.
func isBelow(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// Confine adds to a container's configuration that others have made what containers
// get that do not say otherwise: the paths that they do not see, and the bound of their
// tasks.
func Confine(s *specs.Spec) {
	for _, path := range defaultMaskedPaths() {
		if !slices.Contains(s.Linux.MaskedPaths, path) {
			s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, path)
		}
	}
	if s.Linux.Resources == nil {
		s.Linux.Resources = &specs.LinuxResources{}
	}
	limit := int64(defaultPidsLimit)
	s.Linux.Resources.Pids = &specs.LinuxPids{Limit: &limit}
}
