package spec

import (
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

// Mounts lists what the user mounted into a container, as inspect shows it.
func Mounts(h *container.HostConfig, rules MountRules) []container.MountPoint {
	list := []container.MountPoint{}
	points, err := mountPoints(h, rules)
	if err != nil {
		return list // it was checked at create; a record of before shows none
	}
	for _, m := range points {
		if _, ok := h.Tmpfs[m.target]; ok && m.typ == mount.TypeTmpfs {
			continue // --tmpfs shows in HostConfig only
		}
		list = append(list, container.MountPoint{
			Type: m.typ, Name: m.volume.Name, Source: m.source, Destination: m.target, Driver: m.volume.Driver, Mode: m.mode,
			RW: !m.readOnly, Propagation: m.propagation,
		})
	}
	return list
}
