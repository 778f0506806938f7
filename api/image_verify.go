package api

import "github.com/moby/moby/api/types/registry"

// Routes of the verification of images, which Docker does not have. The request
// is an ImageVerifyRequest; the answer is a stream of ImageVerifyMessage
// documents. What goes wrong before the first is an ordinary error answer, what
// comes later ends the stream with an Error.
const (
	ImageVerifyPath = "/tare/images/verify"
	ImageRepairPath = "/tare/images/repair"
)

// ImageVerifyRequest names the images.
type ImageVerifyRequest struct {
	Images []string                       // references or IDs; empty: all
	Auths  map[string]registry.AuthConfig `json:",omitempty"` // of registries, by host; for a repair
}

// ImageVerifyMessage is one document of the answer: one of its fields is set.
type ImageVerifyMessage struct {
	Damage *ImageDamage   `json:",omitempty"`
	Image  *ImageVerified `json:",omitempty"` // this image is done
	Error  string         `json:",omitempty"`
}

// ImageDamage is one thing of an image that is not what its digest says.
type ImageDamage struct {
	Image      string // ID
	Name       string `json:",omitempty"` // the first of its names
	Kind       string // index, manifest, attestation, configuration, blob or layer
	Digest     string // of the blob; of a layer its chain ID
	Path       string `json:",omitempty"` // in the layer, without a slash in front; "" is the layer itself
	Problem    string
	Repaired   bool
	Unrepaired string `json:",omitempty"` // why a repair did not help
}

// ImageVerified is what came out for one image. What several images share is
// counted with the first of them.
type ImageVerified struct {
	ID            string
	Names         []string
	Blobs, Layers int // that were looked at
	Damaged       int
	Repaired      int
}
