package api

// ImageDiffPath is the route of the differences between the files of two images,
// which Docker does not have: GET with the parameters from and to, references or
// IDs. The answer is a stream of ImageDiffMessage documents, of which the last
// has the Total.
const ImageDiffPath = "/tare/images/diff"

// ImageDiffMessage is one document of the answer: one of its fields is set.
type ImageDiffMessage struct {
	Change *ImageChange    `json:",omitempty"`
	Total  *ImageDiffTotal `json:",omitempty"`
}

// ImageChange is one path in which the second image differs from the first: in
// kind, owner, mode, data, target, device or extended attributes.
type ImageChange struct {
	Path string          // absolute
	Old  *ImageDiffEntry `json:",omitempty"` // nil: added
	New  *ImageDiffEntry `json:",omitempty"` // nil: deleted
}

// ImageDiffEntry is what an image has at a path.
type ImageDiffEntry struct {
	Kind string // file, directory, symbolic link, character device, block device, FIFO
	Size int64  // bytes of a file's data
}

// ImageDiffTotal adds up the changes.
type ImageDiffTotal struct {
	Added, Changed, Deleted int
	AddedBytes              int64 // of added files
	DeletedBytes            int64 // of deleted files
	ChangedBytes            int64 // by which changed files have grown
}
