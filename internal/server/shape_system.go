package server

import (
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
	"github.com/tare-engine/tare/api"
)

// infoShape is what the version of the API says of the engine.
func infoShape(info system.Info, v api.Version) any {
	if v.Before(44) {
		info.Runtimes = withoutStatus(info.Runtimes)
	}
	if v.Before(46) {
		info.Containerd = nil
	}
	if v.Before(49) {
		info.FirewallBackend = nil
	}
	if v.Before(50) {
		info.DiscoveredDevices = nil
	}
	if v.Before(53) {
		info.NRI = nil
	}
	if !v.Before(50) {
		return info
	}
	no := false // Docker too says so whatever the kernel does: others load and set br_netfilter at any time
	old := info149{Info: info, BridgeNfIptables: &no, BridgeNfIP6tables: &no}
	if v.Before(49) {
		old.ContainerdCommit = commit148{info.ContainerdCommit.ID, info.ContainerdCommit.ID}
		old.RuncCommit = commit148{info.RuncCommit.ID, info.RuncCommit.ID}
		old.InitCommit = commit148{info.InitCommit.ID, info.InitCommit.ID}
	} else {
		old.ContainerdCommit, old.RuncCommit, old.InitCommit = info.ContainerdCommit, info.RuncCommit, info.InitCommit
	}
	return old
}

func withoutStatus(runtimes map[string]system.RuntimeWithStatus) map[string]system.RuntimeWithStatus {
	old := make(map[string]system.RuntimeWithStatus, len(runtimes))
	for name, r := range runtimes {
		old[name] = system.RuntimeWithStatus{Runtime: r.Runtime}
	}
	return old
}

// info149 has what went with 1.49 and 1.50.
type info149 struct {
	system.Info
	BridgeNfIptables  *bool
	BridgeNfIP6tables *bool `json:"BridgeNfIp6tables"`
	ContainerdCommit  any
	RuncCommit        any
	InitCommit        any
}

type commit148 struct{ ID, Expected string }

// eventShape is an event as the version shows it.
func eventShape(m events.Message, v api.Version) any {
	if !v.Before(52) {
		return m
	}
	old := event151{Message: m}
	switch m.Type {
	case events.ContainerEventType:
		old.Status, old.ID, old.From = string(m.Action), m.Actor.ID, m.Actor.Attributes["image"]
	case events.ImageEventType:
		old.Status, old.ID = string(m.Action), m.Actor.ID
	}
	return old
}

// event151 says some things twice, as from the time before events had types.
type event151 struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
	events.Message
}

// diskUsageShape is the disk usage as the version shows it: lists of objects
// until 1.51, from 1.52 totals, and the lists as well unless it is verbose: docker-py
// asks for the newest version and reads the lists.
func diskUsageShape(u system.DiskUsage, v api.Version, verbose bool) any {
	if !v.Before(52) && verbose {
		return u
	}
	old := diskUsage152{}
	if u.ImageUsage != nil {
		old.LayersSize, old.Images = u.ImageUsage.TotalSize, imageListShape(u.ImageUsage.Items, v)
	}
	if u.ContainerUsage != nil {
		old.Containers = listShape(listOf(u.ContainerUsage.Items), v)
	}
	if u.VolumeUsage != nil {
		old.Volumes = listOf(u.VolumeUsage.Items)
	}
	if u.BuildCacheUsage != nil {
		old.BuildCache = listOf(u.BuildCacheUsage.Items)
	}
	if !v.Before(52) {
		old.DiskUsage = withoutItems(u)
	}
	return old
}

// withoutItems is the short form of the disk usage.
func withoutItems(u system.DiskUsage) system.DiskUsage {
	if u.ImageUsage != nil {
		c := *u.ImageUsage
		c.Items, u.ImageUsage = nil, &c
	}
	if u.ContainerUsage != nil {
		c := *u.ContainerUsage
		c.Items, u.ContainerUsage = nil, &c
	}
	if u.VolumeUsage != nil {
		c := *u.VolumeUsage
		c.Items, u.VolumeUsage = nil, &c
	}
	if u.BuildCacheUsage != nil {
		c := *u.BuildCacheUsage
		c.Items, u.BuildCacheUsage = nil, &c
	}
	return u
}

type diskUsage152 struct {
	LayersSize int64
	Images     any
	Containers []container.Summary
	Volumes    []volume.Volume
	BuildCache []build.CacheRecord
	system.DiskUsage
}
