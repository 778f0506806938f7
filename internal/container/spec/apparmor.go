package spec

import "github.com/moby/moby/api/types/container"

// unconfined is the profile that confines nothing.
const unconfined = "unconfined"

// AppArmorProfile is the profile of a container's processes, of execs too: the
// one that --security-opt names, else the engine's default (empty: the engine
// has none), without which privileged containers do.
func AppArmorProfile(h *container.HostConfig, engineDefault string) string {
	o, err := parseSecurityOpts(h.SecurityOpt)
	switch {
	case err == nil && o.appArmor != "":
		return o.appArmor
	case engineDefault != "" && h.Privileged:
		return unconfined
	}
	return engineDefault
}

// appArmorOf is the same as the runtime wants it: a process without a profile
// keeps the engine's, which is none.
func appArmorOf(h *container.HostConfig, engineDefault string) string {
	if p := AppArmorProfile(h, engineDefault); p != unconfined {
		return p
	}
	return ""
}
