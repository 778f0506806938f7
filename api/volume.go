package api

import "time"

// Routes of volumes that Docker does not have.
const (
	// VolumeClonePath makes a volume that is a copy of another: POST a
	// VolumeCloneRequest, a volume.Volume.
	VolumeClonePath = "/tare/volumes/clone"
	// VolumeRenamePath gives a volume another name: POST a VolumeRenameRequest, a
	// volume.Volume.
	VolumeRenamePath = "/tare/volumes/rename"
	// VolumeArchivePath is the files of a volume as a tar stream: GET with name; PUT
	// with name and replace, a volume.Volume.
	VolumeArchivePath = "/tare/volumes/archive"
	// VolumeFilesPath is what is at a path of a volume's files, with name and path: as
	// Docker's /containers/{id}/archive HEAD and GET tell it in PathStatHeader, GET
	// answers a tar stream, PUT unpacks one there, which may be compressed
	// (noOverwriteDirNonDir).
	VolumeFilesPath = "/tare/volumes/files"
	// VolumeSnapshotsPath is the snapshots of a volume: GET with name, a list of
	// VolumeSnapshot; POST a VolumeSnapshotRequest, a VolumeSnapshot; DELETE with name and
	// snapshot.
	VolumeSnapshotsPath = "/tare/volumes/snapshots"
	// VolumeRollbackPath gives a volume the files of a snapshot: POST a
	// VolumeSnapshotRequest.
	VolumeRollbackPath = "/tare/volumes/rollback"
	// VolumeUsagePath says what volumes take on disk: GET with name, which may be absent
	// or there several times, a list of VolumeUsage.
	VolumeUsagePath = "/tare/volumes/usage"
	// VolumeReplacePath gives a volume a device in the place of another: POST a
	// VolumeReplaceRequest.
	VolumeReplacePath = "/tare/volumes/replace"
	// VolumeResizePath has a volume grow: POST a VolumeResizeRequest.
	VolumeResizePath = "/tare/volumes/resize"
	// VolumeKeyPath is the key of a volume: PUT with name and size, whose body begins with
	// so many bytes of key; what follows, KeyPadding at most, is there to overwrite
	// buffers that had the key. DELETE with name has the engine forget it.
	VolumeKeyPath = "/tare/volumes/key"
)

// KeyPadding is how much may follow a key.
const KeyPadding = 64 << 10

// VolumeCloneRequest asks for a copy of a volume.
type VolumeCloneRequest struct {
	Source string
	Name   string // of the copy
}

// VolumeRenameRequest asks for another name of a volume.
type VolumeRenameRequest struct {
	Source string
	Name   string // the new one
}

// VolumeSnapshotRequest names a snapshot of a volume.
type VolumeSnapshotRequest struct {
	Volume   string
	Snapshot string // "" of a new one: called by the time
}

// VolumeSnapshot is a copy of a volume's files.
type VolumeSnapshot struct {
	Volume  string
	Name    string
	Created time.Time
}

// VolumeReplaceRequest names devices of a volume.
type VolumeReplaceRequest struct {
	Volume string
	Old    string
	New    string // "": the same device, or another file
}

// VolumeResizeRequest asks for another size of a volume.
type VolumeResizeRequest struct {
	Volume string
	Size   int64 // bytes
}

// VolumeUsage is what a volume takes on disk.
type VolumeUsage struct {
	Name         string
	Driver       string
	Links        int       // containers that have it
	Size         int64     // bytes; -1: its files are not in the engine's data root
	Counted      time.Time // when that was so: what it takes long to count is not counted each time
	Snapshots    int
	SnapshotSize int64 // bytes of all of them; where the file system shares data, less
}
