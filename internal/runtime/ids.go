package runtime

import (
	"cmp"
	"os"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/linux/idmap"
	"github.com/tare-engine/tare/internal/linux/inroot"
	"github.com/tare-engine/tare/internal/linux/process"
	"github.com/tare-engine/tare/internal/linux/spawn"
)

// mapped returns the host's number of an id of the container; ok is false if
// the namespace does not know it.
func mapped(maps []specs.LinuxIDMapping, id uint32) (host uint32, ok bool) {
	for _, m := range maps {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return m.HostID + (id - m.ContainerID), true
		}
	}
	return 0, false
}

// HostUID is the host's number of a user of the container.
func (x explainer) HostUID(uid int) int {
	if x.uids == nil {
		return uid
	}
	host, ok := mapped(x.uids, uint32(uid))
	if !ok {
		return -1
	}
	return int(host)
}

// checkIDs checks the mappings of a user namespace.
func checkIDs(s *specs.Spec) error {
	has := hasNamespace(s, specs.UserNamespace)
	l := s.Linux
	switch {
	case !has && len(l.UIDMappings)+len(l.GIDMappings) > 0:
		return invalid("linux.uidMappings and gidMappings need a user namespace")
	case has && len(l.UIDMappings) == 0 || has && len(l.GIDMappings) == 0:
		return invalid("a user namespace needs linux.uidMappings and gidMappings")
	}
	for _, maps := range [][]specs.LinuxIDMapping{l.UIDMappings, l.GIDMappings} {
		for _, m := range maps {
			const most = 1 << 32
			if m.Size == 0 || uint64(m.ContainerID)+uint64(m.Size) > most || uint64(m.HostID)+uint64(m.Size) > most {
				return invalid("linux.uidMappings and gidMappings: %d %d %d is no range of ids", m.ContainerID, m.HostID, m.Size)
			}
		}
	}
	return nil
}

// becomeRoot makes the child root of its user namespace, whose maps are
// written by now. Where there is no root it keeps what it is: all capabilities
// are its own either way.
func (b *builder) becomeRoot() {
	if _, ok := mapped(b.spec.Linux.GIDMappings, 0); ok {
		b.Do("group of root", spawn.SysSetresgid, spawn.Nil, spawn.Nil, spawn.Nil)
	}
	if _, ok := mapped(b.spec.Linux.UIDMappings, 0); ok {
		b.Do("user root", spawn.SysSetresuid, spawn.Nil, spawn.Nil, spawn.Nil)
	}
}

// Born does for the child pid at SyncBorn what it cannot do itself: in a
// user namespace it has no rights over what lies outside.
func (s *Start) Born(pid int) error {
	if !s.UserNS {
		return nil
	}
	dir := "/proc/" + strconv.Itoa(pid) + "/"
	score := "0"
	if p := s.process.OOMScoreAdj; p != nil {
		score = strconv.Itoa(*p)
	}
	writes := [][2]string{{"oom_score_adj", score}, {"uid_map", mapText(s.uids)}, {"gid_map", mapText(s.gids)}}
	if s.mapped {
		if err := s.checkMaps(pid); err != nil {
			return err
		}
		writes = writes[:1]
	}
	for _, w := range writes {
		if err := os.WriteFile(dir+w[0], []byte(w[1]), 0); err != nil {
			return err
		}
	}
	return s.raiseLimits(pid)
}

// checkMaps refuses a child that is in another user namespace than the spec
// says: its files and streams belong to the ids of that.
func (s *Start) checkMaps(pid int) error {
	uids, gids, err := idmap.Of(pid)
	if err != nil {
		return err
	}
	if !SameMaps(Mappings(uids), s.uids) || !SameMaps(Mappings(gids), s.gids) {
		return errdefs.New(errdefs.Conflict, "the user namespace that is joined has other ids: %v and %v", uids, gids)
	}
	return nil
}

// Mappings are the maps of a user namespace in the spec's words.
func Mappings(list []idmap.Range) []specs.LinuxIDMapping {
	out := make([]specs.LinuxIDMapping, len(list))
	for i, r := range list {
		out[i] = specs.LinuxIDMapping{ContainerID: uint32(r.Inside), HostID: uint32(r.Outside), Size: uint32(r.Size)}
	}
	return out
}

// SameMaps compares without order: the kernel sorts longer maps.
func SameMaps(a, b []specs.LinuxIDMapping) bool {
	return slices.Equal(sortedMap(a), sortedMap(b))
}

func sortedMap(m []specs.LinuxIDMapping) []specs.LinuxIDMapping {
	return slices.SortedFunc(slices.Values(m), func(a, b specs.LinuxIDMapping) int { return cmp.Compare(a.ContainerID, b.ContainerID) })
}

// raiseLimits lets the child have limits beyond its starter's: it sets them
// itself, later, but may not raise a hard one.
func (s *Start) raiseLimits(pid int) error {
	for _, r := range s.process.Rlimits {
		n, err := resource(r.Type)
		if err != nil {
			return err
		}
		if err := process.RaiseHardLimit(pid, n, r.Hard); err != nil {
			return s.failed(exitEngine, true, err, "error setting rlimit type %s: %v", r.Type, err)
		}
	}
	return nil
}

// rootOwner is who owns what is made in the root for the container; nil: us.
func (b *builder) rootOwner() *inroot.Owner {
	if !b.inUserNS() {
		return nil
	}
	uid, okUID := mapped(b.spec.Linux.UIDMappings, 0)
	gid, okGID := mapped(b.spec.Linux.GIDMappings, 0)
	if !okUID || !okGID {
		return nil
	}
	return &inroot.Owner{UID: int(uid), GID: int(gid)}
}

// mapText is a mapping as the kernel reads it, in one write.
func mapText(maps []specs.LinuxIDMapping) string {
	var b strings.Builder
	for _, m := range maps {
		b.WriteString(strconv.FormatUint(uint64(m.ContainerID), 10) + " " + strconv.FormatUint(uint64(m.HostID), 10) +
			" " + strconv.FormatUint(uint64(m.Size), 10) + "\n")
	}
	return b.String()
}

// idmapOf returns a user namespace for a mount that maps ids: by its own maps,
// or by the container's.
func (b *builder) idmapOf(m specs.Mount) (*os.File, error) {
	uids, gids := m.UIDMappings, m.GIDMappings
	if len(uids)+len(gids) == 0 {
		uids, gids = b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings
	}
	if len(uids) == 0 || len(gids) == 0 {
		return nil, invalid("mounts: %s: uidMappings and gidMappings must be set", m.Destination)
	}
	return idmap.Open(Ranges(uids), Ranges(gids))
}

// Ranges is the reverse of Mappings.
func Ranges(maps []specs.LinuxIDMapping) []idmap.Range {
	out := make([]idmap.Range, len(maps))
	for i, m := range maps {
		out[i] = idmap.Range{Inside: int(m.ContainerID), Outside: int(m.HostID), Size: int(m.Size)}
	}
	return out
}
