package api

import ocispec "github.com/opencontainers/image-spec/specs-go/v1"

// Routes by which images go from one engine to another without what the other
// one has; Docker has none of them.
//
// GET ImageBlobsPath with the parameters names and platform of GET /images/get
// lists what the images consist of, a list of ImageBlobs. POST ImageMissingPath
// with an ImageMissingRequest asks which layers an archive for this engine must
// bring, and answers with ImageMissing. POST ImageSavePath with an
// ImageSaveRequest answers with the archive, which POST /images/load reads.
const (
	ImageBlobsPath   = "/tare/images/blobs"
	ImageMissingPath = "/tare/images/missing"
	ImageSavePath    = "/tare/images/save"
)

// ImageSaveRequest says what goes into an archive, and what does not.
type ImageSaveRequest struct {
	Images    []string           // references or IDs
	Platforms []ocispec.Platform `json:",omitempty"` // the images must be for each
	Since     []string           `json:",omitempty"` // images whose layers are left out: references or IDs
	Without   []string           `json:",omitempty"` // digests of blobs of layers that are left out
}

// ImageBlobs is an image with the blobs of its layers, base first.
type ImageBlobs struct {
	ID       string
	Names    []string // with which it goes into an archive
	Manifest string   // digest
	Layers   []LayerBlob
}

// LayerBlob is a layer as it is packed.
type LayerBlob struct {
	Digest string // of the blob
	DiffID string // of the tar stream in it
	Size   int64  // bytes of the blob
}

// ImageMissingRequest names layers, those of several images too.
type ImageMissingRequest struct {
	Layers []LayerBlob
}

// ImageMissing is the answer.
type ImageMissing struct {
	Missing []string // digests of blobs, each once
}
