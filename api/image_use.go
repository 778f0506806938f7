package api

import "github.com/moby/moby/api/types/image"

// ImageSummary is an image of GET /images/json, with what Docker's has not.
type ImageSummary struct {
	image.Summary
	LastUsed int64 // by a container, by a pull or load, or by being named: seconds since 1970
	Pinned   bool  // never pruned or collected, and removed by force only
}

// ImageInspect is the answer of GET /images/{name}/json, with what Docker's has
// not.
type ImageInspect struct {
	image.InspectResponse
	Parent   string `json:",omitempty"` // ID of the image that was committed on; Docker has it, but not in its types
	LastUsed string // RFC 3339
	Pinned   bool
}
