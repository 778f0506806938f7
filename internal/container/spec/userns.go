package spec

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/internal/idrange"
	"github.com/tare-engine/tare/internal/runtime/external"
)

// UsernsAuto reads a UsernsMode that asks for a range of ids of the
// container's own: "auto" or "auto:size=N". ok is false for other modes; a
// size of 0 is none that there can be.
func UsernsAuto(m container.UsernsMode) (size uint32, ok bool) {
	text, ok := strings.CutPrefix(string(m), "auto")
	if !ok || text == "" {
		return idrange.DefaultSize, ok
	}
	number, sized := strings.CutPrefix(text, ":size=")
	if !sized {
		return 0, false
	}
	n, err := strconv.ParseUint(number, 10, 31)
	if err != nil || n < idrange.MinSize {
		return 0, true
	}
	return uint32(n), true
}

// UsernsContainer is the container whose user namespace a UsernsMode asks for:
// "container:REF"; "" for other modes.
func UsernsContainer(m container.UsernsMode) string {
	ref, _ := strings.CutPrefix(string(m), "container:")
	if ref == string(m) {
		return ""
	}
	return ref
}

// validateUserns checks the word. Whether the engine maps ids where it says
// nothing is the engine's business: see ValidateMapped.
func validateUserns(m container.UsernsMode) error {
	size, auto := UsernsAuto(m)
	switch {
	case auto && size == 0:
		return invalid("invalid user namespace mode: %s: the size must be a number of ids from %d on", shown(string(m)), idrange.MinSize)
	case !auto && UsernsContainer(m) == "" && !m.Valid():
		return invalid("invalid user namespace mode: %s", shown(string(m)))
	}
	return nil
}

// ValidateMapped refuses what a container with ids of its own cannot have.
// The texts are dockerd's where it has the case.
func ValidateMapped(h *container.HostConfig) error {
	path, isPath := NetworkPath(h.NetworkMode)
	switch {
	case h.Privileged:
		return invalid("privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode")
	case h.NetworkMode.IsHost():
		return invalid("cannot share the host's network namespace when user namespaces are enabled")
	case isPath:
		return invalid("cannot use the network namespace %s when user namespaces are enabled", shown(path))
	case h.PidMode.IsHost():
		return invalid("cannot share the host PID namespace when user namespaces are enabled")
	case h.Runtime != external.Own && !h.NetworkMode.IsContainer() && (h.PidMode.IsContainer() || h.IpcMode.IsContainer() || UsernsContainer(h.UsernsMode) != ""):
		return invalid("runtime %s: a container in the user namespace of another needs that one's network as well (--network container:NAME)", shown(h.Runtime))
	}
	return nil
}

// userNamespace gives the container its own, or that of whose namespaces it
// joins, with the maps of its ids.
func (b *specBuilder) userNamespace() {
	ids := b.in.IDs
	if ids == nil {
		return
	}
	l := b.spec.Linux
	ns := specs.LinuxNamespace{Type: specs.UserNamespace}
	if b.in.UserOf > 0 {
		ns.Path = fmt.Sprintf("/proc/%d/ns/user", b.in.UserOf)
	}
	l.Namespaces = append(l.Namespaces, ns)
	l.UIDMappings, l.GIDMappings = ids.UIDs, ids.GIDs
}

// pingGroups are the groups that may ping without capabilities: all. The
// kernel takes none that it cannot map.
func (b *specBuilder) pingGroups() string {
	last := uint32(1<<31 - 1)
	if b.in.IDs != nil {
		last = b.in.IDs.LastGID()
	}
	return "0 " + strconv.FormatUint(uint64(last), 10)
}

// bindDevice lets a device of the host appear in a container that may make no
// nodes.
func (b *specBuilder) bindDevice(source, target string) {
	b.deviceBinds = append(b.deviceBinds, bindMount(source, target))
}

// makeSource makes a missing source of -v with its missing parents. They belong
// to the container's root, as with dockerd.
func (b *specBuilder) makeSource(dir string) error {
	if b.in.IDs == nil {
		return os.MkdirAll(dir, 0o755)
	}
	var missing []string
	for p := dir; ; p = path.Dir(p) {
		if _, err := os.Stat(p); err == nil || p == "/" {
			break
		}
		missing = append(missing, p)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range missing {
		if err := os.Lchown(p, int(b.in.IDs.HostUID(0)), int(b.in.IDs.HostGID(0))); err != nil {
			return err
		}
	}
	return nil
}

// adaptMapped changes a default mount for a user namespace, which has rights
// over nothing that is the host's; false: it cannot be there.
func (b *specBuilder) adaptMapped(m specs.Mount) (specs.Mount, bool) {
	switch {
	case b.in.IDs == nil:
	case m.Destination == "/dev/mqueue" && b.in.HostConfig.IpcMode.IsHost():
		_, err := os.Stat("/dev/mqueue")
		return bindMount("/dev/mqueue", m.Destination, "nosuid", "nodev", "noexec"), err == nil
	case m.Type == "devpts" && b.in.IDs.HostGID(5) == idrange.Overflow:
		m.Options = without(m.Options, "gid=5")
	}
	return m, true
}

// prepared makes a missing source of -v, a directory as Docker does.
func (b *specBuilder) prepared(m mountPoint) error {
	if m.typ != mount.TypeBind {
		return nil
	}
	return m.prepare(b.makeSource)
}
