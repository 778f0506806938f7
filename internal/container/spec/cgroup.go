package spec

import (
	"path"
	"strings"

	"github.com/moby/moby/api/types/container"
)

// maxParent bounds --cgroup-parent: with an ID and the name of a file behind it
// a path of the kernel's 4096 bytes must hold it.
const maxParent = 2048

// CgroupPath is the path of a container's control group, the same in all trees:
// below the engine's own parent or, as with Docker's cgroupfs driver, below
// --cgroup-parent, which counts from the root with or without a slash.
func CgroupPath(engine, id string, h *container.HostConfig) string {
	if h.CgroupParent == "" {
		return engine + "/" + id
	}
	return strings.TrimPrefix(path.Join("/", h.CgroupParent, id), "/")
}

// engineName begins the names of the engines' parents of groups.
const engineName = "tare"

// EngineParent is the parent of the groups of an engine: that of the host's only
// one, or of one with an id.
func EngineParent(id string) string {
	if id == "" {
		return engineName
	}
	return engineName + "-" + id
}

// OfEngine reports whether a group or parent bears a name that an engine gives:
// users' parents must not. No engine's has a dot, as slices of systemd's have.
func OfEngine(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return first == engineName || strings.HasPrefix(first, engineName+"-") && !strings.Contains(first, ".")
}

// validateCgroupParent keeps containers out of the engines' own groups, which
// have device rules of their own and are swept when an engine starts.
func validateCgroupParent(p string) error {
	clean := strings.TrimPrefix(path.Join("/", p), "/")
	switch {
	case p == "":
		return nil
	case OfEngine(clean):
		return invalid("invalid cgroup parent %q: groups of that name are the engine's own", shown(p))
	case len(clean) > maxParent || strings.ContainsAny(clean, "\n\r"):
		return invalid("invalid cgroup parent %q", shown(p))
	}
	for name := range strings.SplitSeq(clean, "/") {
		if len(name) > maxName {
			return invalid("invalid cgroup parent %q: a name has more than %d bytes", shown(p), maxName)
		}
	}
	return nil
}
