package container

import (
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

// Mounts lists what the user mounted into a container, as inspect shows it.
func (s *Service) Mounts(v *View) []container.MountPoint {
	list := []container.MountPoint{}
	points, err := mountPoints(v.HostConfig)
	if err != nil {
		return list // it was checked at create; a record of before shows none
	}
	for _, m := range points {
		if m.typ == mount.TypeTmpfs && len(v.HostConfig.Tmpfs) > 0 && v.HostConfig.Tmpfs[m.target] != "" {
			continue // --tmpfs shows in HostConfig only
		}
		list = append(list, container.MountPoint{
			Type: m.typ, Source: m.source, Destination: m.target, Mode: m.mode, RW: !m.readOnly, Propagation: m.propagation,
		})
	}
	return list
}
