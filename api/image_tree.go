package api

// ImageLayersPath is the route of the layers of all images, which Docker does
// not have: GET, a list of ImageLayers.
const ImageLayersPath = "/tare/images/layers"

// ImageLayers is an image with its layers, base first.
type ImageLayers struct {
	ID     string
	Names  []string // tags; those with digests if it has none
	Layers []ImageLayer
}

// ImageLayer is one layer. Images that have layers of one chain ID in common
// share them, on the disk as well.
type ImageLayer struct {
	ChainID string
	DiffID  string
	Size    int64 // bytes of the data of its files
	Disk    int64 // bytes that it takes unpacked, as du counts them
}
