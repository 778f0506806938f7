package api

// LayersPath is the route of the branches of which a running container's root
// consists, which Docker does not have: GET with container, a list of
// ContainerBranch, topmost first; POST a BranchChange adds, PUT one changes; DELETE
// with container and image or dir takes away.
const LayersPath = "/tare/containers/layers"

// ContainerBranch is a directory of which a container's root consists.
type ContainerBranch struct {
	Dir   string // on the engine's host
	Perm  string // as aufs writes it: rw, ro+wh and so on
	Part  string // of the container: "container", "mount points", "image", "added image", "directory"
	Image string `json:",omitempty"` // of an added image: its name, or its ID if it has none
}

// BranchChange is what comes to a container's root, until the container ends, or
// changes in it.
type BranchChange struct {
	Container string
	Image     string `json:",omitempty"` // whose layers come; or
	Dir       string `json:",omitempty"` // a directory on the engine's host
	Perm      string `json:",omitempty"` // of Dir; "": ro
	Index     int    // where, of an addition; 0 is on top, -1 at the bottom
	Create    string `json:",omitempty"` // which writable branch gets something new from now on, as option create= of union mounts; "": as it was
}
