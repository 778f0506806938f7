package spec

import (
	"cmp"
	"math"
	"os"
	"slices"
	"syscall"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// assignOwners gives the binds of a container the owners that its options name.
func assignOwners(list []mountPoint, h *container.HostConfig) error {
	for _, o := range OwnOf(h).Owners {
		i := slices.IndexFunc(list, func(m mountPoint) bool { return m.target == o.Target })
		switch {
		case i < 0 && len(h.VolumesFrom) > 0: // it may come from there
		case i < 0 || list[i].typ != mount.TypeBind:
			return invalid("%sbind-owner: there is no bind mount at %s", api.ExtensionPrefix, shown(o.Target))
		default:
			list[i].owner = &o
		}
	}
	return nil
}

// ownedBind is a bind of the user's, with its ids mapped if it has an owner.
func (b *specBuilder) ownedBind(m mountPoint) (specs.Mount, error) {
	bind := specs.Mount{Destination: m.target, Type: "bind", Source: m.source, Options: m.bindOptions()}
	if m.owner == nil {
		return bind, nil
	}
	info, err := os.Stat(m.source)
	if err != nil {
		return bind, errdefs.New(errdefs.InvalidArgument, "the owner of %s: %w", m.source, err)
	}
	st := info.Sys().(*syscall.Stat_t)
	uid, gid := b.in.IDs.HostUID(m.owner.UID), st.Gid
	if m.owner.Group {
		gid = b.in.IDs.HostGID(m.owner.GID)
	}
	if ids := b.in.IDs; ids != nil && (ids.UID(uid) != m.owner.UID || m.owner.Group && ids.GID(gid) != m.owner.GID) {
		return bind, invalid("%sbind-owner: %s: the container has no such user or group", api.ExtensionPrefix, m.target)
	}
	if uid == st.Uid && gid == st.Gid {
		return bind, nil
	}
	bind.UIDMappings, bind.GIDMappings = asAnother(st.Uid, uid), asAnother(st.Gid, gid)
	option := "ridmap"
	if m.bind.NonRecursive {
		option = "idmap"
	}
	bind.Options = append(bind.Options, option)
	return bind, nil
}

// asAnother maps all ids of a file system to themselves, but for one that is seen as
// another, which itself is nobody's. So nobody has the files of the first who is not
// the second, and what the second makes is the first's.
func asAnother(id, seen uint32) []specs.LinuxIDMapping {
	if id == seen {
		return []specs.LinuxIDMapping{{Size: math.MaxUint32}}
	}
	list := []specs.LinuxIDMapping{{ContainerID: id, HostID: seen, Size: 1}}
	from := uint32(0)
	for _, cut := range []uint32{min(id, seen), max(id, seen)} {
		if cut > from {
			list = append(list, specs.LinuxIDMapping{ContainerID: from, HostID: from, Size: cut - from})
		}
		from = cut + 1
	}
	if from < math.MaxUint32 {
		list = append(list, specs.LinuxIDMapping{ContainerID: from, HostID: from, Size: math.MaxUint32 - from})
	}
	return slices.SortedFunc(slices.Values(list), func(a, b specs.LinuxIDMapping) int { return cmp.Compare(a.ContainerID, b.ContainerID) })
}
