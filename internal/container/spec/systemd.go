package spec

import (
	"os"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// systemd as a container's first process, as Podman's --systemd has it: without
// privilege, with what it cannot go without.
//
//	/run /run/lock /tmp /var/log/journal    tmpfs, unless the user mounts something there
//	/sys/fs/cgroup                          its own groups may be changed: all on version 2,
//	                                        name=systemd on version 1
//	container=tare, container_uuid=ID       by which it knows where it is
//	StopSignal SIGRTMIN+3                   unless the image or the user names one

// systemdSignal asks systemd to halt; SIGTERM means something else to it.
const systemdSignal = "SIGRTMIN+3"

// systemdCommands are what "auto" takes for systemd, as Podman does.
var systemdCommands = []string{"systemd", "/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init"}

// IsSystemd reports whether the container's first process is systemd.
func IsSystemd(c *container.Config, h *container.HostConfig) bool {
	switch OwnOf(h).Systemd {
	case "always":
		return true
	case "auto":
		command := append(slices.Clone([]string(c.Entrypoint)), c.Cmd...)
		return len(command) > 0 && (slices.Contains(systemdCommands, command[0]) || strings.HasSuffix(command[0], "/systemd"))
	}
	return false
}

// SetSystemd gives a container whose command is known the stop signal of systemd.
func SetSystemd(c *container.Config, h *container.HostConfig) {
	if c.StopSignal == "" && IsSystemd(c, h) {
		c.StopSignal = systemdSignal
	}
}

func validateSystemd(h *container.HostConfig, mode string) error {
	switch {
	case mode == "" || mode == "false":
		return nil
	case h.CgroupnsMode.IsHost():
		return invalid("tare.systemd=%s: systemd needs a cgroup namespace of its own, which --cgroupns host takes away", mode)
	case h.Init != nil && *h.Init && mode == "always":
		return invalid("tare.systemd=always and --init: only one of them can be the first process")
	}
	return nil
}

// systemdEnv tells systemd, and its units' conditions, that this is a container.
func (b *specBuilder) systemdEnv() []string {
	if !b.systemd {
		return nil
	}
	env := []string{"container=tare"}
	if len(b.in.ID) >= 32 {
		env = append(env, "container_uuid="+b.in.ID[:32])
	}
	return env
}

// systemdMounts are the file systems that systemd expects, but for those that
// the user has replaced.
func (b *specBuilder) systemdMounts(users map[string]bool) []specs.Mount {
	if !b.systemd {
		return nil
	}
	var list []specs.Mount
	for _, m := range []struct{ target, mode string }{{"/run", "755"}, {"/run/lock", "1777"}, {"/tmp", "1777"}, {"/var/log/journal", "755"}} {
		if !users[m.target] {
			list = append(list, specs.Mount{Destination: m.target, Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "mode=" + m.mode}})
		}
	}
	if named := namedHierarchy + "/" + b.in.CgroupPath; !users[namedHierarchy] && isDir(namedHierarchy) && !b.writesCgroups() {
		list = append(list, bindMount(named, namedHierarchy, "nosuid", "noexec", "nodev"))
	}
	return list
}

// namedHierarchy is where systemd's own hierarchy of version 1 is, without any
// controller.
const namedHierarchy = "/sys/fs/cgroup/systemd"

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}
