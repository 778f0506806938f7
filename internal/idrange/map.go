// Package idrange knows which numbers of users and groups of the host belong
// to containers: maps of a user namespace, the ranges that /etc/subuid and
// /etc/subgid give to a user (subuid(5)), and a pool from which each container
// gets a range of its own.
package idrange

import "github.com/opencontainers/runtime-spec/specs-go"

// Map says which ids of the host the ids of a container are. A container's
// record keeps it: the files of its read-write layer have owners by it.
type Map struct {
	UIDs, GIDs []specs.LinuxIDMapping
	Auto       bool `json:",omitempty"` // the range is the container's alone, of the pool
}

// HostUID returns the host's number of a user of the container; of one that
// the map does not know, that of the overflow user, as the kernel does.
func (m *Map) HostUID(id uint32) uint32 { return m.host(id, false) }

// HostGID is HostUID for groups.
func (m *Map) HostGID(id uint32) uint32 { return m.host(id, true) }

// Overflow is how the kernel shows owners that a map does not know
// (/proc/sys/kernel/overflowuid).
const Overflow = 65534

func (m *Map) host(id uint32, group bool) uint32 {
	if m == nil {
		return id
	}
	list := m.UIDs
	if group {
		list = m.GIDs
	}
	for _, r := range list {
		if id >= r.ContainerID && id-r.ContainerID < r.Size {
			return r.HostID + (id - r.ContainerID)
		}
	}
	return Overflow
}

// UID is the reverse of HostUID: the container's number of a user of the host.
func (m *Map) UID(host uint32) uint32 { return inside(m.UIDs, host) }

// GID is UID for groups.
func (m *Map) GID(host uint32) uint32 { return inside(m.GIDs, host) }

func inside(list []specs.LinuxIDMapping, host uint32) uint32 {
	for _, r := range list {
		if host >= r.HostID && host-r.HostID < r.Size {
			return r.ContainerID + (host - r.HostID)
		}
	}
	return Overflow
}

// LastGID is the last group of the container that the map knows, counted from
// 0 without a gap.
func (m *Map) LastGID() uint32 {
	var next uint64
	for _, r := range m.GIDs {
		if uint64(r.ContainerID) != next {
			break
		}
		next += uint64(r.Size)
	}
	return uint32(max(next, 1) - 1)
}
