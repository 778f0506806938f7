package api

// ImageMountsPath is the route of the images that are mounted on the engine's
// host, which Docker does not have: GET, a list of ImageMount; POST an
// ImageMountRequest, an ImageMount; DELETE with name, all, force, a list of
// ImageMount.
const ImageMountsPath = "/tare/images/mounts"

// ImageMountRequest asks for an image's files, read-only.
type ImageMountRequest struct {
	Image  string
	Target string // absolute path of a directory on the engine's host; "": one of the engine's
}

// ImageMount is a place where the files of an image are.
type ImageMount struct {
	ID   string // of the image
	Name string // by which it was mounted
	Path string // on the engine's host
}
